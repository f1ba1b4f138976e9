"""`Layout`: what a `GraphState` has values for; its static part.

A layout keeps the paths as a table of (parent row, part), so that the paths of a chain of ten thousand Nodes cost no
more than the chain; they are written out when somebody asks for one. Further ways to a row stand beside the table.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from graphstate._trace import current_frame, outer_value, unpack
from graphstate.errors import StructureError, UpdateError

from ._axis_names import unnamed
from ._graphdef import GraphDef
from ._heads import ArrayHead, StateHead
from ._kept import Kept
from ._path import Part, Path, follow, part_order, path_from, show_path, write_path
from ._state import State, metadata_in
from ._ways import Paths, Ways

__all__ = [
    "Layout",
    "LeafHead",
    "LiveRecord",
    "Record",
    "layout_of",
    "union",
]

LeafHead: TypeAlias = StateHead | ArrayHead
Edge: TypeAlias = tuple[int, Part]


class Record(NamedTuple):
    """What filters are asked about: a State, or the same attributes read from a `GraphState`."""

    type: type
    tags: frozenset[str]
    metadata: Mapping[str, Any]
    value: Any


class LiveRecord:
    """The record of a live State; its value is read only where a filter asks for it."""

    __slots__ = ("_state", "tags", "type")

    def __init__(self, state: State) -> None:
        self._state = state
        self.type = type(state)
        self.tags = state._tags

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the State was given at construction."""
        return metadata_in(current_frame(), self._state)

    @property
    def value(self) -> Any:
        """What the State holds."""
        return unpack(outer_value(self._state))


def record_of(head: LeafHead, value: Any) -> Record | LiveRecord:
    """The record of a leaf: of a State itself, or of a value or array that stands at such a place."""
    if isinstance(value, State):
        return LiveRecord(value)
    if isinstance(head, ArrayHead):
        return Record(np.ndarray if isinstance(value, np.ndarray) else jax.Array, frozenset(), {}, value)
    return Record(head.type, head.tags, {name: key.value for name, key in head.metadata}, value)


class Layout:
    """The static part of a `GraphState`.

    Attributes:
        edges: a table of (row of the parent or -1, part), parents first.
        leaves: for each value its row in `edges` and its head.
        detours: (row, row of a parent, part) for each further way that leads to a row.
    """

    __slots__ = ("_cache", "_hash", "detours", "edges", "leaves")

    def __init__(
        self,
        edges: tuple[Edge, ...],
        leaves: tuple[tuple[int, LeafHead], ...],
        detours: tuple[tuple[int, int, Part], ...] = (),
    ) -> None:
        self.edges = edges
        self.leaves = leaves
        self.detours = detours
        self._hash: int | None = None
        self._cache: dict[str, Any] = {}

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Layout)
            and self.edges == other.edges
            and hash(self) == hash(other)
            and self.leaves == other.leaves
            and self.detours == other.detours
        )

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.edges, self.leaves, self.detours))
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return Layout, (self.edges, self.leaves, self.detours)

    def __copy__(self) -> "Layout":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Layout":
        return self

    def __repr__(self) -> str:
        return f"Layout({len(self.leaves)} values)"

    @property
    def paths(self) -> list[Path]:
        """The path of each value."""
        return self._cached("paths", lambda: [self.path(index) for index in range(len(self.leaves))])  # type: ignore[no-any-return]

    @property
    def only_states(self) -> bool:
        """Whether all values are those of States."""
        return self._cached("only_states", lambda: all(isinstance(head, StateHead) for _, head in self.leaves))  # type: ignore[no-any-return]

    @property
    def kept(self) -> Kept:
        """What was looked up for this layout."""
        return self._cached("kept", Kept)  # type: ignore[no-any-return]

    @property
    def rows(self) -> dict[str, int]:
        """The index of each value by its written path."""
        return self._cached("rows", lambda: {write_path(path): index for index, path in enumerate(self.paths)})  # type: ignore[no-any-return]

    def path(self, index: int) -> Path:
        """The path of one value."""
        return path_from(self.edges, self.leaves[index][0], -1)

    def all_paths(self, index: int) -> Sequence[Path]:
        """All paths of one value, the first one first; written out when they are looked at."""
        if not self.detours:
            return Paths(lambda: (self.path(index),))
        ways: Ways = self._cached("ways", lambda: Ways(_references(self)))
        return Paths(lambda: ways.paths(self.leaves[index][0] + 1))

    def find(self, path: Path) -> int | None:
        """The index of the value that a path leads to, whatever way it takes; 0 and "0" are one part."""
        row = follow(
            self._cached("steps", lambda: _steps(self)),
            -1,
            path,
            joined=self._cached("joined", lambda: _has_slashes(self)),
        )
        if row is None:
            return None
        index: int | None = self._cached("values", lambda: {row: i for i, (row, _) in enumerate(self.leaves)}).get(row)
        return index

    def select(self, indices: Iterable[int]) -> "Layout":
        """The layout of some of the values, in the same order."""
        chosen = list(indices)
        if len(chosen) == len(self.leaves):
            return self
        return _compact(self.edges, [self.leaves[index] for index in chosen], self.detours)

    def _cached(self, name: str, compute: Any) -> Any:
        value = self._cache.get(name)
        if value is None:
            value = self._cache[name] = compute()
        return value


