"""`benchmarks/dispatch.py`, run as a person runs it; what it measures is not judged here."""

import json
from typing import Any

import pytest

from tests.benchmarks.running import ROOT, run, table

STEPS = ["forward", "descent", "adam"]
WAYS = ["argument", "closed over"]


@pytest.fixture(scope="module")
def measured() -> Any:
    return json.loads(run("dispatch.py", "--layers", "1", "--rounds", "1", "--seconds", "0.001", "--json"))


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
    sizes = ["--layers", "1", "2", "--calls", "steady", "--steps", "forward", "--seconds", "0.001"]
    head, rows = table(run("dispatch.py", *sizes))
    assert head == ["layers", "step", "pure JAX, us", *WAYS]
    assert [row[:2] for row in rows] == [["1", "forward"], ["2", "forward"]]


def test_the_report_names_no_place_of_this_machine(measured: Any) -> None:
    assert str(ROOT) not in json.dumps(measured)
    assert measured["machine"].startswith("jax ")
