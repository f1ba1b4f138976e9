"""What each of two processes does in `test_processes`: `program.py jax.process_index() PORT DIRECTORY`."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import graphstate as gs
from graphstate import checkpoint
from graphstate.errors import CheckpointError, GraphStateError, UpdateError


def mesh():
    return jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))


def spread(array, *spec):
    return multihost_utils.host_local_array_to_global_array(array, mesh(), P(*spec)) if spec else _copied(array)


def _copied(array):
    return jax.make_array_from_callback(array.shape, NamedSharding(mesh(), P()), lambda index: array[index])


def model(seed: int, rows: int = 8, local: int = 0):
    """Arrays in rows and keys on all devices, a copy on each, and arrays of this process alone."""
    table = np.arange(seed, seed + 2 * rows, dtype=np.float32).reshape(rows, 2)
    keys = jax.random.key_data(jax.random.split(jax.random.key(seed), 8))
    half = slice(jax.process_index() * 4, jax.process_index() * 4 + 4)
    return {
        "rows": gs.State(spread(table[: rows // 2] if jax.process_index() == 0 else table[rows // 2 :], "x")),
        "rng": gs.State(jax.random.wrap_key_data(spread(np.asarray(keys)[half], "x"))),
        "copied": gs.State(spread(np.arange(seed, seed + 3))),
        "host": gs.State(np.arange(seed, seed + 2) + local),
        "local": gs.State(jnp.asarray(np.float32(seed))),
        "step": gs.State(seed),
    }


def parts(node):
    """What this process has of each array."""
    found = {}
    for path, cell in gs.states(node).items():
        value = cell.value
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        shards = [each.data for each in value.addressable_shards] if isinstance(value, jax.Array) else [value]
        found[path] = [np.asarray(each).tolist() for each in shards]
    return found


def error(expected, function) -> str:
    try:
        function()
    except expected as caught:
        return str(caught)
    raise AssertionError(f"no {expected.__name__}")


def main(directory: str) -> None:
    process = jax.process_index()

    # What eight devices of one process have saved
    other = checkpoint.restore(f"{directory}/one", model(5))
    assert parts(other) == parts(model(1))

    # What both save, and get back
    checkpoint.save(f"{directory}/two", model(2))
    checkpoint.save(f"{directory}/two", model(3))
    assert parts(checkpoint.restore(f"{directory}/two", model(5))) == parts(model(3))
    assert checkpoint.restore(f"{directory}/two")["rows"].shape == (8, 2)
    with checkpoint.Checkpoints(f"{directory}/run", keep=1) as checkpoints:
        for step in range(3):
            checkpoints.save(step, model(step))
        assert parts(checkpoints.restore(model(5))) == parts(model(2))

    # What cannot be
    path = f"{directory}/wrong"
    text = error(CheckpointError, lambda: checkpoint.save(path, model(0) if process == 0 else gs.Node()))
    assert "processes [1] save" in text, text
    text = error(CheckpointError, lambda: checkpoint.save(f"{path}{process}", model(0)))
    assert f"processes [1] save to another one than process 0; here it is {path}{process}" in text, text
    with checkpoint.Checkpoints(f"{directory}/steps") as checkpoints:
        text = error(CheckpointError, lambda: checkpoints.save(process, model(0)))
        assert "must save to the same path" in text, text
    text = error(CheckpointError, lambda: checkpoint.save(path, model(0, local=process)))
    assert "another value of 'host'" in text, text
    before = other["rows"].value
    wrong = {**other, "host": gs.State(np.zeros(3, int))} if process == 1 else other
    text = error(GraphStateError, lambda: checkpoint.restore(f"{directory}/two", wrong))
    assert ("host: needs" if process == 1 else "Processes [1] could not go on") in text, text
    assert other["rows"].value is before
    text = error(CheckpointError, lambda: checkpoint.restore(path, other))
    assert "does not exist" in text, text
    assert error(UpdateError, lambda: checkpoint.restore(f"{directory}/two", model(5, rows=16)))


if __name__ == "__main__":
    jax.distributed.initialize(f"127.0.0.1:{sys.argv[2]}", num_processes=2, process_id=int(sys.argv[1]))
    main(sys.argv[3])
    sys.stdout.write("done\n")
