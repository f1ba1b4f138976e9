"""What does `import graphstate` add to `import jax`?

Each import runs in an interpreter of its own, in turns, after one that leaves the compiled bytecode behind, as any
first import does. What is added is the difference within a round. No platform of JAX can be started in these
interpreters, since the only one that they know of does not exist: an import that starts a backend fails here.

    python benchmarks/import_time.py
    python benchmarks/import_time.py --rounds 51 --json
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from _peers import is_installed
from _report import Row, Table, at_most, main
from _timing import Spread, alternate

LIMIT: Final = at_most(100)
ROOT: Final = Path(__file__).parents[1]

IMPORTS: Final[Mapping[str, str]] = {
    "jax": "jax",
    "graphstate": "graphstate",
    "equinox": "equinox",
    "brainstate": "brainstate",
    "flax": "flax.nnx",
}

SCRIPT: Final = """\
import sys, time
start = time.perf_counter()
import jax, {module}
print(time.perf_counter() - start, "treescope" in sys.modules)
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    rounds: int = 21


QUICK = Sizes(rounds=1)


def measure(sizes: Sizes) -> list[Table]:
    modules = [module for package, module in IMPORTS.items() if is_installed(package)]
    for module in modules:
        _run(module)
    taken = alternate({module: _clock(module) for module in modules}, sizes.rounds)
    base = taken.pop("jax")
    return [
        Table("Importing, beside `import jax` alone", [_row(module, base, times) for module, times in taken.items()])
    ]


def _row(module: str, base: list[float], times: list[float]) -> Row:
    figures = {
        "import jax, ms": Spread.of(np.median(base) * 1e3),
        "added, ms": Spread.of(np.subtract(times, base) * 1e3),
    }
    labels = {"module": module, "imports treescope": "yes" if _run(module)[1] else "no"}
    return Row(labels, figures, {"added, ms": LIMIT} if module == "graphstate" else {})


def _clock(module: str) -> Callable[[], float]:
    return lambda: _run(module)[0]


def _run(module: str) -> tuple[float, bool]:
    """How many seconds an import took, and whether it brought treescope along."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    setting = {"PYTHONPATH": path, "JAX_PLATFORMS": "none", "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT.format(module=module)],
        env=os.environ | setting,
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, treescope = done.stdout.split()
    return float(seconds), treescope == "True"


if __name__ == "__main__":
    main(__doc__, measure, Sizes(), QUICK)
