"""Finding live objects in a graph: `states`, `nodes` and `shared`."""

from collections.abc import Sequence
from typing import Any, overload

from graphstate.filters import Filter, to_predicate

from ._flatten import Flat
from ._graphdef import GraphDef
from ._heads import NodeHead, StateHead
from ._layout import LiveRecord, check_order
from ._mapping import PathMapping
from ._path import Path
from ._plan import walk
from ._state import State

__all__ = ["nodes", "select_places", "select_states", "shared", "states"]


@overload
def states(node: Any) -> PathMapping[State]: ...
@overload
def states(node: Any, one: Filter, /) -> PathMapping[State]: ...
@overload
def states(node: Any, one: Filter, two: Filter, /, *more: Filter) -> tuple[PathMapping[State], ...]: ...
def states(node: Any, *filters: Filter) -> PathMapping[State] | tuple[PathMapping[State], ...]:
    """The live States of a graph, each once, at its first path.

    Args:
        node: a Node, or any pytree of Nodes and States.
        filters: what to select; with several a tuple of mappings, first match wins, and the rest is left out.

    Raises:
        FilterError: `...` is not the last filter.

    Example:
        >>> import graphstate as gs
        >>> layer = gs.nn.Linear(2, 3)
        >>> gs.states(layer)["weight"] is layer.weight
        True
    """
    found = select_states(walk(node), filters or (...,))
    return found[0] if len(found) == 1 else found


def select_states(flat: Flat, filters: Sequence[Filter]) -> tuple[PathMapping[State], ...]:
    """For each filter the States that it is the first to match."""
    found = select_places(flat, filters)
    return tuple(PathMapping(flat.graphdef, places, [flat.objects[place] for place in places]) for places in found)


def select_places(flat: Flat, filters: Sequence[Filter]) -> list[list[int]]:
    """For each filter the places of the States that it is the first to match."""
    if len(filters) == 1 and filters[0] is ...:
        return [list(flat.graphdef.state_places)]
    check_order(filters)
    predicates = [to_predicate(each) for each in filters]
    found: list[list[int]] = [[] for _ in filters]
    graph = flat.graphdef
    for place in graph.leaves:
        if not isinstance(graph.heads[place], StateHead):
            continue
        paths = graph.paths(place)
        record = LiveRecord(flat.objects[place])
        for places, predicate in zip(found, predicates, strict=True):
            if predicate.matches(paths, record):
                places.append(place)
                break
    return found


def nodes(node: Any, *types: type) -> PathMapping[Any]:
    """The Nodes of a graph, each once, at its first path; the root's is `()`.

    Args:
        node: a Node, or any pytree of Nodes and States.
        types: classes to select; without any, all Nodes.

    Example:
        >>> import graphstate as gs
        >>> model = gs.nn.Sequential(gs.nn.Linear(2, 3), gs.nn.Linear(3, 1))
        >>> len(gs.nodes(model, gs.nn.Linear))
        2
    """
    flat = walk(node)
    wanted = types or (object,)
    found = [
        place
        for place, item in enumerate(flat.objects)
        if isinstance(flat.graphdef.heads[place], NodeHead) and isinstance(item, wanted)
    ]
    return PathMapping(flat.graphdef, found, [flat.objects[place] for place in found])


def shared(node: Any) -> dict[Path, tuple[Path, ...]]:
    """The Nodes, States, lists and dicts that are reached in more than one way.

    What lies under a shared object is not listed again.

    Args:
        node: a Node, a GraphDef, or any pytree of Nodes and States.

    Returns:
        The first path of each, and its other paths.

    Example:
        >>> import graphstate as gs
        >>> tied = gs.Node()
        >>> tied.a = gs.State(1.0)
        >>> tied.b = tied.a
        >>> gs.shared(tied)
        {('a',): (('b',),)}
    """
    graph = node if isinstance(node, GraphDef) else walk(node).graphdef
    found = {}
    for place, references in enumerate(graph.references):
        others = references[1:] if place else references
        if others:
            found[graph.path(place)] = tuple((*graph.path(parent), part) for parent, part in others)
    return found
