"""`stack`, `unstack` and `take`: many Nodes of one structure as one Node whose states have a lane axis, and back.

What has no lane axis, because a `StateAxes` gives it None, is one object that all members share.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._compat import Tracer
from graphstate._trace import pack
from graphstate.errors import AliasError, AxisError, StateTypeError, StructureError, UpdateError, some_of

from ._attributes import is_graph_object
from ._axes import StateAxes
from ._axis_names import lane_axes, with_lanes, without_lanes
from ._diff import diff
from ._flatten import note_origins, unflatten
from ._graphdef import GraphDef
from ._heads import ArrayHead, DictHead, ListHead, NodeHead, StateHead
from ._layout import record_of
from ._member import Stacked, member_where_it_lies
from ._path import show_path
from ._split import leaf_value
from ._state import State
from ._summary import summarize_value
from ._walked import Walked, walk

__all__ = ["stack", "take", "unstack"]

Axis: TypeAlias = int | None


def stack(nodes: Sequence[Any], axis: int | StateAxes | None = 0) -> Any:
    """One Node whose states hold those of all `nodes` along a new lane axis.

    Args:
        nodes: Nodes (or pytrees of Nodes and States) of one structure.
        axis: where the lane axis goes, in the result; a `StateAxes` chooses it for each state. A State with axis None
            must be the same object in all members, and stays that object. Among the names that a State gives to its
            axes (`axes`) the new one is None.

    Raises:
        StructureError: there are no nodes, or their structures differ.
        UpdateError: shapes or dtypes differ.
        AliasError: a State that is to be stacked belongs to several members.
        AxisError: a state has no such axis, is matched by no filter, or has axis None but differs between members.

    Example:
        >>> import graphstate as gs
        >>> ensemble = gs.stack([gs.nn.Linear(2, 3) for _ in range(4)])
        >>> ensemble.weight.value.shape
        (4, 2, 3)
    """
    if is_graph_object(nodes):
        raise StateTypeError(
            f"`stack` needs a sequence of Nodes, but one {type(nodes).__name__} came. Write `stack([node])`."
        )
    flats = [walk(node) for node in nodes]
    if not flats:
        raise StructureError("`stack` needs at least one Node, but the sequence is empty.")
    _check_same_structure(flats)
    first = flats[0]
    lanes = _lanes(first, axis)
    _check_members(flats, lanes)
    _check_same_shapes(flats, lanes)
    columns = [[leaf_value(flat.objects[lane.place]) for flat in flats] for lane in lanes]
    values = [
        column[0] if lane.axis is None else jax.tree.map(lambda *each, lane=lane: _stack_arrays(each, lane), *column)
        for lane, column in zip(lanes, columns, strict=True)
    ]
    return _assemble(flats, with_lanes(first.graphdef, _places(lanes), None), lanes, values)


def unstack(node: Any, axis: int | StateAxes | None = 0) -> list[Any]:
    """The members of a stacked Node, each a Node of its own.

    Args:
        node: a Node (or a pytree of Nodes and States) whose states have a lane axis.
        axis: where the lane axis is; a `StateAxes` chooses it for each state. A State with axis None belongs to all
            members: they share it.

    Raises:
        AxisError: a state has no such axis, sizes differ along it, or nothing has a lane axis.

    Example:
        >>> import graphstate as gs
        >>> members = gs.unstack(gs.stack([gs.nn.Linear(2, 3) for _ in range(4)]))
        >>> len(members), members[0].weight.value.shape
        (4, (2, 3))
    """
    flat = walk(node)
    lanes = _lanes(flat, axis)
    stacked = [leaf_value(flat.objects[lane.place]) for lane in lanes]
    size = _size(lanes, stacked, "unstack")
    graphdef = without_lanes(flat.graphdef, _places(lanes))
    return [_assemble([flat], graphdef, lanes, _members(lanes, stacked, index)) for index in range(size)]


def take(node: Any, index: Any, axis: int | StateAxes | None = 0) -> Any:
    """One member, or some of the members, of a stacked Node.

    Args:
        node: a Node (or a pytree of Nodes and States) whose states have a lane axis.
        index: an int gives one member, an array of ints a stack of members; negative ones count from the end.
        axis: where the lane axis is, and, for a stack, stays.

    One member of a stack that is spread over the devices of this process, as `pmap` leaves it, stays on the devices
    that hold it, and no other takes part; a member that shares a State with others lies where that does. To compute
    with several members together, take them by an array, or move them (`parallel.replicate`).

    Raises:
        AxisError: a state has no such axis, sizes differ along it, or the index is out of range.
        StateTypeError: the index is neither an int nor a one-dimensional array of ints.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> ensemble = gs.stack([gs.nn.Linear(2, 3) for _ in range(4)])
        >>> gs.take(ensemble, -1).weight.value.shape
        (2, 3)
        >>> gs.take(ensemble, jnp.array([3, 0])).weight.value.shape
        (2, 2, 3)
    """
    flat = walk(node)
    lanes = _lanes(flat, axis)
    stacked = [leaf_value(flat.objects[lane.place]) for lane in lanes]
    size = _size(lanes, stacked, "take")
    chosen = _checked_index(index, size)
    local = _local_members(lanes, stacked, chosen % size) if isinstance(chosen, int) else None
    graphdef = flat.graphdef if np.ndim(chosen) else without_lanes(flat.graphdef, _places(lanes))
    return _assemble([flat], graphdef, lanes, _members(lanes, stacked, chosen) if local is None else local)


# Axes


class _Lane(NamedTuple):
    """Where the lane axis of one State or array is."""

    place: int
    path: str
    axis: Axis


def _lanes(flat: Walked, axis: int | StateAxes | None) -> list[_Lane]:
    if not isinstance(axis, StateAxes) and axis is not None and (isinstance(axis, bool) or not isinstance(axis, int)):
        raise StateTypeError(
            f"`axis` is an int, None or a `StateAxes`, but {summarize_value(axis)} of type {type(axis).__name__} came. "
            "To choose by filter write `StateAxes({filter: axis, ...: None})`."
        )
    return [
        _Lane(place, show_path(flat.graphdef.path(place)), _axis_of(flat, place, axis))
        for place in flat.graphdef.leaves
    ]


def _places(lanes: Sequence[_Lane]) -> dict[int, int]:
    """The places with a lane axis, and where that is."""
    return lane_axes((lane.place, lane.axis) for lane in lanes)


def _axis_of(flat: Walked, place: int, axis: int | StateAxes | None) -> Axis:
    if not isinstance(axis, StateAxes):
        return axis
    graphdef = flat.graphdef
    head = graphdef.heads[place]
    assert isinstance(head, StateHead | ArrayHead)
    return axis.axis(graphdef.paths(place), record_of(head, leaf_value(flat.objects[place])))


def _position(axis: int, dimensions: int, path: str, shape: Sequence[int]) -> int:
    """`axis` counted from the front, in a shape of so many dimensions."""
    if not -dimensions <= axis < dimensions:
        raise AxisError(
            f"{path} has shape {tuple(shape)}, which leaves no lane axis at {axis}. "
            "Choose another axis, or leave the state unmapped: `StateAxes({filter: None, ...: 0})`."
        )
    return axis % dimensions


def _size(lanes: Sequence[_Lane], values: Sequence[Any], call: str) -> int:
    """The number of members of a stacked graph."""
    sizes: dict[int, list[str]] = {}
    for lane, value in zip(lanes, values, strict=True):
        if lane.axis is None:
            continue
        for leaf in jax.tree.leaves(value):
            size = leaf.shape[_position(lane.axis, len(leaf.shape), lane.path, leaf.shape)]
            sizes.setdefault(size, []).append(
                f"{size} in {lane.path} at axis {lane.axis}, of shape {tuple(leaf.shape)}"
            )
    if len(sizes) == 1:
        return next(iter(sizes))
    if not sizes:
        raise AxisError(
            f"`{call}` needs a state with a lane axis, which says how many members there are, but no state has one."
        )
    lines = [line for size in sorted(sizes) for line in sizes[size][:2]]
    raise AxisError(
        f"`{call}` needs one number of members, but the states have {len(sizes)} different sizes at their lane axes:\n"
        f"{some_of(lines)}\nA state that is not stacked has axis None: `StateAxes({{filter: None, ...: 0}})`."
    )


# Checks of members


def _check_same_structure(flats: Sequence[Walked]) -> None:
    for number, flat in enumerate(flats):
        if flat.graphdef != flats[0].graphdef:
            lines = diff(flats[0].graphdef, flat.graphdef)
            raise StructureError(
                f"`stack` needs Nodes of one structure, but number {number} differs from the first:\n{some_of(lines)}\n"
                "Build all members by the same constructor; what shall differ between them belongs into a State.",
                lines,
            )


def _check_members(flats: Sequence[Walked], lanes: Sequence[_Lane]) -> None:
    """A State with a lane axis belongs to one member; one without to all of them."""
    for lane in lanes:
        owners: dict[int, Any] = {id(flat.objects[lane.place]): flat.objects[lane.place] for flat in flats}
        if lane.axis is None and len(owners) > 1 and not _are_equal(list(owners.values())):
            raise AxisError(
                f"{lane.path} has axis None, so that all members must share it, but they have {len(owners)} different "
                "ones. Give it an axis, or let the members share one State."
            )
    known: dict[int, tuple[int, str]] = {}
    for number, flat in enumerate(flats):
        for lane in lanes:
            item = flat.objects[lane.place]
            if not isinstance(item, State) or lane.axis is None:
                continue
            owner, path = known.setdefault(id(item), (number, lane.path))
            if owner != number:
                raise AliasError(
                    f"A State that is stacked belongs to one member, but {path} of number {owner} and {lane.path} "
                    f"of number {number} "
                    f"are the same {type(item).__name__}. Clone it, or leave it shared and unmapped: "
                    "`stack(nodes, StateAxes({filter: None, ...: 0}))`."
                )


def _are_equal(leaves: Sequence[Any]) -> bool:
    """Whether arrays that are no States have one value."""
    if any(isinstance(leaf, State | Tracer | jax.ShapeDtypeStruct) for leaf in leaves):
        return False
    return all(np.array_equal(np.asarray(leaves[0]), np.asarray(leaf)) for leaf in leaves[1:])


def _check_same_shapes(flats: Sequence[Walked], lanes: Sequence[_Lane]) -> None:
    lines = []
    for lane in lanes:
        values = [leaf_value(flat.objects[lane.place]) for flat in flats] if lane.axis is not None else []
        for number, value in enumerate(values):
            if _shapes(value) != _shapes(values[0]):
                lines.append(
                    f"{lane.path}: {summarize_value(values[0])} in the first, {summarize_value(value)} in number "
                    f"{number}"
                )
                break
    if lines:
        raise UpdateError(
            f"`stack` needs states of one shape and dtype, but these differ:\n{some_of(lines)}\n"
            "Give all members the same sizes; for different ones keep them in a list.",
            lines,
        )


def _shapes(value: Any) -> Any:
    leaves, treedef = jax.tree.flatten(value)
    return treedef, [(leaf.shape, leaf.dtype) for leaf in leaves]


# Values and objects


def _stack_arrays(arrays: Sequence[Any], lane: _Lane) -> Any:
    shape = arrays[0].shape
    assert lane.axis is not None
    position = _position(lane.axis, len(shape) + 1, lane.path, shape)
    if isinstance(arrays[0], jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((*shape[:position], len(arrays), *shape[position:]), arrays[0].dtype)
    if all(isinstance(array, np.ndarray) for array in arrays):
        return np.stack(arrays, position)
    return jnp.stack(_together(arrays), position)


def _together(arrays: Sequence[Any]) -> Sequence[Any]:
    """Arrays that were put on different devices, where the first of them lies."""
    put = [array for array in arrays if not isinstance(array, Tracer) and getattr(array, "committed", False)]
    if len({frozenset(array.sharding.device_set) for array in put if array.is_fully_addressable}) < 2:
        return arrays
    together: list[Any] = jax.device_put(list(arrays), put[0].sharding)
    return together


def _members(lanes: Sequence[_Lane], stacked: Sequence[Any], index: Any) -> list[Any]:
    return [
        value if lane.axis is None else jax.tree.map(lambda leaf, lane=lane: _take_array(leaf, index, lane), value)
        for lane, value in zip(lanes, stacked, strict=True)
    ]


def _local_members(lanes: Sequence[_Lane], stacked: Sequence[Any], index: int) -> list[Any] | None:
    """The values of one member on the devices that hold it; None where it cannot be had so."""
    flat = [jax.tree.flatten(value) for value in stacked]
    parts = [
        Stacked(leaf, None if lane.axis is None else lane.axis % leaf.ndim)
        for lane, (leaves, _) in zip(lanes, flat, strict=True)
        for leaf in leaves
    ]
    found = member_where_it_lies(parts, index)
    if found is None:
        return None
    following = iter(found)
    return [jax.tree.unflatten(treedef, [next(following) for _ in leaves]) for leaves, treedef in flat]


def _take_array(array: Any, index: Any, lane: _Lane) -> Any:
    assert lane.axis is not None
    position = _position(lane.axis, len(array.shape), lane.path, array.shape)
    if isinstance(array, jax.ShapeDtypeStruct):
        shape = (*array.shape[:position], *np.shape(index), *array.shape[position + 1 :])
        return jax.ShapeDtypeStruct(shape, array.dtype)
    if isinstance(array, np.ndarray) and isinstance(index, Tracer):
        array = jnp.asarray(array)
    taken = array[(slice(None),) * position + (index,)]
    return np.asarray(taken) if isinstance(array, np.ndarray) else taken


def _checked_index(index: Any, size: int) -> Any:
    """`index` as JAX and numpy take it; what is known of it is checked against the number of members."""
    if isinstance(index, Tracer):
        _check_index_type(index, index.dtype, index.shape)
        return index
    found = np.asarray(index)
    _check_index_type(index, found.dtype, found.shape)
    outside = sorted({int(each) for each in found.ravel() if not -size <= each < size})
    if outside:
        raise AxisError(
            f"`take` was asked for member {', '.join(map(str, outside[:4]))}, but there are {size} members. "
            f"Indices go from 0 to {size - 1}; -1 is the last one."
        )
    return operator.index(found) if found.ndim == 0 else found


def _check_index_type(index: Any, dtype: Any, shape: Sequence[int]) -> None:
    if not jnp.issubdtype(dtype, jnp.integer) or len(shape) > 1:
        raise StateTypeError(
            f"`take` needs an int, or a one-dimensional array of ints, but {summarize_value(index)} came. "
            "For a mask write `jnp.flatnonzero(mask)`; take twice for two axes."
        )


def _assemble(flats: Sequence[Walked], graphdef: GraphDef, lanes: Sequence[_Lane], values: Sequence[Any]) -> Any:
    """A graph that has the places of `flats`, but other values; what has no lane axis stays the same object."""
    objects = flats[0].objects
    packed = [
        pack(value) if isinstance(graphdef.heads[lane.place], StateHead) else value
        for lane, value in zip(lanes, values, strict=True)
    ]
    kept: dict[int, Any] = {}
    for place in _unmapped(graphdef, lanes):
        if place not in kept and all(flat.objects[place] is objects[place] for flat in flats):
            kept.update((below, objects[below]) for below in graphdef.reachable(place))
    made = unflatten(graphdef, packed, existing=kept)
    note_origins(graphdef, made, objects)
    return made[0]


def _unmapped(graphdef: GraphDef, lanes: Sequence[_Lane]) -> list[int]:
    """The places of States without a lane axis, and of Nodes, lists and dicts with no other States below them."""
    without = [lane.place for lane in lanes if lane.axis is None]
    if not without:
        return []
    candidates = _reaching(graphdef, without) - _reaching(
        graphdef, [lane.place for lane in lanes if lane.axis is not None]
    )
    return [
        place
        for place in sorted(candidates)
        if isinstance(graphdef.heads[place], NodeHead | StateHead | ListHead | DictHead)
    ]


def _reaching(graphdef: GraphDef, places: Iterable[int]) -> set[int]:
    """All places from which one of `places` is reached, these included."""
    found = set(places)
    pending = list(found)
    while pending:
        for parent, _ in graphdef.references[pending.pop()]:
            if parent not in found:
                found.add(parent)
                pending.append(parent)
    return found
