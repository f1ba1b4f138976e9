"""One member of a stack that is spread over devices, taken from the devices that hold it: no other hears of it."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from graphstate._compat import Tracer

__all__ = ["Stacked", "member_where_it_lies"]


class Stacked(NamedTuple):
    """An array of a stack.

    Attributes:
        array: the array.
        axis: its lane axis, counted from the front; None for what all members share.
    """

    array: Any
    axis: int | None


def member_where_it_lies(parts: Sequence[Stacked], index: int) -> list[Any] | None:
    """The arrays of one member, on the devices that hold it.

    Args:
        parts: all arrays of the stack.
        index: the number of the member, from 0.

    Returns:
        An array for each part, what is shared as it is; None where the stack is not spread over devices of this
        process by its lanes, or the member would not lie on the same devices with all its parts.
    """
    spread = [part for part in parts if _is_spread(part.array)]
    divided = next((part for part in spread if _names(part)), None)
    if divided is None or not all(_goes_with(part, divided) for part in parts):
        return None
    home = _Home(divided, index)
    return [home.member(part) if _is_spread(part.array) else _member(part, index) for part in parts]


def _is_spread(array: Any) -> bool:
    """Whether an array lies on several devices, all of this process, along the axes of a mesh."""
    if isinstance(array, Tracer) or not isinstance(array, Array) or not array.is_fully_addressable:
        return False
    return isinstance(array.sharding, NamedSharding) and len(array.sharding.device_set) > 1


def _entries(part: Stacked) -> list[tuple[Any, ...]]:
    """The axes of the mesh that divide each axis of an array."""
    spec = part.array.sharding.spec
    found = [each if isinstance(each, tuple) else () if each is None else (each,) for each in spec]
    return found + [()] * (part.array.ndim - len(found))


def _names(part: Stacked) -> tuple[Any, ...]:
    """The axes of the mesh that divide the lanes."""
    sizes = part.array.sharding.mesh.shape
    return () if part.axis is None else tuple(name for name in _entries(part)[part.axis] if sizes[name] > 1)


def _others(part: Stacked) -> list[tuple[Any, ...]]:
    """The axes of the mesh that divide each axis but that of the lanes."""
    return [entry for axis, entry in enumerate(_entries(part)) if axis != part.axis]


def _goes_with(part: Stacked, divided: Stacked) -> bool:
    """Whether what a part holds of a member lies, or can lie, where that of `divided` does."""
    if not _is_spread(part.array):
        is_array = isinstance(part.array, Array | np.ndarray) and not isinstance(part.array, Tracer)
        return (is_array or part.axis is None) and not getattr(part.array, "committed", False)
    if part.axis is None or part.array.sharding.mesh != divided.array.sharding.mesh:
        return False
    names, others = _names(divided), {name for entry in _others(part) for name in entry}
    return _names(part) in ((), names) and others.isdisjoint(names)


class _Home:
    """The devices that hold a member.

    Args:
        divided: a part whose lanes are divided.
        index: the number of the member.
    """

    def __init__(self, divided: Stacked, index: int) -> None:
        assert divided.axis is not None
        mesh, names = divided.array.sharding.mesh, _names(divided)
        sizes = [mesh.shape[name] for name in names]
        block = index // (divided.array.shape[divided.axis] // math.prod(sizes))
        where = dict(zip(names, np.unravel_index(block, sizes), strict=True))
        kept = [number for number, name in enumerate(mesh.axis_names) if name not in where]
        found = mesh.devices[tuple(where.get(name, slice(None)) for name in mesh.axis_names)]
        self._devices = np.asarray(found, dtype=object)
        self._names = tuple(mesh.axis_names[number] for number in kept)
        self._types = tuple(mesh.axis_types[number] for number in kept)
        self._index = index

    def member(self, part: Stacked) -> Array:
        """What is held of the member, as one array on these devices."""
        assert part.axis is not None
        devices = set(self._devices.flat)
        pieces = [self._piece(shard, part.axis) for shard in part.array.addressable_shards if shard.device in devices]
        if len(pieces) == 1:
            return pieces[0]
        shape = part.array.shape[: part.axis] + part.array.shape[part.axis + 1 :]
        return _joined(shape, self._sharding(_others(part)), pieces)

    def _piece(self, shard: Any, axis: int) -> Array:
        """What one device holds of the member."""
        number = np.int32(self._index - (shard.index[axis].start or 0))
        piece: Array = _picked(shard.data, jax.device_put(number, shard.device), axis)
        return piece

    def _sharding(self, entries: list[tuple[Any, ...]]) -> NamedSharding:
        mesh = Mesh(self._devices, self._names, axis_types=self._types)
        return NamedSharding(mesh, PartitionSpec(*[entry or None for entry in entries]))


def _joined(shape: tuple[int, ...], sharding: NamedSharding, pieces: list[Any]) -> Array:
    if not jnp.issubdtype(pieces[0].dtype, jax.dtypes.prng_key):
        return jax.make_array_from_single_device_arrays(shape, sharding, pieces)
    data = [jax.random.key_data(piece) for piece in pieces]
    whole = jax.make_array_from_single_device_arrays(shape + data[0].shape[len(shape) :], sharding, data)
    keys: Array = jax.random.wrap_key_data(whole, impl=jax.random.key_impl(pieces[0]))
    return keys


def _member(part: Stacked, index: int) -> Any:
    """A member of what lies on one device, or on none."""
    if part.axis is None:
        return part.array
    taken = part.array[(slice(None),) * part.axis + (index,)]
    return np.asarray(taken) if isinstance(part.array, np.ndarray) else taken


def _pick(array: Array, number: Array, axis: int) -> Array:
    picked: Array = jax.lax.dynamic_index_in_dim(array, number, axis, keepdims=False)
    return picked


_picked = jax.jit(_pick, static_argnums=2)
