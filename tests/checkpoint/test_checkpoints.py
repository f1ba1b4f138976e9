"""Checkpoints of a run, written in the background."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.checkpoint import Checkpoints
from graphstate.errors import CheckpointError, StateTypeError, UpdateError
from graphstate.filters import PathContains

from .kept import all_bits, array

ROOT = Path(__file__).parents[2]


def model(seed: int):
    return {"a": gs.State(jnp.asarray(array(seed, 3))), "b": gs.State(array(seed, 2))}


def test_the_last_few_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert (checkpoints.steps, checkpoints.latest) == ([], None)
        for step in (0, 9, 10, 11):
            checkpoints.save(step, model(step))
    assert (checkpoints.steps, checkpoints.latest) == ([10, 11], 11)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["10", "11"]
    assert repr(checkpoints) == f"Checkpoints({str(tmp_path)!r}, keep=2)"


def test_the_latest_or_any_other_is_restored(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(3):
            checkpoints.save(step, model(step))
        other = model(9)
        assert checkpoints.restore(other) is other
        assert all_bits(other) == all_bits(model(2))
        assert all_bits(checkpoints.restore(model(9), step=1)) == all_bits(model(1))
        assert checkpoints.restore(step=0)["b"].tolist() == [0, 1]
        part = checkpoints.restore(model(9), PathContains("a"))
        assert all_bits(part) == {("a",): all_bits(model(2))["a",], ("b",): all_bits(model(9))["b",]}
        with pytest.raises(UpdateError, match="a: in the checkpoint only"):
            checkpoints.restore({"b": gs.State(array(0, 2))})
    assert all_bits(gs.checkpoint.restore(tmp_path / "1", model(9))) == all_bits(model(1))


def test_what_is_not_there_is_said(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"There is no checkpoint of any step in .*run, which has none"):
        checkpoints.restore(model(0))
    checkpoints.save(3, model(0))
    with pytest.raises(CheckpointError, match=r"There is no checkpoint of step 2 in .*run, which has those of steps 3"):
        checkpoints.restore(model(0), step=2)


def test_a_save_elsewhere_waits_for_the_one_in_the_background(tmp_path):
    with Checkpoints(tmp_path / "run") as checkpoints, Checkpoints(tmp_path / "other") as others:
        for step in range(3):
            checkpoints.save(step, model(step))
            others.save(step, model(step + 10))
            gs.checkpoint.save(tmp_path / "best", model(step + 20))
        assert checkpoints.steps == [0, 1, 2]
        assert all_bits(checkpoints.restore(model(9))) == all_bits(model(2))
        assert all_bits(others.restore(model(9))) == all_bits(model(12))
    assert all_bits(gs.checkpoint.restore(tmp_path / "best", model(9))) == all_bits(model(22))


def test_steps_do_not_go_back(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, model(0))
        checkpoints.save(3, model(1))
        with pytest.raises(CheckpointError, match=r"step 2 came, and the latest in .* is 3. Before a run goes on"):
            checkpoints.save(2, model(2))
        with pytest.raises(CheckpointError, match="Steps are numbers from 0 that grow, but step -1 came"):
            checkpoints.save(-1, model(2))
        assert all_bits(checkpoints.restore(model(9))) == all_bits(model(1))


def test_a_step_is_a_whole_number(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(StateTypeError, match=r"under a whole number, but '1.0' of type float came for its step"):
            checkpoints.save(1.0, model(0))
        checkpoints.save(jnp.asarray(3), model(0))
    assert checkpoints.steps == [3]


def test_at_least_one_must_be_kept(tmp_path):
    with pytest.raises(CheckpointError, match="at least 1, but it is 0"):
        Checkpoints(tmp_path, keep=0)


@pytest.mark.no_leak_check("runs one step many times")
def test_a_model_may_be_changed_and_donated_as_soon_as_save_returns(tmp_path):
    numbers = {"a": gs.State(jnp.zeros(50_000)), "b": gs.State(np.zeros(50_000))}

    @gs.jit(donate_states=True)
    def step(cell):
        cell.value = cell.value + 1.0

    raw = jax.jit(lambda x: x + 1.0, donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        for number in range(5):
            checkpoints.save(number, numbers)
            numbers["b"].value += 1.0
            numbers["b"].value[:] += 0.0
            step(numbers["a"])
            numbers["a"].value = raw(numbers["a"].value) - 1.0
        for number in range(5):
            found = checkpoints.restore(step=number)
            assert set(found["a"].tolist()) == set(found["b"].tolist()) == {float(number)}


@pytest.mark.parametrize(
    "then",
    [
        lambda checkpoints: checkpoints.wait(),
        lambda checkpoints: checkpoints.save(2, model(2)),
        lambda checkpoints: checkpoints.restore(model(2)),
        lambda checkpoints: checkpoints.__exit__(None, None, None),
    ],
    ids=["wait", "save", "restore", "the end of the block"],
)
def test_what_fails_in_the_background_is_raised_by_the_next_call(then, tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, model(0))
    checkpoints.wait()
    checkpoints.save(1, model(1))
    writer = checkpoints._saving._checkpointer
    writer.wait_until_finished()
    monkeypatch.setattr(writer, "wait_until_finished", lambda: 1 / 0)
    with pytest.raises(CheckpointError, match=r"No checkpoint could be written to .*1: division by zero"):
        then(checkpoints)
    checkpoints.save(3, model(3))
    assert all_bits(checkpoints.restore(model(9))) == all_bits(model(3))


FORGETS = """
import sys
import numpy as np
import graphstate as gs

def main():
    checkpoints = gs.checkpoint.Checkpoints(sys.argv[1], keep=1)
    checkpoints.save(0, gs.State(np.zeros(1_000_000)))
    checkpoints.save(1, gs.State(np.ones(1_000_000)))

main()
"""


def test_a_program_that_ends_finishes_its_last_save(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FORGETS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == [1]
    assert checkpoints.restore().popitem()[1].all()
