"""`pop`: taking States out of an object graph."""

from collections.abc import Iterable, Sequence
from typing import Any, overload

from graphstate.errors import FilterError, StructureError, some_of
from graphstate.filters import Filter

from ._foreign import foreign_type
from ._graphstate import GraphState
from ._heads import DictHead, ListHead, NodeHead
from ._layout import layout_of
from ._node import Node, check_changeable
from ._path import Part, as_part, write_path
from ._select import select_places
from ._split import leaf_value
from ._walked import Walked, walk

__all__ = ["pop"]


@overload
def pop(node: Any, one: Filter, /) -> GraphState: ...
@overload
def pop(node: Any, one: Filter, two: Filter, /, *more: Filter) -> tuple[GraphState, ...]: ...
def pop(node: Any, *filters: Filter) -> GraphState | tuple[GraphState, ...]:
    """Removes States from a graph, wherever they are held, and returns their values.

    A State is removed with all its aliases: from attributes, dicts and lists, where what follows moves up.

    Args:
        node: a Node, or any pytree of Nodes and States.
        filters: what to remove; with several, one GraphState comes for each, first match wins.

    Raises:
        FilterError: there is no filter, or `...` is not the last one.
        StructureError: a State that is selected is held by a tuple, or by nothing; nothing was changed.
        TraceContextError: a Node was made outside of the trace in progress.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> cell = gs.Node()
        >>> cell.weight, cell.hidden = gs.ParamState(jnp.ones(2)), gs.HiddenState(jnp.zeros(2))
        >>> gs.pop(cell, gs.HiddenState)["hidden"].shape
        (2,)
        >>> hasattr(cell, "hidden")
        False
    """
    if not filters:
        raise FilterError(
            "`pop` needs a filter that says what to remove, but none came. `pop(node, ...)` removes all States."
        )
    flat = walk(node)
    found = select_places(flat, filters)
    popped = tuple(_graphstate(flat, places.numbers) for places in found)
    _remove(flat, [place for places in found for place in places.numbers])
    return popped[0] if len(popped) == 1 else popped


def _graphstate(flat: Walked, places: Sequence[int]) -> GraphState:
    wanted = set(places)
    indices = [index for index, place in enumerate(flat.graphdef.leaves) if place in wanted]
    return GraphState._make(
        layout_of(flat.graphdef).select(indices), [leaf_value(flat.objects[place]) for place in places]
    )


def _remove(flat: Walked, places: Iterable[int]) -> None:
    graphdef = flat.graphdef
    ways = [(parent, part) for place in places for parent, part in graphdef.references[place] or [(-1, "")]]
    stuck = [
        way for way in ways if way[0] < 0 or not isinstance(graphdef.heads[way[0]], NodeHead | ListHead | DictHead)
    ]
    if stuck:
        lines = [write_path((*graphdef.path(parent), part)) if parent >= 0 else "(root)" for parent, part in stuck]
        raise StructureError(
            "`pop` removes States from Nodes, lists and dicts, but these are held by something that cannot be "
            f"changed:\n"
            f"{some_of(lines)}\nNothing was removed. Keep them in a list, or leave them out with a narrower filter.",
            lines,
        )
    for parent, part in ways:
        if isinstance(flat.objects[parent], Node):
            check_changeable(flat.objects[parent], str(part))
    # From the end of each list on, so that the indices before it stay what they are.
    for parent, part in sorted(ways, key=lambda way: (way[0], way[1] if type(way[1]) is int else 0), reverse=True):
        _remove_part(flat, parent, part)


def _remove_part(flat: Walked, parent: int, part: Part) -> None:
    holder = flat.objects[parent]
    match flat.graphdef.heads[parent]:
        case NodeHead(type=cls):
            remove = delattr if foreign_type(cls) is not None else Node.__delattr__
            remove(holder, str(part))
        case ListHead():
            del holder[part]
        case DictHead(keys=keys):
            del holder[next(key.value for key in keys if as_part(key.value) == part)]
