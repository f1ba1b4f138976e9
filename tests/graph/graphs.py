"""Random object graphs for tests, and an oracle that compares two of them object by object.

A graph is drawn as a table of rows; a row says what stands there and which rows are below it. Any row may be below
any Node, list or dict, so that there is sharing and there are cycles; what is made from its parts (tuples,
namedtuples) only refers to later rows.
"""

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from graphstate.graph import BatchState, HiddenState, Node, ParamState, State

CHAIN = 10_000


class Leaf(Node):
    """A Node without methods."""


class Branch(Node):
    """Another class of Nodes."""

    def step(self, x: Any) -> Any:
        return x


class Pair(NamedTuple):
    left: Any
    right: Any


class Scale(State):
    """A State type with something beside its value."""

    def __init__(self, value: Any, unit: str = "m", **labels: Any) -> None:
        super().__init__(value, **labels)
        self.unit = unit


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        kind: what stands here.
        seed: chooses among values and classes.
        below: the rows of its parts.
    """

    kind: str
    seed: int
    below: tuple[int, ...]


MUTABLE = ("node", "list", "dict")
MADE = ("tuple", "pair")
LEAVES = ("state", "jax", "numpy", "static")
STATICS: tuple[Any, ...] = (3, 1.5, "text", None, True, len, float("nan"), -0.0, np.float32(2), jnp.float32)
STATE_TYPES = (State, ParamState, BatchState, HiddenState, Scale)
NAMES = ("a", "b", "layers", "w", "zz", "_hidden")
KEYS = ("x", "y", 0, 1, 10, 2, "ten")


@st.composite
def tables(draw: st.DrawFn, max_rows: int = 10) -> tuple[Row, ...]:
    """Tables; row 0 is a Node."""
    count = draw(st.integers(1, max_rows))
    rows = []
    for number in range(count):
        kind = "node" if number == 0 else draw(st.sampled_from(MUTABLE + MADE + LEAVES + ("state", "state", "node")))
        first = number + 1 if kind in MADE else 0
        parts = st.integers(first, count - 1) if first < count else st.nothing()
        size = 0 if kind in LEAVES or first >= count else draw(st.integers(0, 4))
        below = draw(st.lists(parts, min_size=size, max_size=size))
        if kind == "pair":
            if first >= count:
                kind, below = "static", []
            else:
                below = draw(st.lists(parts, min_size=2, max_size=2))
        rows.append(Row(kind, draw(st.integers(0, 9)), tuple(below)))
    return tuple(rows)


@functools.cache
def array(seed: int, member: int) -> jax.Array:
    """One of a few arrays; its shape and dtype depend on `seed` only."""
    dtype = (jnp.float32, jnp.int32, jnp.bool_)[seed % 3]
    shape = ((), (2,), (1, 3))[seed // 3 % 3]
    return jnp.full(shape, (seed + 7 * member) % 5, dtype)


def build(table: tuple[Row, ...], member: int = 0) -> Any:
    """The objects of a table; `member` chooses other values of the same shapes."""
    made: list[Any] = [None] * len(table)
    for number in reversed(range(len(table))):
        made[number] = _make(table[number], made, member)
    for number, row in enumerate(table):
        below = [made[each] for each in row.below]
        if row.kind == "list":
            made[number].extend(below)
        elif row.kind == "dict":
            made[number].update(zip(KEYS, below, strict=False))
        elif row.kind == "node":
            for name, item in zip(NAMES[row.seed % 3 :], below, strict=False):
                setattr(made[number], name, item)
    return made[0]


def _make(row: Row, made: list[Any], member: int) -> Any:
    makers: dict[str, Callable[[], Any]] = {
        "node": lambda: (Leaf, Branch)[row.seed % 2](),
        "list": list,
        "dict": dict,
        "tuple": lambda: tuple(made[each] for each in row.below),
        "pair": lambda: Pair(*(made[each] for each in row.below)),
        "state": lambda: _make_state(row.seed, member),
        "jax": lambda: array(row.seed, member),
        "numpy": lambda: np.asarray(array(row.seed, member)).copy(),
        "static": lambda: STATICS[row.seed % len(STATICS)],
    }
    return makers[row.kind]()


def _make_state(seed: int, member: int) -> State:
    labels: dict[str, Any] = {"tags": ("even",), "unit_of": ("s", seed)} if seed % 2 == 0 else {}
    value: Any = array(seed, member)
    if seed == 7:
        value = {"k": value, "l": (value, value)}
    elif seed == 8:
        value = jax.random.key(member)
    return STATE_TYPES[seed % len(STATE_TYPES)](value, **labels)


class Oracle:
    """Walks two graphs side by side and demands that they are the same up to the identity of objects."""

    def __init__(self, *, fresh: bool = True, arrays_only: bool = True) -> None:
        self.fresh = fresh
        self.arrays_only = arrays_only
        self.forth: dict[int, Any] = {}
        self.back: dict[int, Any] = {}
        self.kept: list[Any] = []

    def compare(self, one: Any, two: Any) -> None:
        pending = [(one, two)]
        while pending:
            left, right = pending.pop()
            assert type(left) is type(right), (left, right)
            if isinstance(left, Node | State | list | dict):
                if id(left) in self.forth or id(right) in self.back:
                    assert self.forth.get(id(left)) is right, "sharing differs"
                    assert self.back.get(id(right)) is left, "sharing differs"
                    continue
                self.forth[id(left)], self.back[id(right)] = right, left
                self.kept += [left, right]
                assert not self.fresh or left is not right
            pending += self._below(left, right)

    def _below(self, left: Any, right: Any) -> list[tuple[Any, Any]]:
        if isinstance(left, State):
            assert (left.tags, dict(left.metadata)) == (right.tags, dict(right.metadata))
            assert getattr(left, "unit", None) == getattr(right, "unit", None)
            assert_same_value(left.value, right.value)
        elif isinstance(left, Node):
            assert vars(left).keys() == vars(right).keys()
            return [(vars(left)[name], vars(right)[name]) for name in vars(left)]
        elif isinstance(left, dict):
            assert list(left) == list(right)
            return [(left[key], right[key]) for key in left]
        elif isinstance(left, list | tuple):
            assert len(left) == len(right)
            return list(zip(left, right, strict=True))
        elif isinstance(left, jax.Array | np.ndarray):
            assert_same_value(left, right)
        elif isinstance(left, types.MethodType):
            assert left.__func__ is right.__func__
            return [(left.__self__, right.__self__)]
        else:
            assert left is right or left == right or (left != left and right != right)
            assert repr(left) == repr(right)
        return []


def assert_same_value(left: Any, right: Any) -> None:
    """Demands the same structure, dtypes and numbers."""
    if left is right:
        return
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for one, two in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert jnp.result_type(one) == jnp.result_type(two)
        keys = jnp.issubdtype(jnp.result_type(one), jax.dtypes.prng_key)
        one, two = (jax.random.key_data(one), jax.random.key_data(two)) if keys else (one, two)
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two))


def assert_same_graph(one: Any, two: Any, *, fresh: bool = True) -> None:
    """Demands two graphs of the same structure, sharing and values; `fresh` that they have no object in common."""
    Oracle(fresh=fresh).compare(one, two)


def reached(root: Any) -> dict[int, tuple[Any, list[tuple[Any, ...]]]]:
    """Every State that is reached from `root`, by id, with all its paths that pass no object twice: the long way."""
    found: dict[int, tuple[Any, list[tuple[Any, ...]]]] = {}

    def visit(value: Any, path: tuple[Any, ...], passed: frozenset[int]) -> None:
        if isinstance(value, State):
            found.setdefault(id(value), (value, []))[1].append(path)
        elif isinstance(value, Node | list | dict | tuple):
            if id(value) in passed and not isinstance(value, tuple):
                return
            for part, item in parts_of(value):
                visit(item, (*path, part), passed | {id(value)})

    visit(root, (), frozenset())
    return found


def parts_of(value: Any) -> list[tuple[Any, Any]]:
    """The parts of a Node or container, in the order of traversal."""
    if isinstance(value, Node):
        return sorted(vars(value).items())
    if isinstance(value, Pair):
        return [("left", value.left), ("right", value.right)]
    if isinstance(value, dict):
        return sorted(value.items(), key=lambda item: (isinstance(item[0], str), item[0]))
    return list(enumerate(value))


def chain(length: int, *, with_states: bool = True, back: bool = False) -> Leaf:
    """Nodes in a chain, each with a State; with `back`, each knows the one before it."""
    root = current = Leaf()
    for number in range(length):
        if with_states:
            current.state = State(number)
        following = Leaf()
        if back:
            following.previous = current
        current.next = following
        current = following
    current.end = ParamState(jnp.zeros(2))
    return root
