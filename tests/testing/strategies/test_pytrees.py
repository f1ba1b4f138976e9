"""`pytrees`, `filters`, `device_counts` and `state_axes`: what is made of few choices."""

import jax
import numpy as np
import pytest
from hypothesis import strategies as st

import graphstate as gs
import graphstate.testing as gst
from graphstate.testing.strategies._pytrees import Boxed, Pair
from tests.testing.strategies.searching import simplest, some

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def test_a_bare_leaf_is_the_simplest_pytree() -> None:
    assert simplest(gst.pytrees(st.just(1))) in (1, None)
    assert simplest(gst.pytrees(st.just(1)), lambda tree: isinstance(tree, dict) and tree) == {"a": 1}
    assert simplest(gst.pytrees()).dtype == np.float32


def test_pytrees_have_containers_of_all_kinds_and_few_leaves() -> None:
    trees = some(gst.pytrees(st.just(1)), 300)
    assert {type(tree) for tree in trees} == {int, dict, list, tuple, Pair, Boxed, type(None)}
    assert {len(jax.tree.leaves(tree)) for tree in trees} == {0, 1, 2, 3, 4}


def test_a_box_is_shown_and_compared_by_its_content() -> None:
    assert repr(Boxed([1])) == "Boxed([1])"
    assert Boxed(1) == Boxed(1) != Boxed(2)
    assert Boxed(1) != 1
    assert jax.tree.map(lambda leaf: leaf + 1, Boxed(1)) == Boxed(2)
    assert str(jax.tree_util.tree_leaves_with_path(Boxed(1))[0][0][0]) == ".content"


def test_device_counts_divide_the_lanes_and_are_there() -> None:
    assert simplest(gst.device_counts(6)) == 1
    assert set(some(gst.device_counts(6))) == {1, 2, 3, 6}
    assert set(some(gst.device_counts(32))) == {1, 2, 4, 8}
    assert set(some(gst.device_counts(0))) == {1}


def test_filters_are_all_that_graphstate_takes() -> None:
    node = simplest(gst.graphs(), lambda node: len(gs.states(node)) == 2)
    drawn = some(gst.filters(), 200)
    assert simplest(gst.filters()) is ...
    assert {type(each) for each in drawn} >= {type(...), type(None), type, str, tuple, gs.filters.PathContains}
    for each in drawn:
        assert len(gs.states(node, each)) + len(gs.states(node, ~gs.filters.to_predicate(each))) == 2


def test_filters_tell_the_states_of_drawn_graphs_apart() -> None:
    pairs = some(st.tuples(gst.graphs(), gst.filters()), 200)
    counts = [(len(gs.states(node, each)), len(gs.states(node))) for node, each in pairs]
    assert sum(0 < chosen < total for chosen, total in counts) > 8


def test_state_axes_map_every_state_of_a_node_at_an_axis_that_it_has() -> None:
    node = gs.Node()
    node.weight, node.again, node.count = gs.ParamState(np.zeros((2, 3))), None, gs.BatchState(np.zeros(()))
    node.rng, node.again = gs.random.RandomState(0), node.weight
    assert simplest(gst.state_axes(node)) == {gs.ParamState: 0, gs.BatchState: 0, gs.random.RandomState: 0, ...: 0}
    for axes in some(gst.state_axes(node), 100):
        lanes = (
            gs.stack([gs.clone(node), gs.clone(node)], gs.StateAxes({**axes, gs.random.RandomState: 0}))
            if (None not in axes.values())
            else None
        )
        assert axes[gs.BatchState] in (0, -1, None)
        assert lanes is None or lanes.weight.value.shape[axes[gs.ParamState]] == 2
    assert {axes[gs.ParamState] for axes in some(gst.state_axes(node), 200)} == {0, 1, 2, -1, -2, -3, None}
    plain = some(gst.state_axes(node, none=False, negative=False), 50)
    assert all(axis in (0, 1, 2) for axes in plain for axis in axes.values())


def test_state_axes_ask_for_a_derived_type_first() -> None:
    node = gs.Node()
    node.a, node.b = gs.State(np.zeros(2)), gs.ParamState(np.zeros(()))
    assert list(simplest(gst.state_axes(node))) == [gs.ParamState, gs.State, ...]
