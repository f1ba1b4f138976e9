"""`update`: new values into an object graph that is there; all of them, or none."""

import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._compat import ArrayImpl, Tracer
from graphstate._trace import commit, is_lost, is_tracing, outer_value, pack, peek, unpack
from graphstate.errors import StateTypeError, UpdateError, some_of

from ._graphdef import GraphDef
from ._graphstate import GraphState
from ._heads import ArrayHead, ListHead, StateHead, StaticHead, TupleHead
from ._layout import Layout, layout_of
from ._path import Path, show_path, split_key, write_path
from ._replace import Replacement
from ._state import State, is_out_of_reach
from ._summary import summarize_value
from ._walked import Walked, walk

__all__ = ["update"]


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
    alike: dict[int, Any] = {}
    others: dict[int, Any] = {}
    differences = []
    is_plain = not is_tracing()
    for given in states:
        for path, place, value in _resolve(flat.graphdef, given):
            if place is None:
                differences += [f"{_written(given, path)}: unknown"] if strict else []
            elif is_plain and place not in alike and place not in others and _is_alike(flat.objects[place], value):
                alike[place] = value
            else:
                known = alike if place in alike else others
                difference = _difference(flat, place, value) or _conflict(flat, place, value, known)
                if difference is not None:
                    shown = _written(given, path) or write_path(flat.graphdef.path(place)) or "(root)"
                    differences.append(f"{shown}: {difference}")
                known[place] = value
    if differences:
        raise UpdateError(
            f"`update` needs values that fit the graph, but these do not:\n{some_of(differences)}\n"
            "Nothing was changed. Write another shape or dtype with `state.value = ...`; `strict=False` skips "
            "unknown paths.",
            differences,
        )
    _write(flat, alike, others)


def _write(flat: Walked, alike: Mapping[int, Any], others: Mapping[int, Any]) -> None:
    heads, objects = flat.graphdef.heads, flat.objects
    adapted = {place: _adapted(_current(flat, place), value) for place, value in others.items()}
    arrays = {place: value for place, value in adapted.items() if isinstance(heads[place], ArrayHead)}
    replacement = Replacement(flat.graphdef, objects, arrays)
    writes = [(objects[place], value) for place, value in alike.items()]
    writes += [(objects[place], pack(value)) for place, value in adapted.items() if place not in arrays]
    commit(writes)
    replacement.apply()


# Where the values go


def _resolve(graphdef: GraphDef, given: Any) -> Iterable[tuple[Path | int, int | None, Any]]:
    """Each value with its path (or its number in a GraphState), and where that leads in the graph: None for nowhere."""
    if isinstance(given, GraphState):
        layout = given._layout
        places = graphdef.kept.get((update, layout), lambda: _places_of(graphdef, layout))
        return zip(itertools.count(), places, given._values, strict=False)
    if isinstance(given, Mapping):
        return _resolve_mapping(graphdef, given)
    raise StateTypeError(
        f"`update` takes GraphStates and nested dicts, but a {type(given).__name__} came. "
        "Take the values of a Node with `state(node)`."
    )


def _written(given: Any, path: Path | int) -> str:
    return write_path(given._layout.path(path) if isinstance(path, int) else path)


def _places_of(graphdef: GraphDef, layout: Layout) -> Sequence[int | None]:
    """Where the paths of a layout lead in the graph."""
    if layout == layout_of(graphdef):
        return graphdef.leaves
    places: list[int | None] = []
    for parent, part in layout.edges:
        above = places[parent] if parent >= 0 else 0
        places.append(None if above is None else graphdef.find((part,), above))
    found: list[int | None] = []
    for index, (row, _) in enumerate(layout.leaves):
        place = places[row] if row >= 0 else 0
        found.append(graphdef.find(layout.path(index)) if place is None else place)
    return found


def _resolve_mapping(graphdef: GraphDef, values: Mapping[Any, Any]) -> Iterator[tuple[Path, int | None, Any]]:
    pending: list[tuple[Path, int | None, Any]] = [((), 0, values)]
    while pending:
        path, place, value = pending.pop()
        items = _items_of(graphdef, place, value) if path else list(values.items())
        if items is None:
            yield path, place, value
            continue
        for key, item in reversed(items):
            parts = split_key(key)
            full = (*path, *parts)
            below = None if place is None else graphdef.find(parts, place)
            pending.append((full, graphdef.find(full) if below is None else below, item))


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


def _is_alike(leaf: Any, value: Any) -> bool:
    """Whether a State holds an array and `value` is one of the same shape and dtype, where nothing is being traced."""
    if type(value) is not ArrayImpl or not isinstance(leaf, State):
        return False
    present = getattr(leaf, "_value", None)
    if type(present) is not ArrayImpl:
        return False
    before, after = present.aval, value.aval
    return bool(before.shape == after.shape and before.dtype == after.dtype)


def _current(flat: Walked, place: int) -> Any:
    leaf = flat.objects[place]
    if not isinstance(leaf, State):
        return leaf
    if is_lost(leaf):
        return peek(leaf)  # its types: a State that has lost its value must fit, too
    return None if is_out_of_reach(leaf) else unpack(outer_value(leaf))


def _difference(flat: Walked, place: int, value: Any) -> str | None:
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


def _conflict(flat: Walked, place: int, value: Any, known: Mapping[int, Any]) -> str | None:
    """What tells `value` from another that came for the same State; None where there is none, or it is equal."""
    if place not in known or _is_equal(known[place], value):
        return None
    return f"given twice, with different values (it is the same as {show_path(flat.graphdef.path(place))})"


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
