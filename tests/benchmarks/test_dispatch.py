"""`benchmarks/dispatch.py`, run as a person runs it; what it measures is not judged here."""

from typing import Any

import pytest

from tests.benchmarks.running import are_installed, quick, run, table

OURS = ["flat leaves", "graphstate", "graphstate, closed over"]
PEERS = {
    "equinox": "equinox",
    "brainstate": "brainstate",
    "flax.nnx": "flax",
    "flax.nnx, cached_partial": "flax",
}


@pytest.fixture(scope="module")
def rows() -> Any:
    (measured,) = quick("dispatch.py")["tables"]
    return measured["rows"]


def test_there_is_a_row_for_each_step_and_depth(rows: Any) -> None:
    steps = ["forward", "descent", "adam"]
    assert [row["labels"] for row in rows] == [{"step": step, "layers": each} for step in steps for each in (1, 2)]


def test_each_row_has_the_ratios_of_what_is_installed(rows: Any) -> None:
    installed = [peer for peer, package in PEERS.items() if are_installed(package)]
    for row in rows:
        peers = installed if row["labels"]["layers"] == 1 and row["labels"]["step"] != "adam" else []
        assert list(row["figures"]) == ["pure JAX, us", *OURS, *peers]


def test_limits_stand_where_the_depth_has_one(rows: Any) -> None:
    for row in rows:
        limited = row["labels"]["layers"] == 2
        assert {each["limit"] for each in row["limits"].values()} == ({"at most 1.5"} if limited else set())


def test_a_table_is_printed_for_people() -> None:
    printed = run("dispatch.py", "--quick", "--layers", "2", "--steps", "forward")
    head, rows = table(printed)
    assert head == ["step", "layers", "pure JAX, us", *OURS, "limit"]
    assert [row[:2] for row in rows] == [["forward", "2"]]
    assert printed.startswith("What does a warm call cost")


def test_sizes_are_options() -> None:
    printed = run("dispatch.py", "--help")
    assert "--layers" in printed
    assert "default: 2 20 200 1000" in printed
