"""`GraphDef`: the structure of a graph, without its values."""

from collections.abc import Sequence
from typing import Any

import jax

from graphstate.errors import StructureError

from ._heads import (
    ArrayHead,
    DictHead,
    Head,
    ListHead,
    MethodHead,
    NodeHead,
    PartialHead,
    PytreeHead,
    StateHead,
    TupleHead,
    WrapperHead,
)
from ._kept import Kept
from ._path import Part, Path, as_part, follow, part_order, path_from, show_path
from ._ways import Paths, References, Ways

__all__ = ["GraphDef", "child_parts"]


@jax.tree_util.register_static
class GraphDef:
    """The structure of an object graph: types, sharing, cycles, containers and static values.

    Hashable, comparable, picklable, and a pytree without leaves. Places are numbered in the order of traversal:
    depth first, a parent before its children, attribute names and keys sorted, an object where it is first met.

    Attributes:
        heads: what stands at each place.
        children: for each place the numbers of its children.

    Example:
        >>> import graphstate as gs
        >>> gs.graphdef(gs.nn.Linear(2, 3)) == gs.graphdef(gs.nn.Linear(2, 3))
        True
    """

    __slots__ = ("__weakref__", "_cache", "_hash", "children", "heads")

    def __init__(self, heads: tuple[Head, ...], children: tuple[tuple[int, ...], ...]) -> None:
        self.heads = heads
        self.children = children
        self._hash: int | None = None
        self._cache: dict[str, Any] = {}

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, GraphDef)
            and self.children == other.children
            and hash(self) == hash(other)
            and self.heads == other.heads
        )

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.heads, self.children))
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return GraphDef, (self.heads, self.children)

    def __copy__(self) -> "GraphDef":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "GraphDef":
        return self

    def __repr__(self) -> str:
        from ._text import render_graphdef  # the renderer reads this module's types

        return render_graphdef(self)

    @property
    def leaves(self) -> tuple[int, ...]:
        """The places of States and arrays, in order."""
        return self._cached("leaves", _leaves)  # type: ignore[no-any-return]

    @property
    def edges(self) -> tuple[tuple[int, Part], ...]:
        """For each place, the parent that it was first met under and its part of the path; the root's is (-1, "")."""
        return self._cached("edges", _edges)  # type: ignore[no-any-return]

    @property
    def references(self) -> References:
        """For each place every (parent, part) that leads to it, the first one met first."""
        return self._cached("references", _references)  # type: ignore[no-any-return]

    def path(self, place: int) -> Path:
        """The first path of a place."""
        return path_from(self.edges, place, 0)

    def paths(self, place: int) -> Paths:
        """All paths of a place that pass no place twice, the first path first; written out when they are looked at."""
        if self.is_tree:
            return Paths(lambda: (self.path(place),))
        ways: Ways = self._cached("ways", lambda graph: Ways(graph.references))
        return Paths(lambda: ways.paths(place))

    @property
    def is_tree(self) -> bool:
        """Whether no place is reached in two ways."""
        return self._cached("is_tree", lambda graph: sum(map(len, graph.children)) == len(graph.heads) - 1)  # type: ignore[no-any-return]

    @property
    def build_order(self) -> tuple[int, ...]:
        """The places of what can only be made from its children (tuples, other pytrees, ...), children first."""
        return self._cached("build_order", _build_order)  # type: ignore[no-any-return]

    def find(self, path: Path, start: int = 0) -> int | None:
        """The place that a path leads to from `start`, whatever way it takes; 0 and "0" are one part."""
        return follow(self._cached("steps", _steps), start, path, joined=self._cached("joined", _has_slashes))

    def reachable(self, start: int) -> set[int]:
        """The places that are reached from `start`, itself included."""
        found, pending = {start}, [start]
        while pending:
            for child in self.children[pending.pop()]:
                if child not in found:
                    found.add(child)
                    pending.append(child)
        return found

    def parts(self, place: int) -> tuple[Part, ...]:
        """The path parts of the children of a place, in their order."""
        head = self.heads[place]
        if isinstance(head, ListHead | TupleHead):
            return tuple(range(len(self.children[place])))
        return child_parts(head)

    @property
    def state_places(self) -> Sequence[int]:
        """The places of the States, in order."""
        return self._cached("state_places", _state_places)  # type: ignore[no-any-return]

    @property
    def only_states(self) -> bool:
        """Whether all leaves are States."""
        return len(self.state_places) == len(self.leaves)

    @property
    def kept(self) -> Kept:
        """What was looked up for this structure."""
        return self._cached("kept", Kept)  # type: ignore[no-any-return]

    def _cached(self, name: str, compute: Any) -> Any:
        value = self._cache.get(name)
        if value is None:
            value = self._cache[name] = compute(self)
        return value