def _references(layout: Layout) -> list[list[Edge]]:
    """The ways to each row, for `Ways`: row r is place r + 1."""
    found: list[list[Edge]] = [[]]
    found += [[(parent + 1, part)] for parent, part in layout.edges]
    for row, parent, part in layout.detours:
        found[row + 1].append((parent + 1, part))
    return found


def _steps(layout: Layout) -> dict[tuple[int, str], int]:
    steps = {(parent, str(part)): row for row, parent, part in layout.detours}
    steps.update({(parent, str(part)): row for row, (parent, part) in enumerate(layout.edges)})
    return steps


def _has_slashes(layout: Layout) -> bool:
    return any("/" in part for _, part in layout.edges if type(part) is str)


def _compact(
    edges: Sequence[Edge], leaves: Sequence[tuple[int, LeafHead]], detours: Iterable[tuple[int, int, Part]]
) -> Layout:
    """The layout of these leaves, with only the rows that lie on a way to them."""
    ways: dict[int, list[int]] = {}
    for row, parent, _ in detours:
        ways.setdefault(row, []).append(parent)
    needed: set[int] = {-1}
    pending = [row for row, _ in leaves]
    while pending:
        row = pending.pop()
        if row not in needed:
            needed.add(row)
            pending.append(edges[row][0])
            pending += ways.get(row, ())
    rows = sorted(needed)
    number = {row: number - 1 for number, row in enumerate(rows)}
    return Layout(
        tuple([(number[edges[row][0]], edges[row][1]) for row in rows[1:]]),
        tuple([(number[row], head) for row, head in leaves]),
        tuple(
            (number[row], number[parent], part) for row, parent, part in detours if row in needed and parent in needed
        ),
    )


def layout_of(graphdef: GraphDef) -> Layout:
    """The layout of all the values of a graph."""
    return graphdef._cached("layout", _layout_of)  # type: ignore[no-any-return]


def _layout_of(graphdef: GraphDef) -> Layout:
    # Row r of the table is place r + 1 of the graph: the root, which has no part, is left out.
    edges = [(parent - 1, part) for parent, part in graphdef.edges[1:]]
    heads = graphdef.heads
    leaves: list[Any] = [(place - 1, unnamed(heads[place])) for place in graphdef.leaves]
    return _compact(edges, leaves, () if graphdef.is_tree else list(_detours(graphdef)))


def _detours(graphdef: GraphDef) -> Iterable[tuple[int, int, Part]]:
    for place, ways in enumerate(graphdef.references):
        # No path that passes no place twice leads back to the root.
        if place > 0:
            yield from sorted([(place - 1, parent - 1, part) for parent, part in ways[1:]], key=_detour_order)


