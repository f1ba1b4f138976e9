"""Finding live objects in a graph: `states`, `nodes` and `shared`."""

from collections.abc import Sequence
from typing import Any, overload

from graphstate.filters import Filter, lasting_key, to_predicate

from ._graphdef import GraphDef
from ._heads import NodeHead
from ._layout import LiveRecord
from ._mapping import PathMapping, Places
from ._path import Path
from ._selection import check_order
from ._state import State
from ._walked import Walked, walk

__all__ = ["nodes", "select_places", "shared", "states"]


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
    flat = walk(node)
    found: list[PathMapping[State]] = [
        PathMapping(flat.graphdef, places, flat.objects) for places in select_places(flat, filters or (...,))
    ]
    return found[0] if len(found) == 1 else tuple(found)


def select_places(flat: Walked, filters: Sequence[Filter]) -> Sequence[Places]:
    """For each filter the places of the States that it is the first to match."""
    return flat.graphdef.kept.get(lasting_key(filters), lambda: _looked_up(flat, filters))


def _looked_up(flat: Walked, filters: Sequence[Filter]) -> Sequence[Places]:
    graph = flat.graphdef
    check_order(filters)
    if len(filters) == 1 and filters[0] is ...:
        return [Places(graph.state_places)]
    predicates = [to_predicate(each) for each in filters]
    found: list[list[int]] = [[] for _ in filters]
    for place in graph.state_places:
        paths = graph.paths(place)
        record = LiveRecord(flat.objects[place])
        for places, predicate in zip(found, predicates, strict=True):
            if predicate.matches(paths, record):
                places.append(place)
                break
    return [Places(places) for places in found]


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
    key = (nodes, types) if all(type(each) is type for each in types) else None
    places = flat.graphdef.kept.get(key, lambda: _places_of_nodes(flat, types))
    return PathMapping(flat.graphdef, places, flat.objects)


def _places_of_nodes(flat: Walked, types: tuple[type, ...]) -> Places:
    wanted = types or (object,)
    heads = flat.graphdef.heads
    return Places(
        [
            place
            for place, item in enumerate(flat.objects)
            if isinstance(heads[place], NodeHead) and isinstance(item, wanted)
        ]
    )


def shared(node: Any) -> dict[Path, tuple[Path, ...]]:
    """The Nodes, States, lists, dicts and partials that are reached in more than one way.

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
