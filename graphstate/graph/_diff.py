"""`diff`: what tells two graphs apart, in lines that a person reads."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from graphstate._trace import peek
from graphstate.errors import GraphStateError

from ._graphdef import GraphDef
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
    StaticHead,
    StaticKey,
    TupleHead,
    WrapperHead,
)
from ._path import Part, show_path, write_path
from ._state import State, is_out_of_reach, summarize_cell
from ._summary import summarize_static, summarize_value
from ._walked import walk

__all__ = ["describe_head", "diff"]

Trail: TypeAlias = "tuple[Trail, Part] | None"


def diff(a: Any, b: Any) -> list[str]:
    """The differences of two graphs in structure, shapes and dtypes, one line each; empty where there is none.

    Compared are types, static values, attributes, lengths and keys of containers, sharing, tags and metadata; and the
    shapes and dtypes of States and arrays, where both are given as objects. Values are not.

    Args:
        a: a Node, a GraphDef, or any pytree of Nodes and States.
        b: what to compare it with.

    Example:
        >>> import graphstate as gs
        >>> gs.graph.diff(gs.nn.Linear(2, 3), gs.nn.Linear(2, 4))
        ['bias: f32[3] -> f32[4]', 'out_features: 3 -> 4', 'weight: f32[2,3] -> f32[2,4]']
    """
    sides = [(each, None) if isinstance(each, GraphDef) else _walked(each) for each in (a, b)]
    (first, first_objects), (second, second_objects) = sides
    if first_objects is None or second_objects is None:
        if first == second:
            return []
        return _Comparison(first, second, None).run()
    return _Comparison(first, second, (first_objects, second_objects)).run()


def _walked(node: Any) -> tuple[GraphDef, Sequence[Any] | None]:
    flat = walk(node)
    return flat.graphdef, flat.objects


class _Comparison:
    """One walk over two graphs, along the paths that both have."""

    def __init__(self, first: GraphDef, second: GraphDef, objects: tuple[Sequence[Any], Sequence[Any]] | None) -> None:
        self.first = first
        self.second = second
        self.objects = objects
        self.partners: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.pending: list[tuple[int, int, Trail]] = [(0, 0, None)]
        self.lines: list[str] = []

    def run(self) -> list[str]:
        """All the lines, in the order of traversal."""
        while self.pending:
            one, two, trail = self.pending.pop()
            ways = self._ways(one, two)
            if ways is None:
                self._compare(one, two, trail)
            elif ways[0] != ways[1]:
                self._report(trail, *ways)
        return self.lines

    def _report(self, trail: Trail, one: str, two: str) -> None:
        parts = []
        while trail is not None:
            trail, part = trail
            parts.append(part)
        self.lines.append(f"{write_path(reversed(parts)) or '(root)'}: {one} -> {two}")

    def _ways(self, one: int, two: int) -> tuple[str, str] | None:
        """How two places that were met before are shared; None where neither was."""
        if not isinstance(self.first.heads[one], _SHARED) or not isinstance(self.second.heads[two], _SHARED):
            return None
        known_one, known_two = self.partners[0].get(one), self.partners[1].get(two)
        if known_one is None and known_two is None:
            self.partners[0][one], self.partners[1][two] = two, one
            return None
        if known_one == two and known_two == one:
            return "", ""
        for partners, place in zip(self.partners, (one, two), strict=True):
            partners.setdefault(place, _NO_PARTNER)
        told_one = _told_sharing(self.first, one, known_one is not None)
        told_two = _told_sharing(self.second, two, known_two is not None)
        return told_one, _another(told_one, told_two)

    def _compare(self, one: int, two: int, trail: Trail) -> None:
        first, second = self.first.heads[one], self.second.heads[two]
        before = len(self.lines)
        match first, second:
            case StateHead(), StateHead():
                self._compare_states(first, second, trail)
            case StaticHead(), StaticHead():
                self._compare_statics(first, second, trail)
            case (ListHead(), ListHead()) | (TupleHead(), TupleHead()):
                self._compare_lengths(one, two, trail)
            case DictHead(), DictHead():
                self._compare_dicts(first, second, one, two, trail)
            case (NodeHead(), NodeHead()) if first.type is second.type:
                self._descend(one, two, trail)
            case PytreeHead(), PytreeHead() if _same_pytree(first, second):
                self._compare_pytrees(first, second, one, two, trail)
            case (MethodHead(), MethodHead()) | (WrapperHead(), WrapperHead()) | (PartialHead(), PartialHead()):
                if first != second:
                    self._report(trail, describe_head(first), describe_head(second))
                self._descend(one, two, trail)
            case ArrayHead(), ArrayHead():
                pass
            case _:
                self._report(trail, describe_head(first), _another(describe_head(first), describe_head(second)))
        if self.objects is not None and len(self.lines) == before and isinstance(first, StateHead | ArrayHead):
            self._compare_shapes(one, two, trail)

    def _descend(self, one: int, two: int, trail: Trail) -> None:
        """Goes on to the children that both have, and reports the others."""
        mine = dict(zip(self.first.parts(one), self.first.children[one], strict=True))
        yours = dict(zip(self.second.parts(two), self.second.children[two], strict=True))
        for part in mine:
            if part not in yours:
                self._report((trail, part), describe_head(self.first.heads[mine[part]]), "missing")
        for part in yours:
            if part not in mine:
                self._report((trail, part), "missing", describe_head(self.second.heads[yours[part]]))
        self.pending += [(mine[part], yours[part], (trail, part)) for part in reversed(list(mine)) if part in yours]

    def _compare_lengths(self, one: int, two: int, trail: Trail) -> None:
        lengths = len(self.first.children[one]), len(self.second.children[two])
        if lengths[0] != lengths[1]:
            self._report(trail, *(f"{length} elements" for length in lengths))
        pairs = zip(self.first.children[one], self.second.children[two], strict=False)
        self.pending += reversed([(left, right, (trail, index)) for index, (left, right) in enumerate(pairs)])

    def _compare_dicts(self, first: DictHead, second: DictHead, one: int, two: int, trail: Trail) -> None:
        if first.keys == second.keys and first.order != second.order:
            orders = ([head.keys[position] for position in head.order] for head in (first, second))
            self._report(trail, *(f"keys in the order {', '.join(map(repr, order))}" for order in orders))
        elif first.keys != second.keys and self.first.parts(one) == self.second.parts(two):
            self._report(trail, *(f"keys {', '.join(map(repr, head.keys))}" for head in (first, second)))
        self._descend(one, two, trail)

    def _compare_pytrees(self, first: PytreeHead, second: PytreeHead, one: int, two: int, trail: Trail) -> None:
        if first.treedef != second.treedef and set(first.parts) == set(second.parts):
            told = f"{describe_head(first)} with its static part"
            self._report(
                trail,
                told,
                f"another static part: {second.treedef}" if len(str(second.treedef)) < 80 else "another one",
            )
        self._descend(one, two, trail)

    def _compare_statics(self, first: StaticHead, second: StaticHead, trail: Trail) -> None:
        if first.key != second.key:
            told = describe_head(first)
            self._report(trail, told, _another(told, describe_head(second)))

    def _compare_states(self, first: StateHead, second: StateHead, trail: Trail) -> None:
        if first.type is not second.type:
            self._report(trail, first.type.__name__, _another(first.type.__name__, second.type.__name__))
        if first.tags != second.tags:
            self._report(trail, *(f"tags {sorted(head.tags)}" for head in (first, second)))
        self._compare_items("", dict(first.metadata), dict(second.metadata), trail)
        self._compare_items("attribute ", dict(first.extras), dict(second.extras), trail)

    def _compare_items(
        self, what: str, first: Mapping[str, StaticKey], second: Mapping[str, StaticKey], trail: Trail
    ) -> None:
        for name in sorted({**first, **second}):
            if first.get(name) != second.get(name):
                told = [
                    f"{what}{name}={summarize_static(side[name].value)}" if name in side else f"no {what}{name}"
                    for side in (first, second)
                ]
                self._report(trail, told[0], _another(*told))

    def _compare_shapes(self, one: int, two: int, trail: Trail) -> None:
        assert self.objects is not None
        left, right = self.objects[0][one], self.objects[1][two]
        if _shapes_of(left) != _shapes_of(right):
            told = _summarize_leaf(left)
            self._report(trail, told, _another(told, _summarize_leaf(right)))


_NO_PARTNER = -1
_SHARED = (NodeHead, StateHead, ListHead, DictHead, PytreeHead, PartialHead)


def _told_sharing(graph: GraphDef, place: int, is_met: bool) -> str:
    if is_met:
        return f"shared with {show_path(graph.path(place))}"
    return f"{describe_head(graph.heads[place])} of its own"


def _another(first: str, second: str) -> str:
    """`second`, told from a `first` that reads the same."""
    return second if first != second else f"another {second}"


def _same_pytree(first: PytreeHead, second: PytreeHead) -> bool:
    return _pytree_class(first) is _pytree_class(second)


def _pytree_class(head: PytreeHead) -> type | None:
    data = head.treedef.node_data()
    return None if data is None else data[0]


def describe_head(head: Head) -> str:
    """What stands at a place, in a word."""
    match head:
        case NodeHead(type=kind) | StateHead(type=kind):
            return kind.__name__
        case ArrayHead():
            return "array"
        case ListHead():
            return "list"
        case TupleHead():
            return "tuple"
        case DictHead():
            return "dict"
        case StaticHead(key=key):
            return summarize_static(key.value)
        case PytreeHead():
            return getattr(_pytree_class(head), "__name__", "pytree")
        case MethodHead(function=function):
            return f"method {summarize_static(function.value)}"
        case WrapperHead(wrapping=wrapping):
            return repr(wrapping)
        case PartialHead(positional=positional, names=names):
            return f"partial of {positional} arguments" + (f" and {', '.join(names)}" if names else "")
        case _:
            return "outer object"


def _shapes_of(leaf: Any) -> Hashable:
    """The structure, shapes and dtypes of a State's value or an array."""
    if not isinstance(leaf, State):
        return leaf.shape, leaf.dtype
    try:
        value = None if is_out_of_reach(leaf) else peek(leaf)
    except GraphStateError:
        return summarize_cell(leaf)
    leaves, treedef = jax.tree.flatten(value)
    return treedef, tuple((jnp.shape(each), jnp.result_type(each)) for each in leaves)


def _summarize_leaf(leaf: Any) -> str:
    return summarize_cell(leaf) if isinstance(leaf, State) else summarize_value(leaf)
