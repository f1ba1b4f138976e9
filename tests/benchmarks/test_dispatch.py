"""`benchmarks/dispatch.py`, run as a person runs it; what it measures is not judged here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STEPS = ["forward", "descent", "adam"]
WAYS = ["argument", "closed over"]


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "dispatch.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def measured() -> Any:
    return json.loads(run("--layers", "1", "--rounds", "1", "--seconds", "0.001", "--json"))


def test_json_holds_a_row_for_each_depth_and_step(measured: Any) -> None:
    for calls in ("steady", "first"):
        assert [(row["layers"], row["step"]) for row in measured[calls]] == [(1, step) for step in STEPS]


def test_a_row_gives_the_base_in_seconds_and_each_ratio_between_its_quartiles(measured: Any) -> None:
    for row in measured["steady"] + measured["first"]:
        assert 0 < row["base"] < 600
        assert list(row["ratios"]) == WAYS
        for spread in row["ratios"].values():
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]


def test_tables_are_printed_for_people() -> None:
    lines = run("--layers", "1", "2", "--calls", "steady", "--steps", "forward", "--seconds", "0.001").splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert head == ["layers", "step", "pure JAX, us", *WAYS]
    assert [row[:2] for row in rows] == [["1", "forward"], ["2", "forward"]]


def test_the_report_names_no_place_of_this_machine(measured: Any) -> None:
    assert str(ROOT) not in json.dumps(measured)
    assert measured["machine"].startswith("jax ")
