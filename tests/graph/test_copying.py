"""`clone`, `copy.copy` and `copy.deepcopy`."""

import copy

import jax.numpy as jnp
import numpy as np
import pytest

import graphstate.graph as g
from graphstate._trace import Frame
from graphstate.graph import Node, ParamState, State
from tests.graph.graphs import assert_same_graph

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def sample():
    node = Node()
    node.weight = ParamState(jnp.ones(2), tags="a", unit=1)
    node.host = State(np.ones(2))
    node.table = {"array": np.ones(3), "shared": node.weight}
    node.again = node.table["array"]
    node.step = State(0)
    node.me = node
    return node


@pytest.mark.parametrize("copied", [g.clone, copy.deepcopy])
def test_numpy_arrays_are_copied_and_jax_arrays_shared(copied):
    node = sample()
    other = copied(node)
    assert_same_graph(node, other)
    assert other.weight.value is node.weight.value
    other.host.value[0] = 5
    other.table["array"][0] = 5
    assert node.host.value[0] == node.table["array"][0] == 1
    assert other.again is other.table["array"]
    assert other.step.value == 0
    assert type(other.step.value) is int


def test_clone_takes_any_pytree_of_nodes():
    node = sample()
    first, (second, state) = g.clone((node, (node, node.weight)))
    assert first is second
    assert state is first.weight


def test_a_copy_remembers_where_its_states_were_created():
    node = sample()
    assert g.clone(node).weight._place is node.weight._place


def test_deepcopy_shares_what_the_rest_of_the_copy_shares():
    node = sample()
    items = [node]
    node.items = items
    items.append(node.weight)
    other = copy.deepcopy({"items": items, "weight": node.weight, "array": node.table["array"], "table": node.table})
    (inner, weight) = other["items"]
    assert inner.items is other["items"]
    assert inner.weight is weight is other["weight"]
    assert inner.table is other["table"]
    assert inner.table["array"] is other["array"]


def test_a_deepcopy_of_a_list_that_is_being_copied_is_not_filled_twice():
    node = Node()
    items = [node, 1, State(2)]
    node.items = items
    copied = copy.deepcopy(items)
    assert len(copied) == 3
    assert copied[0].items is copied


def test_two_deepcopies_share_nothing():
    node = sample()
    assert_same_graph(copy.deepcopy(node), copy.deepcopy(node))


def test_static_values_are_shared():
    class Config:
        pass

    node = Node()
    node.config = Config()
    node.function = lambda x: x
    for copied in (g.clone(node), copy.deepcopy(node)):
        assert copied.config is node.config
        assert copied.function is node.function


def test_values_are_those_of_the_frame():
    node = sample()
    frame = Frame()

    def body():
        with frame:
            node.weight.value = jnp.zeros(7)
            return g.clone(node).weight.value.shape

    assert body() == (7,)
    assert node.weight.value.shape == (2,)
