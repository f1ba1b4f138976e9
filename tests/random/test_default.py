"""The default stream: started late, alike in every process, and drawn from by functions."""

import copy
import inspect
import os
import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest

from graphstate import random
from graphstate._trace import Frame
from graphstate.random._default import _unstarted


def run(program: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_import_starts_no_backend():
    # Of a platform that does not exist no backend can be started.
    program = "from graphstate import random; random.DEFAULT; print('imported'); import jax; jax.devices()"
    with pytest.raises(AssertionError, match="no_such_platform"):
        run(program, JAX_PLATFORMS="no_such_platform")
    program = "from graphstate import random; random.DEFAULT; print('imported')"
    assert run(program, JAX_PLATFORMS="no_such_platform") == "imported\n"


def test_processes_start_alike():
    drawn = run("from graphstate import random; print(random.normal().item())")
    assert float(drawn) == random.RandomState(0).normal().item()


def test_a_stream_that_starts_inside_of_a_trace_holds_no_tracer():
    rng = _unstarted(0, "here")

    frame = Frame()

    def draw():
        with frame:
            return rng.normal()

    np.testing.assert_allclose(jax.jit(draw)(), random.RandomState(0).normal(), rtol=1e-6)
    assert rng.value == jax.random.key(0)
    assert rng.normal() == random.RandomState(0).normal()


def test_a_module_that_is_imported_inside_of_a_trace_has_a_stream_that_outlives_it():
    made = []
    jax.jit(lambda: made.append(_unstarted(0, "here")))()
    assert made[0].value == jax.random.key(0)


def test_messages_name_the_default_stream():
    with (
        pytest.warns(UserWarning, match=r"graphstate\.random\.DEFAULT"),
        pytest.raises(RuntimeError, match=r"graphstate\.random\.DEFAULT.*inside of a transform of plain JAX"),
    ):
        jax.jit(random.normal)()


def test_the_seed_of_the_default_stream_is_set_by_a_function():
    with random.seed_context(0):
        random.seed(3)
        assert random.split_key() == random.RandomState(3).split_key()


def test_a_function_is_pickled_and_copied_by_its_name():
    assert pickle.loads(pickle.dumps(random.normal)) is random.normal
    assert copy.deepcopy(random.normal) is random.normal


def test_a_function_has_the_signature_of_the_method():
    method = inspect.signature(random.RandomState(0).normal)
    assert inspect.signature(random.normal) == method
    assert (random.normal.__module__, random.normal.__qualname__) == ("graphstate.random", "normal")