def _detour_order(way: tuple[int, int, Part]) -> tuple[int, int, tuple[int, Part]]:
    return way[0], way[1], part_order(way[2])


def layout_from_paths(entries: Iterable[tuple[Path, LeafHead]]) -> tuple[Layout, list[int]]:
    """The layout of these paths, and for each of its values the number of its entry."""
    table = _Table()
    for position, (path, head) in enumerate(entries):
        row = -1
        for part in path:
            row = table.child(row, part)
        table.leaves[row] = head, position
    return table.layout()


def union(first: Layout, second: Layout) -> tuple[Layout, list[int]]:
    """The layout of the values of both, and for each its number among those of the first, then the second.

    At a path that both have stands what `second` has there.
    """
    if first == second:
        return second, list(range(len(first.leaves), 2 * len(first.leaves)))
    table = _Table()
    position = 0
    for layout in (first, second):
        rows = {-1: -1}
        for row, (parent, part) in enumerate(layout.edges):
            rows[row] = table.child(rows[parent], part)
        for row, head in layout.leaves:
            table.leaves[rows[row]] = head, position
            position += 1
        table.detours.update(dict.fromkeys((rows[row], rows[parent], part) for row, parent, part in layout.detours))
    joint, order = table.layout()
    if _has_slashes(joint):
        _check_written(joint)
    return joint, order


def _check_written(layout: Layout) -> None:
    known: dict[str, Path] = {}
    for path in layout.paths:
        other = known.setdefault(write_path(path), path)
        if other != path:
            raise StructureError(
                f"The paths of a GraphState must differ when they are written, but {other!r} and {path!r} are both "
                f"written {write_path(path)!r}. Rename one of them, or pass both to `update`, which takes either."
            )


class _Table:
    """The rows of a layout that is being put together, in any order."""

    def __init__(self) -> None:
        self.edges: list[Edge] = []
        self.leaves: dict[int, tuple[LeafHead, int]] = {}
        self.detours: dict[tuple[int, int, Part], None] = {}
        self._children: dict[tuple[int, str], int] = {}

    def child(self, row: int, part: Part) -> int:
        """The row of a part under another row; a new one where there is none."""
        found = self._children.setdefault((row, str(part)), len(self.edges))
        if found == len(self.edges):
            self.edges.append((row, part))
        return found

    def layout(self) -> tuple[Layout, list[int]]:
        """The layout, its rows in the order of traversal, and what was noted of each of its values."""
        rows = self._traversal()
        number = {row: number for number, row in enumerate(rows)} | {-1: -1}
        edges = [(number[self.edges[row][0]], self.edges[row][1]) for row in rows]
        leaves = sorted((number[row], position, head) for row, (head, position) in self.leaves.items())
        self._check_ends(edges, {row for row, _, _ in leaves})
        # A way that leads to a row of its own in the other layout is none to this one.
        detours = sorted(
            [
                (number[row], number[parent], part)
                for row, parent, part in self.detours
                if (parent, str(part)) not in self._children
            ],
            key=_detour_order,
        )
        layout = _compact(edges, [(row, head) for row, _, head in leaves], detours)
        return layout, [position for _, position, _ in leaves]

    def _check_ends(self, edges: list[Edge], leaves: set[int]) -> None:
        for parent, part in edges:
            if parent in leaves:
                path = path_from(edges, parent, -1)
                raise UpdateError(
                    f"A path with a value ends there, but {show_path(path)} has a value and so has something below "
                    f"it, at {show_path((*path, part))}. Give one of the two."
                )

    def _traversal(self) -> list[int]:
        below: dict[int, list[int]] = {}
        for row, (parent, _) in enumerate(self.edges):
            below.setdefault(parent, []).append(row)
        order, pending = [], [-1]
        while pending:
            row = pending.pop()
            order.append(row)
            pending += sorted(below.get(row, ()), key=lambda child: part_order(self.edges[child][1]), reverse=True)
        return order[1:]


def kind_of(head: LeafHead) -> str:
    """How messages call what stands at a leaf."""
    return head.type.__name__ if isinstance(head, StateHead) else "array"
