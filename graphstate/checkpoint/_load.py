"""Reading the arrays that a match has found, each as the State that it is for holds its own."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._compat import weakly_typed
from graphstate.errors import CheckpointError

from ._processes import all_sums, is_local, raise_together
from ._records import ArrayRecord, is_key

__all__ = ["Wanted", "load", "wanted_for"]


class Wanted:
    """An array of a checkpoint, and how it is wanted.

    Attributes:
        record: what the checkpoint says of it.
        host: whether it becomes an array of NumPy.
        sharding: where it shall lie; None for where JAX puts a new array.
    """

    __slots__ = ("host", "record", "sharding")

    def __init__(self, record: ArrayRecord, *, host: bool, sharding: Any = None) -> None:
        self.record, self.host, self.sharding = record, host, sharding


def wanted_for(record: ArrayRecord, present: Any) -> Wanted:
    """How an array is wanted that takes the place of `present`."""
    if isinstance(present, jax.ShapeDtypeStruct):
        return Wanted(record, host=record.host and present.sharding is None, sharding=present.sharding)
    if isinstance(present, jax.Array):
        if not present.committed:
            return Wanted(record, host=False)
        data = jax.random.key_data(present) if is_key(present) else present
        return Wanted(record, host=False, sharding=data.sharding)
    return Wanted(record, host=isinstance(present, np.ndarray | np.generic))


def load(store: Any, version: Any, wanted: Iterable[Wanted], sums: Mapping[str, int]) -> list[Any]:
    """Reads arrays, and compares what was read with the checksums of what was written.

    Raises:
        CheckpointError: an array cannot be read, or is not what was written.
    """
    wanted = list(wanted)
    stored = {
        each.record.name: None if each.sharding is None or is_local(each.sharding) else each.sharding
        for each in wanted
        if not each.record.is_empty
    }
    problem: Exception | None = None
    try:
        found = store.read_arrays(version, stored)
    except CheckpointError as error:
        problem = error
    raise_together(problem)
    _check(version, found, sums)
    return [_finished(each, found.get(each.record.name)) for each in wanted]


def _check(version: Any, found: Mapping[str, Any], sums: Mapping[str, int]) -> None:
    damaged = [name for name, value in all_sums(found).items() if value != sums[name]]
    if damaged:
        raise CheckpointError(
            f"The checkpoint {version} is damaged: {damaged[0]!r} (and {len(damaged) - 1} more) has other numbers than "
            "were saved. Nothing was changed. Restore another checkpoint."
        )


def _finished(wanted: Wanted, data: Any) -> Any:
    record = wanted.record
    if record.is_empty:
        data = _empty(record)
    if not (wanted.host and record.implementation is None) and isinstance(data, np.ndarray):
        data = jnp.asarray(data) if wanted.sharding is None else jax.device_put(data, wanted.sharding)
    if record.implementation is not None:
        return jax.random.wrap_key_data(data, impl=record.implementation)
    if tuple(data.shape) != record.shape or str(data.dtype) != record.dtype:
        raise CheckpointError(
            f"{record.name!r} was saved as {record.dtype}{list(record.shape)}, but JAX makes {data.dtype}"
            f"{list(data.shape)} of it here. Set `jax_enable_x64` as it was when the checkpoint was saved."
        )
    return weakly_typed(data) if record.weak and isinstance(data, jax.Array) else data


def _empty(record: ArrayRecord) -> Any:
    if record.implementation is not None:
        data = jax.random.key_data(jax.random.key(0, impl=record.implementation))
        return np.zeros((*record.shape, *data.shape), data.dtype)
    return np.zeros(record.shape, jnp.dtype(record.dtype))
