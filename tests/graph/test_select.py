"""`states`, `nodes` and `shared`."""

import jax.numpy as jnp
import pytest

import graphstate.graph as g
from graphstate.filters import PathContains
from graphstate.graph import BatchState, Node, ParamState, State
from tests.graph.graphs import Branch, Leaf

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def sample():
    node = Leaf()
    node.trunk = Branch()
    node.trunk.weight = ParamState(jnp.ones(2))
    node.heads = [node.trunk, {"mean": BatchState(jnp.ones(1))}]
    node.me = node
    node.array = jnp.ones(1)
    return node


def test_states_are_live_and_each_once():
    node = sample()
    states = g.states(node)
    assert list(states) == [("heads", 0, "weight"), ("heads", 1, "mean")]
    states["heads/0/weight"].value = jnp.zeros(2)
    assert not node.trunk.weight.value.any()


def test_a_mapping_of_states_takes_every_path():
    node = sample()
    states = g.states(node)
    weight = node.trunk.weight
    for path in ("trunk/weight", ("trunk", "weight"), "heads/0/weight", ("me", "heads", "0", "weight")):
        assert states[path] is weight
        assert path in states
    assert "array" not in states
    assert list(states.values()) == [weight, node.heads[1]["mean"]]
    with pytest.raises(KeyError, match="nothing at 'weight'; there are heads/0/weight, heads/1/mean"):
        states["weight"]


def test_with_several_filters_the_first_match_wins_and_the_rest_is_left_out():
    params, heads = g.states(sample(), ParamState, PathContains("heads"))
    assert list(params) == [("heads", 0, "weight")]
    assert list(heads) == [("heads", 1, "mean")]
    assert g.states(sample(), "nothing") == {}


def test_a_shared_state_is_matched_by_any_of_its_paths():
    assert len(g.states(sample(), PathContains("trunk"))) == 1
    assert len(g.states(sample(), PathContains("heads"))) == 2
    assert list(g.states(sample(), ~PathContains("trunk"))) == [("heads", 1, "mean")]


def test_nodes_are_found_by_class():
    node = sample()
    assert dict(g.nodes(node)) == {(): node, ("heads", 0): node.trunk}
    assert list(g.nodes(node, Branch)) == [("heads", 0)]
    assert g.nodes(node)[""] is node
    assert g.nodes(node, Branch)["trunk"] is node.trunk
    assert "" not in g.nodes(node, Branch)
    assert g.nodes((node, node), Leaf, Branch)["1/me"] is node


def test_shared_lists_an_object_once_without_what_lies_under_it():
    node = sample()
    assert g.shared(node) == {(): (("me",),), ("heads", 0): (("trunk",),)}
    assert g.shared(g.graphdef(node)) == g.shared(node)
    node.trunk.more = node.heads
    assert g.shared(node)[("heads",)] == (("heads", 0, "more"),)


def test_nothing_is_shared_in_a_tree():
    node = Node()
    node.a, node.b = State(1), [State(1), jnp.ones(1)]
    assert g.shared(node) == {}


def test_repr_lists_paths_and_says_how_many_more():
    node = sample()
    assert repr(g.states(node)) == "2 at:\n  heads/0/weight: ParamState(f32[2])\n  heads/1/mean: BatchState(f32[1])"
    assert repr(g.states(node, None)) == "nothing selected"
    node.many = [State(0) for _ in range(30)]
    assert repr(g.states(node)).endswith("  many/17: State(0)\n  ... 12 more")
    assert "(root): Leaf(...)" in repr(g.nodes(node))
