"""`diff`: one line for each difference."""

import collections
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate.graph as g
from graphstate.graph import BatchState, Node, ParamState, State
from tests.graph.graphs import Branch, Leaf, Pair

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def one(value):
    node = Node()
    node.x = value
    return node


@pytest.mark.parametrize(
    ("first", "second", "lines"),
    [
        (1, 1, []),
        (1, 2, ["x: 1 -> 2"]),
        (1, True, ["x: 1 -> True"]),
        (0.0, -0.0, ["x: 0.0 -> -0.0"]),
        (np.float32(1), np.float64(1), ["x: np.float32(1.0) -> np.float64(1.0)"]),
        ("a" * 100, "b", [f"x: '{'a' * 56}... -> 'b'"]),
        (len, abs, ["x: len -> abs"]),
        ((lambda: 0), (lambda: 0), ["x: <lambda> -> another <lambda>"]),
        (object(), object(), ["x: <object> -> another <object>"]),
        (1, [1], ["x: 1 -> list"]),
        (Leaf(), Branch(), ["x: Leaf -> Branch"]),
        ([1, 2], [1, 3, 4], ["x: 2 elements -> 3 elements", "x/1: 2 -> 3"]),
        ((1,), (1, 2), ["x: 1 elements -> 2 elements"]),
        ((1,), [1], ["x: tuple -> list"]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, ["x: keys in the order 'a', 'b' -> keys in the order 'b', 'a'"]),
        ({"a": 1}, {"b": 1}, ["x/a: 1 -> missing", "x/b: missing -> 1"]),
        ({1: "z"}, {"1": "z"}, ["x/1: 'z' -> missing", "x/1: missing -> 'z'"]),
        ({1.5: "z"}, {"1.5": "z"}, ["x: keys 1.5 -> keys '1.5'"]),
        (Pair(1, 2), Pair(1, 3), ["x/right: 2 -> 3"]),
        (Pair(1, 2), (1, 2), ["x: Pair -> tuple"]),
        (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), None),
        (collections.defaultdict(int, a=1), collections.defaultdict(list, a=1), None),
        (functools.partial(len, 1), functools.partial(len, 2), ["x/0: 1 -> 2"]),
        (
            functools.partial(len, 1),
            functools.partial(len, b=2),
            ["x: partial of 1 arguments -> partial of 0 arguments and b", "x/0: 1 -> missing", "x/b: missing -> 2"],
        ),
        (State(1), ParamState(1), ["x: State -> ParamState"]),
        (State(1), State(2), []),
        (State(1), State(jnp.asarray(2)), []),
        (State(1), State(1.0), ["x: 1 -> 1.0"]),
        (State(jnp.ones(2)), State(jnp.ones(3)), ["x: f32[2] -> f32[3]"]),
        (State(jnp.ones(2)), State(jnp.ones(2, jnp.int32)), ["x: f32[2] -> i32[2]"]),
        (State(jnp.ones(2)), State((jnp.ones(2),)), ["x: f32[2] -> (f32[2],)"]),
        (State(jnp.ones(2)), State(jax.ShapeDtypeStruct((2,), jnp.float32)), []),
        (jnp.ones(2), jnp.ones(3), ["x: f32[2] -> f32[3]"]),
        (jnp.ones(2), np.ones(2, np.float32), []),
        (jnp.ones(2), State(jnp.ones(2)), ["x: array -> State"]),
        (State(1, tags="a"), State(1, tags=("a", "b")), ["x: tags ['a'] -> tags ['a', 'b']"]),
        (State(1, u=1), State(1, u=2, v=3), ["x: u=1 -> u=2", "x: no v -> v=3"]),
        (State(1, f=len), State(1, f=len), []),
    ],
)  # fmt: skip
def test_every_kind_of_difference_has_its_line(first, second, lines):
    if lines is None:
        assert len(g.diff(one(first), one(second))) == 1
        assert len(g.diff(g.graphdef(one(first)), g.graphdef(one(second)))) == 1
    else:
        assert g.diff(one(first), one(second)) == lines


def test_equal_classes_of_one_name_are_told_apart():
    def make():
        class Local(Node):
            pass

        return Local()

    assert g.diff(one(make()), one(make())) == ["x: Local -> another Local"]


def test_attributes_that_one_side_misses():
    first, second = Node(), Node()
    first.a, second.b, second.c = 1, BatchState(1), [Leaf()]
    assert g.diff(first, second) == ["a: 1 -> missing", "b: missing -> BatchState", "c: missing -> list"]


def test_sharing_is_compared():
    first, second = Node(), Node()
    first.a = first.b = State(1)
    second.a, second.b = State(1), State(1)
    assert g.diff(first, second) == ["b: shared with `a` -> State of its own"]
    assert g.diff(second, first) == ["b: State of its own -> shared with `a`"]
    first.c, second.c = first.a, second.a
    assert g.diff(first, second) == ["b: shared with `a` -> State of its own"]
    second.b = second.c = State(1)
    assert g.diff(first, second) == [
        "b: shared with `a` -> State of its own",
        "c: shared with `a` -> shared with `b`",
    ]


def test_a_cycle_and_a_longer_cycle_differ():
    first, second = Node(), Node()
    first.next = first
    second.next = Node()
    second.next.next = second
    assert g.diff(first, second) == ["next: shared with `(root)` -> Node of its own"]
    assert g.diff(second, second) == []


def test_methods_are_compared():
    first, second = Branch(), Branch()
    first.call = first.step
    second.call = second.__repr__
    assert g.diff(first, second) == ["call: method Branch.step -> method Node.__repr__"]


def test_graphdefs_have_no_shapes():
    first, second = one(State(jnp.ones(2))), one(State(jnp.ones(3)))
    assert g.diff(g.graphdef(first), g.graphdef(second)) == []
    assert g.diff(g.graphdef(first), second) == []
    assert g.diff(first, second) == ["x: f32[2] -> f32[3]"]


def test_a_state_that_was_changed_in_place_is_compared_by_what_is_said_of_it():
    first, second = one(State({"a": jnp.ones(1)})), one(State({"a": jnp.ones(1)}))
    second.x.value["b"] = 1
    assert g.diff(first, second) == ["x: {'a': f32[1]} -> changed in place"]


def test_pytrees_of_nodes_are_compared():
    node = one(1)
    assert g.diff((node, [State(1)]), (node, [State(1.5)])) == ["1/0: 1 -> 1.5"]
    assert g.diff(State(1), State(1, tags="a")) == ["(root): tags [] -> tags ['a']"]


def test_all_lines_come():
    first, second = Node(), Node()
    first.items, second.items = list(range(100)), list(range(1, 101))
    assert len(g.diff(first, second)) == 100


def test_it_is_an_operation_on_lines_only():
    first, second = one(functools.partial(operator.add, State(1))), one(functools.partial(operator.add, State(2)))
    assert g.diff(first, second) == []
