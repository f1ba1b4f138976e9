"""`split` and `merge`: an object graph into structure and values, and back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, overload

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._compat import ArrayImpl
from graphstate._trace import pack
from graphstate.errors import StateTypeError, UpdateError, some_of
from graphstate.filters import Filter

from ._flatten import unflatten
from ._graphdef import GraphDef
from ._graphstate import GraphState
from ._heads import StateHead
from ._layout import Layout, layout_of
from ._picker import Pick, picker
from ._plan import read_arrays
from ._selection import check_exhaustive, partition
from ._state import State
from ._walked import walk

__all__ = ["graphdef", "leaf_value", "merge", "split", "state"]


def split(node: Any, *filters: Filter) -> tuple[Any, ...]:
    """Takes a graph apart into its structure and its values.

    Args:
        node: a Node, or any pytree of Nodes and States.
        filters: without any, all values come in one GraphState; with filters, in one each, first match wins.

    Returns:
        `(GraphDef, GraphState, ...)`.

    Raises:
        FilterError: a State is matched by no filter, or `...` is not the last one.
        StructureError: the graph holds a static value that cannot be hashed.

    Example:
        >>> import graphstate as gs
        >>> graphdef, params, rest = gs.split(gs.nn.Linear(2, 3), gs.ParamState, ...)
        >>> len(params), len(rest)
        (2, 0)
        >>> gs.merge(graphdef, params, rest).weight.value.shape
        (2, 3)
    """
    flat = walk(node)
    layout = layout_of(flat.graphdef)
    values = _values(flat.leaves, layout)
    if not filters:
        return flat.graphdef, GraphState._make(layout, values)
    parts = partition(layout, values, filters)
    check_exhaustive(layout, parts, "split")
    return flat.graphdef, *(GraphState._make(part.layout, part.pick(values)) for part in parts)


def merge(graphdef: GraphDef, *states: GraphState | Mapping[Any, Any]) -> Any:
    """Builds a fresh graph of this structure, with the same sharing and cycles, that holds these values.

    Args:
        graphdef: the structure.
        states: GraphStates, or nested dicts, that together have a value for each State and array.

    Raises:
        UpdateError: a path is missing, unknown, or given twice.
        StateTypeError: something else than a GraphDef, GraphStates and dicts was given.

    Example:
        >>> import graphstate as gs, jax
        >>> graphdef, state = gs.split(gs.nn.Linear(2, 3))
        >>> doubled = gs.merge(graphdef, jax.tree.map(lambda x: 2 * x, state))
    """
    _check_parts(graphdef, states)
    layout = layout_of(graphdef)
    if len(states) == 1 and isinstance(states[0], GraphState) and states[0]._layout is layout:
        values: Sequence[Any] = states[0]._values
    else:
        parts = [each if isinstance(each, GraphState) else GraphState.from_dict(each, like=graphdef) for each in states]
        pick = graphdef.kept.get((merge, *(part._layout for part in parts)), lambda: _joined(layout, parts))
        values = pick([value for part in parts for value in part._values])
    return unflatten(graphdef, _packed(graphdef, values))[0]


@overload
def state(node: Any) -> GraphState: ...
@overload
def state(node: Any, one: Filter, /) -> GraphState: ...
@overload
def state(node: Any, one: Filter, two: Filter, /, *more: Filter) -> tuple[GraphState, ...]: ...
def state(node: Any, *filters: Filter) -> GraphState | tuple[GraphState, ...]:
    """The values of a graph; with filters, those that they select, and the rest is left out.

    Args:
        node: a Node, or any pytree of Nodes and States.
        filters: with several, one GraphState comes for each, first match wins.

    Raises:
        FilterError: `...` is not the last filter.

    Example:
        >>> import graphstate as gs
        >>> sorted(gs.state(gs.nn.Linear(2, 3), gs.ParamState).to_dict())
        ['bias', 'weight']
    """
    flat = walk(node)
    leaves, layout = flat.leaves, layout_of(flat.graphdef)
    # What no filter selects is not read: in a lane that would split a stream of random keys.
    if not filters:
        return GraphState._make(layout, _values(leaves, layout))
    parts = tuple(
        GraphState._make(part.layout, _values(part.pick(leaves), part.layout))
        for part in partition(layout, leaves, filters)
    )
    return parts[0] if len(parts) == 1 else parts


def graphdef(node: Any) -> GraphDef:
    """The structure of a graph.

    Args:
        node: a Node, a GraphDef, or any pytree of Nodes and States.

    Example:
        >>> import graphstate as gs
        >>> gs.graphdef(gs.nn.Linear(2, 3)) == gs.graphdef(gs.nn.Linear(2, 4))
        False
    """
    return node if isinstance(node, GraphDef) else walk(node).graphdef


def leaf_value(leaf: Any) -> Any:
    """The value of a State, or the array itself, as a pytree of arrays."""
    value = _read(leaf) if isinstance(leaf, State) else leaf
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, np.ndarray):
        return value.copy()
    return jax.tree.map(_as_array, value)


_read: Final[Callable[[State], Any]] = State.value.fget  # type: ignore[attr-defined] # a subclass may have a `value` of its own


def _as_array(value: Any) -> Any:
    return value if hasattr(value, "shape") else jnp.asarray(value)


def _values(leaves: Sequence[Any], layout: Layout) -> list[Any]:
    arrays = read_arrays(leaves, layout.only_states)
    return [leaf_value(leaf) for leaf in leaves] if arrays is None else arrays


def _packed(graphdef: GraphDef, values: Sequence[Any]) -> list[Any]:
    if set(map(type, values)) <= {ArrayImpl}:
        return list(values)
    heads = graphdef.heads
    return [
        pack(value) if isinstance(heads[place], StateHead) else value
        for place, value in zip(graphdef.leaves, values, strict=True)
    ]


def _check_parts(graphdef: Any, states: Sequence[Any]) -> None:
    if not isinstance(graphdef, GraphDef):
        raise StateTypeError(
            f"`merge` needs a GraphDef and GraphStates, but a {type(graphdef).__name__} came first. "
            "Write `merge(*split(node))`; to change a Node that is there, use `update(node, state)`."
        )
    for part in states:
        if not isinstance(part, GraphState | Mapping):
            raise StateTypeError(
                f"`merge` takes GraphStates and nested dicts, but a {type(part).__name__} came. "
                "Take the values of a Node with `state(node)`."
            )


def _joined(layout: Layout, parts: Sequence[GraphState]) -> Pick:
    """Picks the values of a graph from those of all parts, one after the other."""
    found: dict[str, int] = {}
    twice: list[str] = []
    before = 0
    for part in parts:
        twice += [text for text in part._layout.rows if text in found]
        found.update((text, before + index) for text, index in part._layout.rows.items())
        before += len(part)
    lines = [f"missing: {text}" for text in layout.rows if text not in found]
    lines += [f"unknown: {text}" for text in found if text not in layout.rows]
    lines += [f"given twice: {text}" for text in twice]
    if lines:
        raise UpdateError(
            f"`merge` needs one value for each of the {len(layout.rows)} paths of the GraphDef, "
            f"but:\n{some_of(lines)}\n"
            "Give all the GraphStates that `split` returned, or change some values with `update` instead.",
            lines,
        )
    return picker([found[text] for text in layout.rows])
