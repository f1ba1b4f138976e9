"""`update`: new values into an object graph that is there; all of them, or none."""

import operator
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._compat import Tracer
from graphstate._trace import commit, is_lost, outer_value, pack, peek, unpack
from graphstate.errors import StateTypeError, UpdateError, some_of

from ._flatten import Flat
from ._graphdef import GraphDef
from ._graphstate import GraphState
from ._heads import ArrayHead, ListHead, StateHead, StaticHead, TupleHead
from ._layout import layout_of
from ._path import Path, show_path, split_key, write_path
from ._plan import walk
from ._replace import Replacement
from ._state import State, is_out_of_reach
from ._summary import summarize_value

__all__ = ["update"]


class _Given(NamedTuple):
    """One value that was given: the path, where it leads in the graph (None for nowhere), and the value."""

    path: Path
    place: int | None
    value: Any


def update(node: Any, *states: GraphState | Mapping[Any, Any], strict: bool = True) -> None:
    """Writes new values into a graph; the objects stay the same ones.

    A part of the paths will do, and a shared State may be named by any of its paths.

    Args:
        node: a Node, or any pytree of Nodes and States.
        states: GraphStates, or nested dicts of arrays, where `"0"` stands for the index 0 too.
        strict: False skips paths that the graph does not have.

    Raises:
        UpdateError: unknown paths, other shapes or dtypes, or two values for one State; nothing was changed.
        StructureError: an array lies in a tuple (or tuples in it) that no Node, list or dict holds.
        TraceContextError: a State or Node is written where its trace does not reach.

    Example:
        >>> import graphstate as gs, jax
        >>> model = gs.nn.Linear(2, 3)
        >>> gs.update(model, jax.tree.map(lambda x: 0 * x, gs.state(model)))
        >>> gs.update(model, {"bias": jax.numpy.ones(3)})
        >>> model.bias.value.sum().item(), model.weight.value.sum().item()
        (3.0, 0.0)
    """
    flat = walk(node)
    wanted: dict[int, Any] = {}
    differences = []
    for path, place, value in _resolve(flat.graphdef, states):
        if place is None:
            differences += [f"{write_path(path)}: unknown"] if strict else []
            continue
        difference = _difference(flat, place, value)
        if difference is None and place in wanted and not _is_equal(wanted[place], value):
            difference = (
                f"given twice, with different values (it is the same as {show_path(flat.graphdef.path(place))})"
            )
        if difference is not None:
            differences.append(f"{write_path(path or flat.graphdef.path(place)) or '(root)'}: {difference}")
        wanted[place] = value
    if differences:
        raise UpdateError(
            f"`update` needs values that fit the graph, but these do not:\n{some_of(differences)}\n"
            "Nothing was changed. Write another shape or dtype with `state.value = ...`; `strict=False` skips "
            "unknown paths.",
            differences,
        )
    _write(flat, wanted)


def _write(flat: Flat, wanted: Mapping[int, Any]) -> None:
    heads = flat.graphdef.heads
    adapted = {place: _adapted(_current(flat, place), value) for place, value in wanted.items()}
    arrays = {place: value for place, value in adapted.items() if isinstance(heads[place], ArrayHead)}
    replacement = Replacement(flat.graphdef, flat.objects, arrays)
    commit([(flat.objects[place], pack(value)) for place, value in adapted.items() if place not in arrays])
    replacement.apply()


# Where the values go


def _resolve(graphdef: GraphDef, states: tuple[GraphState | Mapping[Any, Any], ...]) -> Iterator[_Given]:
    for each in states:
        if isinstance(each, GraphState):
            yield from _resolve_graphstate(graphdef, each)
        elif isinstance(each, Mapping):
            yield from _resolve_mapping(graphdef, each)
        else:
            raise StateTypeError(
                f"`update` takes GraphStates and nested dicts, but a {type(each).__name__} came. "
                "Take the values of a Node with `state(node)`."
            )


def _resolve_graphstate(graphdef: GraphDef, state: GraphState) -> Iterator[_Given]:
    layout = state._layout
    if layout == layout_of(graphdef):
        for place, value in zip(graphdef.leaves, state._values, strict=True):
            yield _Given((), place, value)
        return
    places: list[int | None] = []
    for parent, part in layout.edges:
        above = places[parent] if parent >= 0 else 0
        places.append(None if above is None else graphdef.find((part,), above))
    for index, ((row, _), value) in enumerate(zip(layout.leaves, state._values, strict=True)):
        path = layout.path(index)
        found = places[row] if row >= 0 else 0
        yield _Given(path, graphdef.find(path) if found is None else found, value)


