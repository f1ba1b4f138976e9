"""Runs the benchmarks, and writes what came: results.json, RESULTS.md and the plots.

Each benchmark has an interpreter of its own, one after the other. Those that are not named keep the results that they
had. The remarks in _remarks.md stand under the tables of the benchmark that their heading names.

    python benchmarks/run.py                      all of them: most of an hour on two cores
    python benchmarks/run.py dispatch memory      these
    python benchmarks/run.py --render             none: writes the report again, after a change of the remarks
    python benchmarks/run.py --quick --into out   does everything run? The figures mean nothing
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from _plots import PLOTS, draw
from _report import LEGEND

HERE: Final = Path(__file__).parent
BENCHMARKS: Final = (
    "dispatch",
    "first_call",
    "ensemble",
    "pmap",
    "scaling",
    "linear",
    "state_access",
    "graph_ops",
    "memory",
    "import_time",
    "silent",
)

HEAD: Final = f"""\
# Results

Written by `python benchmarks/run.py`; each table by the file that it names, which also says how it is measured.
All libraries take turns within one process. {LEGEND}
"""

Results = dict[str, dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(BENCHMARKS)}; all, if none is named")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the report again")
    parser.add_argument("--quick", action="store_true", help="few rounds and small sizes")
    parser.add_argument("--into", type=Path, default=HERE, metavar="FOLDER", help="where to write")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    names = () if options.render else options.names or BENCHMARKS
    results = _kept(options.into) | {name: _run(name, options.quick) for name in names}
    _write({name: results[name] for name in BENCHMARKS if name in results}, options.into)


def _kept(folder: Path) -> Results:
    saved = folder / "results.json"
    return json.loads(saved.read_text()) if saved.exists() else {}


def _run(name: str, quick: bool) -> dict[str, Any]:
    print(f"{name} ...", file=sys.stderr, flush=True)
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", *(["--quick"] if quick else [])]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def _write(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, folder / "plots")
    remarks = _remarks((HERE / "_remarks.md").read_text())
    sections = [_section(name, result, remarks.get(name, "")) for name, result in results.items()]
    (folder / "RESULTS.md").write_text("\n\n".join([HEAD + "\n" + _places(results), *sections]) + "\n")


def _places(results: Results) -> str:
    """Where and when, once for all benchmarks that ran there and then."""
    places: dict[str, list[str]] = {}
    for name, result in results.items():
        place = f"Measured on {result['date']} on {result['machine']}; {result['versions']}."
        places.setdefault(place, []).append(f"`{name}`")
    if len(places) == 1:
        return next(iter(places))
    return "\n".join(f"- {', '.join(names)}: {place}" for place, names in places.items())


def _section(name: str, result: Mapping[str, Any], remark: str) -> str:
    plot = f"![{PLOTS[name][0]}](plots/{name}.png)" if name in PLOTS else ""
    tables = [table["text"] for table in result["tables"]]
    head = f"## {name}\n\n{result['question']} See [{name}.py]({name}.py)."
    return "\n\n".join(filter(None, [head, plot, *tables, remark]))


def _remarks(text: str) -> dict[str, str]:
    """The text under each heading, by benchmark."""
    parts = re.split(r"^## (\w+)\n", text, flags=re.MULTILINE)[1:]
    return {name: remark.strip() for name, remark in zip(parts[::2], parts[1::2], strict=True)}


if __name__ == "__main__":
    main()
