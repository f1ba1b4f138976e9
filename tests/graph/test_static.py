"""`Static` and the comparison of static values."""

import copy
import enum
import pickle

import numpy as np
import pytest

import graphstate.graph as g
from graphstate.graph import Node, Static
from graphstate.graph._heads import StaticKey


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


def holding(value):
    node = Node()
    node.value = value
    return g.graphdef(node)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ("a", b"a"),
        (1j, 1.0),
        (complex(0.0, -0.0), 0j),
        (np.float32(1), np.float64(1)),
        (Colour.RED, Colour.BLUE),
    ],
)
def test_values_of_other_types_and_signs_differ(one, two):
    assert holding(one) != holding(two)
    assert holding((one,)) != holding((two,))
    assert StaticKey(frozenset([one])) != StaticKey(frozenset([two]))


@pytest.mark.parametrize(
    "make", [lambda: float("nan"), lambda: np.float32("nan"), lambda: "te" + "xt", lambda: (1, 2.5)]
)
def test_equal_values_are_equal(make):
    assert holding(make()) == holding(make())
    assert hash(holding(make())) == hash(holding(make()))


def test_static_makes_anything_static():
    table = {"a": [1]}
    node = Node()
    node.table = Static(table)
    assert len(g.state(node)) == 0
    for copied in (g.merge(*g.split(node)), g.clone(node), copy.deepcopy(node), copy.copy(node)):
        assert copied.table.value is table


def test_static_compares_what_cannot_be_hashed_by_identity():
    table = {"a": 1}
    assert holding(Static(table)) == holding(Static(table))
    assert holding(Static(table)) != holding(Static({"a": 1}))
    assert holding(Static(3)) == holding(Static(3))
    assert holding(Static(3)) != holding(3)
    assert Static(1) != Static(1.0)
    assert Static(1) != 1


def test_static_pickles():
    assert pickle.loads(pickle.dumps(Static({"a": 1}))).value == {"a": 1}


def test_static_hides_a_node():
    node = Node()
    node.friend = Static(Node())
    assert len(g.nodes(node)) == 1
    assert repr(node) == "Node(friend=<Static>)"
    assert repr(node.friend) == "Static(Node)"
