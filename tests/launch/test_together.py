"""One program gives the same in two processes with four devices each, in one with eight, and in one with one."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphstate import launch

PROGRAM = Path(__file__).parent / "programs" / "together.py"
ROOT = Path(__file__).parents[2]


def found(processes: int, devices: int) -> list[dict[str, Any]]:
    """What each process has found."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PYTHONWARNINGS", "error")
        options = {"processes": processes, "devices": devices, "timeout": 60.0, "output": output, "errors": errors}
        assert launch.run(PROGRAM, ["--epochs", "3"], **options) == 0, errors.getvalue()
    lines = sorted(line for line in output.getvalue().splitlines() if line[4:].startswith("{"))  # libraries talk
    assert [line[:4] for line in lines] == [f"[{number}] " for number in range(processes)]
    return [json.loads(line[4:]) for line in lines]


@pytest.fixture(scope="module")
def many() -> list[dict[str, Any]]:
    return found(2, 4)


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    return found(1, 8)[0]


def test_each_process_finds_the_others_and_gets_the_arguments(many: list[dict[str, Any]]) -> None:
    assert [each.pop("process") for each in many] == [0, 1]
    assert [(each["devices"], each["arguments"]) for each in many] == [(8, ["--epochs", "3"])] * 2
    assert {**many[0], "errors": []} == {**many[1], "errors": []}


def test_an_ensemble_is_equal_to_the_last_bit(many: list[dict[str, Any]], one: dict[str, Any]) -> None:
    assert many[0]["ensemble"] == one["ensemble"]
    assert many[0]["drawn"] == one["drawn"]
    assert (many[0]["spread"], one["spread"]) == ([1] * 4, [1] * 8)


def test_data_parallel_is_equal_to_rounding(many: list[dict[str, Any]], one: dict[str, Any]) -> None:
    (alone,) = found(1, 1)
    for each in (many[0], one):
        for name in ("losses", "data False", "data True", "parts", "drawn", "built"):
            np.testing.assert_allclose(each[name], alone[name], rtol=1e-5, err_msg=name)
        assert (each["shard False"], each["shard True"], each["shard built"]) == ([3, 8], [3, 1], [3, 1])
        assert each["like"]


def test_arrays_of_every_kind_get_there(many: list[dict[str, Any]], one: dict[str, Any]) -> None:
    assert many[0]["kinds"] == one["kinds"] == ["True", "float32", "bfloat16", "True", 3.0]
    assert (many[0]["keys"], many[0]["inside"]) == (one["keys"], one["inside"])
    assert many[0]["traced"] == one["traced"] == 56


def test_who_reads_what_other_processes_hold_is_told_how(many: list[dict[str, Any]], one: dict[str, Any]) -> None:
    assert (many[0]["read"], one["read"]) == ("process_allgather", "whole")


def test_a_mesh_of_its_own_is_nobody_elses_business(many: list[dict[str, Any]]) -> None:
    assert [each["local"] for each in many] == [list(range(8))] * 2


def test_arrays_cannot_leave_their_mesh_nor_go_where_nobody_is(many: list[dict[str, Any]], one: dict[str, Any]) -> None:
    spread = (
        "An array of shape (8,) is spread over 8 devices of several processes, and cannot be put on others. Read it in "
        "each first, with `jax.experimental.multihost_utils.process_allgather(array, tiled=True)`."
    )
    elsewhere = (
        "Process 0 has no device on the mesh {'batch': 1}: only those that have put arrays there. Take a mesh of all "
        "devices, or leave the call to the others."
    )
    assert (many[0]["errors"], many[1]["errors"], one["errors"]) == ([spread, elsewhere], [spread], [])
