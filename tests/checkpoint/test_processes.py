"""One checkpoint for all processes of a program, and for programs of another number of processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import graphstate as gs
from graphstate import checkpoint

from .kept import array, spread

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


def model(seed: int, devices: int):
    """The model of `program.py`, in one process."""
    return {
        "rows": gs.State(spread(array(seed, 8, 2), devices, "x")),
        "rng": gs.State(spread(jax.random.split(jax.random.key(seed), 8), devices, "x")),
        "copied": gs.State(spread(np.arange(seed, seed + 3), devices)),
        "host": gs.State(np.arange(seed, seed + 2)),
        "local": gs.State(jnp.asarray(np.float32(seed))),
        "step": gs.State(seed),
    }


def test_two_processes_and_one_read_what_the_other_has_written(tmp_path):
    checkpoint.save(tmp_path / "one", model(1, 8))
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "program.py"), str(number), str(port), str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [output.splitlines()[-1:] for output in outputs] == [["done"], ["done"]], "\n".join(outputs)
    for devices in (1, 8):
        other = checkpoint.restore(tmp_path / "two", model(0, devices))
        for path, cell in gs.states(model(3, devices)).items():
            found = gs.states(other)[path].value
            assert np.array_equal(*map(np.asarray, map(_data, (found, cell.value))))
    assert [each.name for each in (tmp_path / "run").iterdir()] == ["2"]


def _data(value):
    is_key = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(value) if is_key else value
