"""Giving away the buffers of States that a program writes anyway, so that it can work in place.

A buffer that is given away is gone for whoever else holds it: another State, another input of the call, a GraphState
that was taken before. So before a call the buffers are counted, and of one that is not the State's alone a copy is
given away instead. An array with more references than the State and the call account for is held by somebody else.
Two arrays may share one buffer, too (`jax.device_put(x, device)` makes such arrays): then their pointers are equal.
These are compared with those of all arrays that are alive, but only if a State was written since the last call by
anything but a compiled program, whose outputs are new.
"""

import collections
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp

from graphstate._compat import ArrayImpl, iter_jaxprs
from graphstate._trace import Cell, Lost, Packed, base_cell_value, exchange, unpack
from graphstate.random import RandomState

__all__ = ["calls_back", "fits_in_place", "has_shapes", "lose_deleted", "unshared"]

_ALONE: Final = next(map(sys.getrefcount, [object()]))
"""The references that are counted of an object that one list holds."""


def unshared(cells: Sequence[Cell], values: list[Any], held: int, others: Sequence[Any] | None) -> list[Any]:
    """The values of States, to be given away: with copies of the arrays that somebody else holds, too.

    Args:
        cells: the States.
        values: what they hold.
        held: in how many lists of the caller, beside this one, the values are.
        others: arrays that may share a buffer with one of these; None for all that are alive.
    """
    shared = _shared_pointers(values, others)
    counts = list(map(sys.getrefcount, values))
    if not shared and set(map(type, values)) == {ArrayImpl} and max(counts) <= _ALONE + held + 1:
        return values
    return [
        _copied(value)
        if (count > _ALONE + held + 1 and _counts(value))
        or (shared and not shared.isdisjoint(_pointers(_arrays([value]))))
        else value
        if type(value) is ArrayImpl
        else _unshared_leaves(cell, value)
        for cell, value, count in zip(cells, values, counts, strict=True)
    ]


def _counts(value: Any) -> bool:
    """Whether others that hold `value` would miss it: numbers, NumPy arrays and structures without leaves they keep."""
    return type(value) is ArrayImpl or bool(jax.tree.leaves(value))


def _unshared_leaves(cell: Cell, value: Any) -> Any:
    """A pytree with copies of those of its arrays that somebody else holds."""
    leaves, treedef = jax.tree.flatten(value)
    within = 2 if isinstance(base_cell_value(cell), Packed) else 1  # the structure, and the list of a `Packed`
    counts = list(map(sys.getrefcount, leaves))
    return jax.tree.unflatten(
        treedef,
        [_copied(leaf) if count > _ALONE + within else leaf for leaf, count in zip(leaves, counts, strict=True)],
    )


def _copied(value: Any) -> Any:
    if type(value) is ArrayImpl:
        return value.copy()
    return jax.tree.map(lambda leaf: leaf.copy() if type(leaf) is ArrayImpl else leaf, value)


def _shared_pointers(values: Sequence[Any], others: Sequence[Any] | None) -> set[int]:
    """The pointers of `values` that another array has, too."""
    own = _arrays(values)
    if others is None:
        devices: list[Any] = [device for leaf in own for device in leaf.devices()]
        platforms = {device.platform for device in devices}
        others = [array for platform in platforms for array in jax.live_arrays(platform)]
    others = _arrays(others)
    if not own or not others:
        return set()
    known = set(map(id, own))
    foreign = set(_pointers([other for other in others if id(other) not in known]))
    pointers = _pointers(own)
    shared = foreign.intersection(pointers)
    if len(set(pointers)) < len(pointers):
        shared.update(pointer for pointer, count in collections.Counter(pointers).items() if count > 1)
    return shared


def _arrays(values: Sequence[Any]) -> list[Any]:
    if set(map(type, values)) <= {ArrayImpl}:
        return list(values)
    return [leaf for leaf in jax.tree.leaves(list(values)) if type(leaf) is ArrayImpl]


def _pointers(arrays: Sequence[Any]) -> list[int]:
    """Where the buffers of arrays lie; on other devices other buffers may have the same addresses."""
    try:
        return [array.unsafe_buffer_pointer() for array in arrays]
    except RuntimeError:  # one is deleted, or has several buffers
        return [pointer for array in arrays if not array.is_deleted() for pointer in _shard_pointers(array)]


def _shard_pointers(array: Any) -> list[int]:
    if len(array.sharding.device_set) == 1 and array.is_fully_addressable:
        return [array.unsafe_buffer_pointer()]
    return [shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards]


def lose_deleted(given: Iterable[tuple[Cell, Any]], name: Callable[[Cell], str], call: str) -> None:
    """Marks the States whose buffers are gone, and which nobody has written since.

    Args:
        given: each State, and the value that was given away.
        name: how messages call a State.
        call: how they call the function.
    """
    for cell, value in given:
        held = base_cell_value(cell)
        if isinstance(held, Lost) or unpack(held) is not value:
            continue
        if any(type(leaf) is ArrayImpl and leaf.is_deleted() for leaf in jax.tree.leaves(value)):
            exchange(cell, held, Lost(value, name(cell), call))


def has_shapes(before: tuple[Any, ...], after: Any) -> bool:
    """Whether a value has the structure, shapes and dtypes of another.

    Args:
        before: the structure and the types of the leaves, as `type_of` returns them.
        after: the value, of types.
    """
    leaves, treedef = jax.tree.flatten(after)
    return bool(treedef == before[0]) and all(
        old.shape == new.shape and old.dtype == new.dtype for old, new in zip(before[1:], leaves, strict=True)
    )


def fits_in_place(cell: Any, before: tuple[Any, ...], after: Any) -> bool:
    """Whether a State can be written where its value lies: the new value is just as large.

    Streams of keys never are: keys are small, and threads may share them.
    """
    if isinstance(cell, RandomState) or not isinstance(cell, Cell) or not has_shapes(before, after):
        return False
    return not any(jnp.issubdtype(leaf.dtype, jax.dtypes.extended) for leaf in before[1:])


def calls_back(jaxpr: Any) -> bool:
    """Whether a program calls into Python while it runs."""
    return any("callback" in eqn.primitive.name for inner in iter_jaxprs(jaxpr) for eqn in inner.eqns)
