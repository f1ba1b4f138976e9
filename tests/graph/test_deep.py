"""Every call on a chain of ten thousand Nodes, on ten thousand States, and on a Node that holds itself."""

import copy
import functools
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
import pytest

import graphstate.graph as g
from graphstate.filters import OfType
from graphstate.graph import Node, ParamState, State
from tests.graph.graphs import Leaf, assert_same_graph, chain

pytestmark = pytest.mark.no_leak_check("very many eager operations")

COUNT = 10_000


@functools.cache
def long_chain() -> Node:
    root = current = Leaf()
    for _ in range(COUNT):
        current.next = Leaf()
        current = current.next
    current.end = ParamState(jnp.zeros(2))
    return root


@functools.cache
def linked_chain() -> Node:
    return chain(COUNT, with_states=False, back=True)


@functools.cache
def many_states() -> Node:
    node = Leaf()
    zero = jnp.zeros(())
    node.states = [(State if number % 2 else ParamState)(zero) for number in range(COUNT)]
    return node


def self_cycle() -> Node:
    node = Leaf()
    node.me = node
    node.items = [node, {"a": node}]
    node.items.append(node.items)
    node.items[1]["self"] = node.items[1]
    node.weight = ParamState(jnp.zeros(2))
    return node


def stacked(node: Any) -> Any:
    return g.stack([node, g.clone(node)])


CALLS: dict[str, Callable[[Any], Any]] = {
    "split": g.split,
    "split by type": lambda node: g.split(node, ParamState, ...),
    "merge": lambda node: assert_same_graph(node, g.merge(*g.split(node))),
    "merge of parts": lambda node: g.merge(*g.split(node, ParamState, ...)),
    "update": lambda node: g.update(node, g.state(node)),
    "update of a part": lambda node: g.update(node, g.state(node, ParamState)),
    "states": lambda node: list(g.states(node).values()),
    "states by type": lambda node: list(g.states(node, ParamState)),
    "nodes": lambda node: list(g.nodes(node).values()),
    "state": g.state,
    "graphdef": lambda node: hash(g.graphdef(node)) == hash(g.graphdef(g.clone(node))),
    "clone": lambda node: assert_same_graph(node, g.clone(node)),
    "copy": copy.copy,
    "deepcopy": lambda node: assert_same_graph(node, copy.deepcopy(node)),
    "pickle": lambda node: assert_same_graph(node, pickle.loads(pickle.dumps(node))),
    "pickle in Python": lambda node: pickle.loads(pickle._dumps(node)),
    "cloudpickle": lambda node: assert_same_graph(node, cloudpickle.loads(cloudpickle.dumps(node))),
    "pickle of the parts": lambda node: pickle.loads(pickle.dumps(g.split(node))),
    "stack": lambda node: g.diff(stacked(node), node),
    "unstack": lambda node: g.unstack(stacked(node))[1] if len(g.state(node)) < 10 else 0,
    "take": lambda node: g.take(stacked(node), 1) if len(g.state(node)) < 10 else 0,
    "diff": lambda node: g.diff(node, g.clone(node)),
    "abstract": lambda node: g.abstract(lambda: g.clone(node)),
    "pop": lambda node: g.pop(g.clone(node), ParamState),
    "union": lambda node: g.state(node).filter(ParamState) | g.state(node).filter(~OfType(ParamState)),
    "from_dict": lambda node: g.GraphState.from_dict(dict(g.state(node, ParamState).items()), like=node),
    "tree map": lambda node: jax.tree.map(lambda x: x, g.state(node)),
    "tree map with keys": lambda node: jax.tree_util.tree_leaves_with_path(g.state(node)),
    "repr": lambda node: (repr(node), repr(g.graphdef(node)), repr(g.state(node)), repr(g.states(node))),
}


@pytest.mark.parametrize("make", [long_chain, linked_chain, many_states, self_cycle])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_call_works(call, make):
    call(make())


@pytest.mark.parametrize("make", [long_chain, many_states, self_cycle])
def test_shared_works(make):
    assert len(g.shared(make())) == (3 if make is self_cycle else 0)


def test_a_chain_with_a_state_in_each_node_is_quick_to_take_apart():
    node = chain(COUNT)
    graphdef, state = g.split(node)
    assert len(state) == COUNT + 1
    assert len(g.states(node)) == COUNT + 1
    g.update(node, state)
    assert state["next/next/state"] == 2
    assert g.states(node, State)["next/state"] is node.next.state
    assert g.merge(graphdef, state).next.next.state.value == 2


def test_a_chain_of_lists_works():
    node = Leaf()
    items: list[Any] = []
    node.items = items
    for _ in range(COUNT):
        items.append([])
        items = items[0]
    items.append(State(1))
    assert len(g.state(g.clone(node))) == 1
    assert g.diff(node, g.merge(*g.split(node))) == []
    assert repr(node)
