"""`benchmarks/run.py`: what the benchmarks find becomes a report with plots."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.running import ROOT, run

pytest.importorskip("matplotlib", reason="is part of the extra `test`")

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("report")
    run("run.py", "graph_ops", "dispatch", "--quick", "--into", str(written))
    return written


def headings(folder: Path) -> list[str]:
    return [line for line in (folder / "RESULTS.md").read_text().splitlines() if line.startswith("#")]


def test_the_report_has_a_section_for_each_benchmark_in_a_fixed_order(folder: Path) -> None:
    assert headings(folder) == ["# Results", "## dispatch", "## graph_ops"]


def test_the_report_repeats_the_tables_and_says_where_they_were_measured(folder: Path) -> None:
    results, text = json.loads((folder / "results.json").read_text()), (folder / "RESULTS.md").read_text()
    assert list(results) == ["dispatch", "graph_ops"]
    for result in results.values():
        assert all(table["text"] in text for table in result["tables"])
        assert result["machine"] in text
        assert result["date"] in text


def test_plots_are_drawn_and_shown(folder: Path) -> None:
    assert [file.name for file in (folder / "plots").iterdir()] == ["dispatch.png"]
    assert (folder / "plots" / "dispatch.png").read_bytes().startswith(PNG)
    assert "](plots/dispatch.png)" in (folder / "RESULTS.md").read_text()


def test_what_is_not_run_again_keeps_its_results(folder: Path) -> None:
    before = json.loads((folder / "results.json").read_text())
    run("run.py", "linear", "--quick", "--into", str(folder))
    after = json.loads((folder / "results.json").read_text())
    assert list(after) == ["dispatch", "linear", "graph_ops"]
    assert before == {name: after[name] for name in before}
    assert (folder / "plots" / "linear.png").read_bytes().startswith(PNG)


def test_rendering_again_changes_nothing(folder: Path) -> None:
    before = (folder / "RESULTS.md").read_text()
    run("run.py", "--render", "--into", str(folder))
    assert (folder / "RESULTS.md").read_text() == before


def test_remarks_stand_under_the_benchmark_that_they_name() -> None:
    named = [line[3:] for line in (ROOT / "benchmarks/_remarks.md").read_text().splitlines() if line.startswith("## ")]
    assert {ROOT / "benchmarks" / f"{name}.py" for name in named} <= set((ROOT / "benchmarks").glob("*.py"))


def test_an_unknown_name_is_refused() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "run.py", "speed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such benchmark: speed" in done.stderr
