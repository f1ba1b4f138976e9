"""`graphs`: random object graphs with sharing and cycles.

A graph is a table: a row for each Node, which says what its attributes are. A part of a row names another Node or a
State by its number, so that a tree, sharing and a cycle are written alike, and the table can be pasted into a test:
`graph_of` makes the objects.

Rows are drawn in order. A part may make the next Node or State; refer to one that is there; or close a cycle, by
referring to the Node itself or to one above it. Hypothesis makes the table shorter, and prefers the parts that come
first in `_KINDS`: what is left is the smallest graph with the feature that fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from graphstate.graph import BatchState, HiddenState, Node, ParamState, State
from graphstate.random import RandomState
from graphstate.testing._structure import choose, several

from ._arrays import arrays

__all__ = ["Part", "graph_of", "graphs"]

Part = tuple[Any, ...]
_TYPES = {each.__name__: each for each in (State, ParamState, BatchState, HiddenState, RandomState)}
_NAMES = "abcdefgh"
_STATICS = (0, "text", None, 1.5, True)
_SHAPES = ((), (2,), (2, 2), (1, 3))
_VALUES = [
    (dtype, shape, nested)
    for nested in (False, True)
    for dtype in ("float32", "int32", "bfloat16", "bool")
    for shape in _SHAPES
]
_TAGS = ((), (), ("tagged",))
_KINDS = (
    "state",
    "again",
    "cycle",
    "shared",
    "node",
    "state",
    "state",
    "array",
    "static",
    "again",
    "node",
    "list",
    "dict",
    "state",
)


def graph_of(rows: Sequence[Sequence[Part]], states: Sequence[Part] = ()) -> Node:
    """The object graph that a table describes; its attributes are called a, b, c and so on.

    Args:
        rows: a row for each Node, the root first. The parts of a row are `("node", number)`, `("state", number)`,
            `("array", value)`, `("static", value)`, or a list or dict of such parts: `("list", part, ...)`.
        states: `(type, value, tags)` for each State, by the name of its type; a RandomState has a seed as value.

    Returns:
        The root.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst
        >>> node = gst.graph_of([[("state", 0), ("node", 1)], [("state", 0), ("node", 0)]], [("State", 1.0, ())])
        >>> node.a is node.b.a, node.b.b is node
        (True, True)
    """
    nodes = [Node() for _ in rows]
    cells = [_TYPES[name](value, tags=tags) for name, value, tags in states]
    for node, row in zip(nodes, rows, strict=True):
        for name, part in zip(_NAMES, row, strict=False):
            setattr(node, name, _object(part, nodes, cells))
    return nodes[0]


def _object(part: Part, nodes: list[Node], cells: list[State]) -> Any:
    kind, *rest = part
    if kind in ("list", "dict"):
        parts = [_object(each, nodes, cells) for each in rest]
        return parts if kind == "list" else dict(zip(_NAMES, parts, strict=False))
    if kind in ("node", "state"):
        return (nodes if kind == "node" else cells)[rest[0]]
    return rest[0]


def graphs(max_nodes: int = 5, *, sharing: bool = True, cycles: bool = True) -> st.SearchStrategy[Node]:
    """Draws object graphs: Nodes with States of all types, arrays, static values, lists and dicts.

    Args:
        max_nodes: the largest number of Nodes.
        sharing: whether a Node or State may be in several places.
        cycles: whether a Node may refer to itself or to one above it.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst, hypothesis
        >>> node = hypothesis.find(gst.graphs(cycles=False), gs.shared)
        >>> node is not None and len(gs.shared(node)) > 0
        True
    """
    return _graphs(max_nodes, sharing, cycles)


@st.composite
def _graphs(draw: st.DrawFn, max_nodes: int, sharing: bool, cycles: bool) -> Node:
    left_out = {"again": not sharing, "shared": not sharing, "cycle": not cycles}
    draft = _Draft(draw, max_nodes, tuple(kind for kind in _KINDS if not left_out.get(kind)))
    rows: list[list[Part]] = []
    while len(rows) < len(draft.above):
        rows.append(draft.row(len(rows)))
    return draw(st.builds(graph_of, st.just(rows), st.just(draft.states)))  # so that a report shows the table


@dataclass
class _Draft:
    """A table that is being drawn.

    Attributes:
        draw: draws.
        max_nodes: the largest number of Nodes.
        kinds: what a part may be.
        above: for each Node that is there, it and the Nodes above it where it was made.
        states: the States that are there.
    """

    draw: st.DrawFn
    max_nodes: int
    kinds: tuple[str, ...]
    above: list[tuple[int, ...]] = field(default_factory=lambda: [(0,)])
    states: list[Part] = field(default_factory=list)

    def row(self, number: int, deep: bool = False) -> list[Part]:
        """The parts of a Node, or of a list or dict in it."""
        if choose(self.draw, (False,) * 15 + (True,)):
            return []
        return several(self.draw, 1, 4, lambda: self.part(number, deep))

    def part(self, number: int, deep: bool) -> Part:
        """One part of Node `number`; None where the kind is impossible, for a list of kinds that never changes."""
        later = range(number + 1, len(self.above))
        kind = choose(self.draw, self.kinds)
        impossible = {
            "node": len(self.above) == self.max_nodes,
            "again": not self.states,
            "shared": not later,
            "list": deep,
            "dict": deep,
        }
        return ("static", None) if impossible.get(kind) else self.made(kind, number, later)

    def made(self, kind: str, number: int, later: range) -> Part:
        """A part of that kind."""
        draw = self.draw
        if kind == "node":
            self.above.append((len(self.above), *self.above[number]))
            return ("node", len(self.above) - 1)
        if kind == "state":
            self.states.append(self.state())
            return ("state", len(self.states) - 1)
        if kind == "again":
            return ("state", choose(draw, range(len(self.states))))
        if kind == "shared":
            return ("node", choose(draw, later))
        if kind == "cycle":
            return ("node", choose(draw, self.above[number]))
        if kind == "array":
            return ("array", draw(arrays("float32", choose(draw, _SHAPES))))
        if kind == "static":
            return ("static", choose(draw, _STATICS))
        return (kind, *self.row(number, deep=True))

    def state(self) -> Part:
        """The description of a new State."""
        draw = self.draw
        name, tags, (dtype, shape, nested) = choose(draw, list(_TYPES)), choose(draw, _TAGS), choose(draw, _VALUES)
        if name == "RandomState":
            return (name, draw(st.integers(0, 2**16)), tags)
        value: Any = draw(arrays(dtype, shape))
        return (name, {"a": value, "b": (np.int32(0),)} if nested else value, tags)
