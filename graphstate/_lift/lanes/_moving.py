"""Putting arrays where they are wanted, also on devices of several processes.

There each process has the whole value, and puts the parts of its own devices there; nothing travels. (What
`jax.device_put` does instead sends the whole value around to compare it, and takes no random keys.)
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from graphstate._compat import Tracer
from graphstate.errors import ShardingError

__all__ = ["put"]


def put(values: Sequence[Any], shardings: Sequence[NamedSharding]) -> list[Any]:
    """Arrays, where they are wanted.

    Args:
        values: arrays of any kind; each process has the same, or its part of one that is spread over all.
        shardings: where each is wanted, all on one mesh.

    Raises:
        ShardingError: this process has no device there, or an array is spread over other devices of several processes.
    """
    if not (shardings and shardings[0].mesh.is_multi_process):
        _check_reach(values)
        placed: list[Any] = jax.device_put(list(values), list(shardings))
        return placed
    if not shardings[0].mesh.local_devices:
        raise ShardingError(
            f"Process {jax.process_index()} has no device on the mesh {dict(shardings[0].mesh.shape)!r}: only those "
            "that have put arrays there. Take a mesh of all devices, or leave the call to the others."
        )
    return [_put(value, sharding) for value, sharding in zip(values, shardings, strict=True)]


def _put(value: Any, sharding: NamedSharding) -> Any:
    if isinstance(value, Tracer):
        return jax.device_put(value, sharding)
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        if value.sharding.device_set != sharding.device_set:
            _check_reach([value])
        return jax.device_put(value, sharding)
    if np.ndim(value) == 0 and jax.typeof(value).weak_type:
        return _copier(sharding)(value.item() if isinstance(value, jax.Array) else value)
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(value), NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(value))
    whole = np.asarray(value)
    whole = whole.astype(jax.dtypes.canonicalize_dtype(whole.dtype), copy=False)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def _check_reach(values: Sequence[Any]) -> None:
    """Refuses to move what is spread over processes to other devices than its own."""
    for value in values:
        if isinstance(value, jax.Array) and not isinstance(value, Tracer) and not value.is_fully_addressable:
            raise ShardingError(
                f"An array of shape {value.shape} is spread over {len(value.sharding.device_set)} devices of several "
                "processes, and cannot be put on others. Read it in each first, with "
                "`jax.experimental.multihost_utils.process_allgather(array, tiled=True)`."
            )


@functools.lru_cache(maxsize=64)
def _copier(sharding: NamedSharding) -> Any:
    """Makes arrays of numbers of Python: only a program can make one whose type is weak, as theirs is."""
    return jax.jit(lambda value: value, out_shardings=sharding)