def _resolve_mapping(graphdef: GraphDef, values: Mapping[Any, Any]) -> Iterator[_Given]:
    pending: list[_Given] = [_Given((), 0, values)]
    while pending:
        path, place, value = pending.pop()
        items = _items_of(graphdef, place, value) if path else list(values.items())
        if items is None:
            yield _Given(path, place, value)
            continue
        for key, item in reversed(items):
            parts = split_key(key)
            full = (*path, *parts)
            below = None if place is None else graphdef.find(parts, place)
            pending.append(_Given(full, graphdef.find(full) if below is None else below, item))


def _items_of(graphdef: GraphDef, place: int | None, value: Any) -> list[tuple[Any, Any]] | None:
    """What a part of a nested mapping leads on to; None for a value."""
    head = None if place is None else graphdef.heads[place]
    if isinstance(head, StateHead):
        return None
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(head, ListHead | TupleHead) and isinstance(value, list | tuple):
        return list(enumerate(value))
    return None


# Whether they fit


def _current(flat: Flat, place: int) -> Any:
    leaf = flat.objects[place]
    if not isinstance(leaf, State):
        return leaf
    if is_lost(leaf):
        return peek(leaf)  # its types: a State that has lost its value must fit, too
    return None if is_out_of_reach(leaf) else unpack(outer_value(leaf))


def _difference(flat: Flat, place: int, value: Any) -> str | None:
    """What of `value` does not fit; None where it does."""
    head = flat.graphdef.heads[place]
    if isinstance(head, StaticHead):
        return "a static value, which is no part of the state; set the attribute"
    if not isinstance(head, StateHead | ArrayHead):
        return f"a {type(flat.objects[place]).__name__}, but one value came for it"
    if isinstance(head, StateHead) and is_out_of_reach(flat.objects[place]):
        return None
    present = _current(flat, place)
    if _same_structure(present, value) and all(map(_fits, jax.tree.leaves(present), jax.tree.leaves(value))):
        return None
    return f"needs {summarize_value(present)}, got {summarize_value(value)}"


def _same_structure(first: Any, second: Any) -> bool:
    return bool(operator.eq(jax.tree.structure(first), jax.tree.structure(second)))


def _fits(present: Any, given: Any) -> bool:
    if hasattr(given, "shape") and hasattr(given, "dtype"):
        if hasattr(present, "dtype"):
            return bool(np.shape(present) == np.shape(given) and present.dtype == given.dtype)
        return np.shape(given) == () and _is_kind(given.dtype, present)
    if hasattr(present, "dtype"):
        return np.shape(present) == () and _is_kind(present.dtype, given)
    return type(present) is type(given)


def _is_kind(dtype: Any, number: Any) -> bool:
    """Whether an array of `dtype` is of the kind of a Python number."""
    for kind, family in ((bool, jnp.bool_), (int, jnp.integer), (float, jnp.floating), (complex, jnp.complexfloating)):
        if isinstance(number, kind):
            return bool(jnp.issubdtype(dtype, family))
    return False


def _is_equal(first: Any, second: Any) -> bool:
    """Whether two values are the same; tracers are only where they are one."""
    leaves = jax.tree.leaves(first), jax.tree.leaves(second)
    return _same_structure(first, second) and all(map(_is_same_array, *leaves))


def _is_same_array(first: Any, second: Any) -> bool:
    if first is second:
        return True
    if isinstance(first, Tracer | jax.ShapeDtypeStruct) or isinstance(second, Tracer | jax.ShapeDtypeStruct):
        return isinstance(first, jax.ShapeDtypeStruct) and bool(first == second)
    one, two = (np.asarray(jax.random.key_data(each) if _is_key(each) else each) for each in (first, second))
    return np.array_equal(one, two, equal_nan=one.dtype.kind in "fc")


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _adapted(present: Any, given: Any) -> Any:
    """`given` as the State holds its values: a jax array for one of jax, a numpy array for one of numpy."""
    if present is None:
        return given
    return jax.tree.map(_adapted_array, present, given)


def _adapted_array(present: Any, given: Any) -> Any:
    if isinstance(present, np.ndarray) and isinstance(given, jax.Array) and not isinstance(given, Tracer):
        return np.asarray(given)
    if isinstance(present, jax.Array) and not isinstance(given, jax.Array | jax.ShapeDtypeStruct):
        return jnp.asarray(given, present.dtype)
    return given