def child_parts(head: Head) -> tuple[Part, ...]:
    """The path parts of the children of `head`, in their order; for a list or tuple, none: they count from 0."""
    match head:
        case NodeHead(names=names):
            return names
        case DictHead(keys=keys):
            return tuple(as_part(key.value) for key in keys)
        case PytreeHead(parts=parts):
            return parts
        case MethodHead():
            return ("__self__",)
        case WrapperHead():
            return ("__wrapped__",)
        case PartialHead(positional=positional, names=names):
            return ("func", *range(positional), *names)
        case _:
            return ()


def _state_places(graph: GraphDef) -> tuple[int, ...]:
    return tuple(place for place in graph.leaves if isinstance(graph.heads[place], StateHead))


def _leaves(graph: GraphDef) -> tuple[int, ...]:
    return tuple([place for place, head in enumerate(graph.heads) if isinstance(head, StateHead | ArrayHead)])


def _edges(graph: GraphDef) -> tuple[tuple[int, Part], ...]:
    # Places are numbered in the order in which they were met, so that the first way to a place is the one from the
    # last place before it that leads to it: the walk was below that one, and nowhere else, when it met the place.
    edges: list[tuple[int, Part]] = [(-1, "")] * len(graph.heads)
    for place, children in enumerate(graph.children):
        if children:
            _note_edges(graph, place, children, edges)
    return tuple(edges)


def _note_edges(graph: GraphDef, place: int, children: tuple[int, ...], edges: list[tuple[int, Part]]) -> None:
    ways = list(zip(graph.parts(place), children, strict=True))
    if len(set(children)) < len(children):
        ways.sort(key=_by_part, reverse=True)
    for part, child in ways:
        if child > place:
            edges[child] = (place, part)


def _by_part(item: tuple[Part, int]) -> tuple[int, Part]:
    return part_order(item[0])


def _references(graph: GraphDef) -> tuple[tuple[tuple[int, Part], ...], ...]:
    edges = graph.edges
    found: list[list[tuple[int, Part]]] = [[] for _ in graph.heads]
    for place, children in enumerate(graph.children):
        for part, child in zip(graph.parts(place), children, strict=True):
            way = (place, part)
            if way == edges[child]:
                found[child].insert(0, way)
            else:
                found[child].append(way)
    return tuple(map(tuple, found))


def _build_order(graph: GraphDef) -> tuple[int, ...]:
    made = {place for place, head in enumerate(graph.heads) if isinstance(head, _MADE_FROM_CHILDREN)}
    order: dict[int, None] = {}
    for start in sorted(made):
        pending, begun = [start], set[int]()
        while pending:
            place = pending[-1]
            missing = [child for child in graph.children[place] if child in made and child not in order]
            if place in order or not missing:
                order[pending.pop()] = None
            elif place in begun:
                raise _made_of_itself(graph, place)
            else:
                begun.add(place)
                pending += missing
    return tuple(order)


def _made_of_itself(graph: GraphDef, place: int) -> StructureError:
    return StructureError(
        f"A cycle of a graph must pass a Node, a list or a dict, but the pytree at {show_path(graph.path(place))} is "
        "made of itself. Make its class a `Node`, or register it with `graph.register_node_type`."
    )


_MADE_FROM_CHILDREN = (TupleHead, PytreeHead, MethodHead, WrapperHead, PartialHead)


def _steps(graph: GraphDef) -> dict[tuple[int, str], int]:
    return {
        (place, str(part)): child
        for place, children in enumerate(graph.children)
        for part, child in zip(graph.parts(place), children, strict=True)
    }


def _has_slashes(graph: GraphDef) -> bool:
    return any("/" in part for _, part in graph.edges if type(part) is str)
