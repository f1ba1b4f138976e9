"""The paths of shared objects, also where there are very many."""

import time

import jax.numpy as jnp
import pytest

import graphstate.graph as g
from graphstate.filters import PathContains
from graphstate.graph import Node, ParamState, State
from graphstate.graph._ways import Paths

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def test_a_state_in_a_cycle_has_the_paths_that_pass_nothing_twice():
    root, left, right = Node(), Node(), Node()
    root.left, root.right = left, right
    left.peer, right.peer = right, left
    left.weight = State(1)
    graphdef = g.graphdef(root)
    assert tuple(graphdef.paths(graphdef.find(("left", "weight")))) == (("left", "weight"), ("right", "peer", "weight"))


def test_references_to_parents_make_no_further_paths():
    root = Node()
    root.children = [Node() for _ in range(3)]
    for child in root.children:
        child.parent, child.weight = root, State(1)
        child.leaf = Node()
        child.leaf.parent, child.leaf.bias = child, State(2)
    graphdef = g.graphdef(root)
    for path, state in g.states(root).items():
        assert tuple(graphdef.paths(graphdef.find(path))) == (path,), state


def test_paths_are_written_out_only_when_they_are_looked_at():
    asked = []
    paths = Paths(lambda: asked.append(1) or (("a",), ("b",)))
    assert asked == []
    assert list(paths) == [("a",), ("b",)]
    assert paths[-1] == ("b",)
    assert len(paths) == 2
    assert asked == [1]
    assert repr(paths) == "(('a',), ('b',))"


def diamonds(count):
    """A ladder in which the last State is reached in 2 ** count ways."""
    bottom = Node()
    bottom.weight = ParamState(jnp.ones(2))
    for _ in range(count):
        top = Node()
        top.left, top.right = bottom, bottom
        bottom = top
    return bottom


def test_a_graph_of_diamonds_costs_nothing_that_nobody_asks_for():
    node = diamonds(60)
    started = time.perf_counter()
    graphdef, params, rest = g.split(node, ParamState, ...)
    assert len(params) == 1
    g.update(g.merge(graphdef, params, rest), params)
    assert len(g.states(node, ParamState)) == 1
    assert len(g.shared(node)) == 60
    assert len(params | rest) == 1
    assert (
        params["/".join(["right", "left"] * 30 + ["weight"])]
        is node.states()["/".join(["left"] * 60 + ["weight"])].value
    )
    assert time.perf_counter() - started < 2


def test_a_small_graph_of_diamonds_has_all_its_paths():
    graphdef = g.graphdef(diamonds(4))
    (place,) = graphdef.leaves
    paths = graphdef.paths(place)
    assert len(paths) == len(set(paths)) == 16
    assert paths[0] == ("left",) * 4 + ("weight",)


def test_a_path_filter_is_quick_in_a_large_tree_with_parents():
    root = Node()
    root.blocks = [Node() for _ in range(200)]
    for block in root.blocks:
        block.parent = root
        block.weight = State(1)
    root.tied = root.blocks[7]
    started = time.perf_counter()
    assert list(g.states(root, PathContains("tied"))) == [("blocks", 7, "weight")]
    assert len(g.state(root, PathContains("blocks"))) == 200
    assert time.perf_counter() - started < 2
