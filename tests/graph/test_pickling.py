"""Pickles: what several objects share, and what they leave out."""

import functools
import io
import pickle

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphstate.graph import Node, ParamState, State
from graphstate.graph._pickling import Group, _groups
from tests.graph.graphs import Branch, Leaf, Pair, assert_same_graph

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def sample():
    node = Leaf()
    node.weight = ParamState(jnp.ones(2), tags="a", unit=1)
    node.inner = Branch()
    node.inner.items = [node, {"w": node.weight}, (node, np.ones(2)), Pair(node.weight, State(jax.random.key(1)))]
    node.inner.call = node.inner.step
    node.inner.owner = node
    return node


def again(item):
    return pickle.loads(pickle.dumps(item))


def test_what_two_roots_share_is_shared():
    one, two = sample(), Leaf()
    two.friend, two.weight = one.inner, one.weight
    first, second = again((one, two))
    assert first.inner is second.friend
    assert first.weight is second.weight
    assert second.friend.call.__self__ is second.friend
    second, first = again([two, one])
    assert first.inner is second.friend


def test_a_state_is_shared_with_what_is_no_node():
    node = sample()
    restored = again({"states": [node.weight], "node": node, "list": node.inner.items})
    assert restored["states"][0] is restored["node"].weight
    assert restored["list"] is restored["node"].inner.items


def test_a_part_is_pickled_without_the_whole():
    node = Leaf()
    node.part, node.rest = Branch(), lambda: None
    node.part.weight = State(1)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(node)
    assert again(node.part).weight.value == 1
    assert len(pickle.dumps(node.part)) < 1000


def test_groups_live_no_longer_than_their_pickler():
    node = sample()
    pickle.dumps(node)
    assert len(_groups.by_id) == 0
    pickler = pickle.Pickler(io.BytesIO())
    pickler.dump(node)
    assert len(_groups.by_id) == 2
    del pickler
    assert len(_groups.by_id) == 0


def test_a_second_pickler_beside_the_first_is_right():
    node = sample()
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream)
    pickler.dump(node)
    assert_same_graph(node, again(node))
    assert_same_graph(node.inner, again(node.inner))
    node.new = Leaf()
    node.new.back = node
    assert_same_graph(node, again(node))
    pickler.dump(node.inner)
    stream.seek(0)
    unpickler = pickle.Unpickler(stream)
    first, second = unpickler.load(), unpickler.load()
    assert first.inner is second


def test_a_node_that_joins_later_is_pickled_too():
    node = sample()
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream)
    pickler.dump(node)
    late = Leaf()
    late.friend = node
    pickler.dump(late)
    stream.seek(0)
    unpickler = pickle.Unpickler(stream)
    first, second = unpickler.load(), unpickler.load()
    assert second.friend is first


class Custom(Node):
    def __init__(self):
        self.weight = State(jnp.ones(1))
        self.cache = lambda: None

    def __getstate__(self):
        return {name: item for name, item in vars(self).items() if name != "cache"}

    def __setstate__(self, held):
        vars(self).update(held)
        self.cache = "restored"


class Pairing(Node):
    __slots__ = ("slot",)

    def __getstate__(self):
        return {"a": self.a}, {"slot": self.slot}


class Reducing(Node):
    def __init__(self, size):
        self.size = size

    def __reduce__(self):
        return Reducing, (self.size + 1,)


def test_a_class_says_itself_how_it_is_pickled():
    node = Leaf()
    node.custom, node.reducing, node.pairing = Custom(), Reducing(1), Pairing()
    node.pairing.a, node.pairing.slot = node, 7
    node.again = node.reducing
    restored = again(node)
    assert restored.custom.cache == "restored"
    assert restored.custom.weight.value == 1
    assert restored.reducing.size == 2
    assert restored.again is restored.reducing
    assert restored.pairing.a is restored
    assert restored.pairing.slot == 7


def test_local_classes_go_through_cloudpickle():
    class Local(Node):
        def __init__(self):
            self.weight = State(jnp.ones(2))
            self.act = lambda x: x + 1

    node = Leaf()
    node.local = Local()
    restored = cloudpickle.loads(cloudpickle.dumps((node, node.local)))
    assert restored[0].local is restored[1]
    assert restored[1].act(1) == 2
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(node)


def test_nodes_in_partials_and_containers_are_members_of_the_group():
    node = Leaf()
    node.call = functools.partial(max, Branch(), key=node)
    node.deep = {"a": [((Branch(),),)]}
    node.call.args[0].owner = node
    restored = again(node)
    assert restored.call.args[0].owner is restored
    assert restored.call.keywords["key"] is restored
    assert isinstance(restored.deep["a"][0][0][0], Branch)


def test_plans_homes_and_places_stay_behind():
    node = sample()
    node._graph_plan = None
    data = pickle.dumps(node)
    for name in (b"_graph_plan", b"_graph_home", b"_place"):
        assert name not in data
    assert again(node).weight._place is None
    assert again(node)._graph_home is None


def test_every_protocol_from_two_on_works():
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert_same_graph(sample(), pickle.loads(pickle.dumps(sample(), protocol)))


def test_a_group_is_what_its_nodes_are():
    node = sample()
    group = Group([node, node.inner])
    restored = again((group, node))
    assert restored[0].nodes[1] is not restored[1].inner
    assert len(restored[0].nodes) == 2
