"""`benchmarks/peers.py` and `benchmarks/silent.py`, run as a person runs them, with the peers that are installed."""

import importlib.util
import json
from typing import Any

import pytest

from tests.benchmarks.running import run, table

OURS = ["graphstate", "graphstate, closed over"]
PEERS = ("brainstate", "equinox", "flax")


@pytest.fixture(scope="module")
def measured() -> Any:
    return json.loads(run("peers.py", "--layers", "1", "--rounds", "1", "--seconds", "0.001", "--json"))


def test_json_holds_a_row_for_each_step_with_the_ratios_of_what_is_installed(measured: Any) -> None:
    assert [(row["layers"], row["step"]) for row in measured["steady"]] == [(1, "forward"), (1, "descent")]
    assert set(measured["versions"]) == {peer for peer in PEERS if importlib.util.find_spec(peer)}
    for row in measured["steady"]:
        assert 0 < row["base"] < 600
        assert list(row["ratios"])[:2] == OURS
        for spread in row["ratios"].values():
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]


def test_a_table_is_printed_for_people() -> None:
    head, rows = table(run("peers.py", "--layers", "1", "--steps", "forward", "--seconds", "0.001"))
    assert head[:5] == ["layers", "call", "pure JAX, us", *OURS]
    assert [row[:2] for row in rows] == [["1", "forward pass"]]


@pytest.mark.skipif(not all(map(importlib.util.find_spec, PEERS)), reason="needs the extra `bench`")
def test_nothing_is_wrong_in_silence_here() -> None:
    for what, found in json.loads(run("silent.py", "--json"))["outcomes"].items():
        assert found["graphstate"] != "wrong", what
        assert "wrong" in found.values(), what
