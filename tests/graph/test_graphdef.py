"""GraphDef: hashable, comparable, without leaves, and numbered in the order of traversal."""

import collections
import pickle

import jax
import jax.numpy as jnp
import pytest

import graphstate.graph as g
from graphstate.errors import StructureError
from graphstate.graph import Node, ParamState, State
from tests.graph.graphs import Leaf, Pair

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def sample(rate=0.5):
    node = Node()
    node.rate = rate
    node.weight = ParamState(jnp.ones((2, 3)), tags="frozen", unit="m")
    node.tied = [node.weight, {"b": (1, jnp.ones(1)), "a": Pair(State(1), None)}]
    node.me = node
    return node


def test_equal_structures_are_equal_and_hash_alike():
    one, two = g.graphdef(sample()), g.graphdef(sample())
    assert one == two
    assert hash(one) == hash(two)
    assert one != g.graphdef(sample(0.25))
    assert one != "text"
    assert g.graphdef(one) is one


def test_values_and_shapes_are_no_structure():
    node = sample()
    node.weight.value = jnp.zeros(7)
    assert g.graphdef(node) == g.graphdef(sample())


@pytest.mark.parametrize(
    "change",
    [
        lambda node: setattr(node, "extra", 1),
        lambda node: delattr(node, "rate"),
        lambda node: setattr(node, "weight", State(jnp.ones((2, 3)), tags="frozen", unit="m")),
        lambda node: node.tied.append(1),
        lambda node: setattr(node, "tied", tuple(node.tied)),
        lambda node: node.tied[1].update(c=1),
        lambda node: node.tied[1].update(b=node.tied[1].pop("b")),
        lambda node: setattr(node, "me", Node()),
        lambda node: node.tied.__setitem__(0, ParamState(jnp.ones((2, 3)), tags="frozen", unit="m")),
    ],
)
def test_every_change_of_structure_is_seen(change):
    node = sample()
    change(node)
    assert g.graphdef(node) != g.graphdef(sample())
    assert g.diff(g.graphdef(node), g.graphdef(sample()))


def test_a_graphdef_is_a_pytree_without_leaves_and_a_static_argument():
    graphdef = g.graphdef(sample())
    assert jax.tree.leaves(graphdef) == []
    assert jax.tree.map(lambda x: x, {"g": graphdef}) == {"g": graphdef}
    traced = []

    @jax.jit
    def total(graphdef, state):
        traced.append(1)
        return g.merge(graphdef, state).weight.value.sum()

    for _ in range(2):
        assert total(*g.split(sample())) == 6
    assert traced == [1]


def test_a_list_held_by_two_attributes_is_one_list_after_merge():
    node = Node()
    node.a = node.b = [State(1)]
    node.c = {"x": node.a}
    merged = g.merge(*g.split(node))
    assert merged.a is merged.b is merged.c["x"]


def test_the_identity_of_arrays_and_tuples_does_not_count():
    node, other = Node(), Node()
    array = jnp.ones(2)
    node.a, node.b = (array, array), (array,)
    other.a, other.b = (jnp.ones(2), jnp.ones(2)), (jnp.ones(2),)
    assert g.graphdef(node) == g.graphdef(other)
    assert len(g.state(node)) == 3


def test_traversal_is_depth_first_and_sorted():
    node = Node()
    node.z, node.a = State(1), [State(2), {"b": State(3), 10: State(4), 9: State(5)}]
    assert [g.write_path(path) for path in g.states(node)] == ["a/0", "a/1/9", "a/1/10", "a/1/b", "z"]


def test_namedtuple_parts_are_names_and_those_of_other_pytrees_their_keys():
    node = Node()
    node.pair = Pair(State(1), State(2))
    node.ordered = collections.OrderedDict(z=State(3), a=State(4))
    assert [g.write_path(path) for path in g.states(node)] == ["ordered/a", "ordered/z", "pair/left", "pair/right"]
    merged = g.merge(*g.split(node))
    assert type(merged.pair) is Pair
    assert list(merged.ordered) == ["z", "a"]


def test_the_order_of_a_dict_is_kept_and_compared():
    node = Node()
    node.table = {"b": State(1), "a": State(2)}
    merged = g.merge(*g.split(node))
    assert list(merged.table) == ["b", "a"]


def test_paths_are_found_whatever_way_they_take():
    graphdef = g.graphdef(sample())
    place = graphdef.find(("weight",))
    assert graphdef.find(("me", "me", "tied", "0")) == place == graphdef.find(("tied", 0))
    assert graphdef.find(("nothing",)) is None
    assert graphdef.path(place) == ("tied", 0)
    assert graphdef.reachable(place) == {place}
    assert graphdef.reachable(0) == set(range(len(graphdef.heads)))


@jax.tree_util.register_pytree_with_keys_class
class Box:
    """A pytree that is mutable and has an identity."""

    def __init__(self, item):
        self.item = item

    def tree_flatten_with_keys(self):
        return ((jax.tree_util.GetAttrKey("item"), self.item),), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def test_a_shared_pytree_object_is_shared_after_merge():
    node = Node()
    node.a = Box(State(1))
    node.b = (node.a, 2)
    merged = g.merge(*g.split(node))
    assert merged.a is merged.b[0]
    assert g.shared(node) == {("a",): (("b", 0),)}
    node.a.item = State(2)
    assert g.clone(node).a.item.value == 2


def test_a_pytree_that_is_made_of_itself_cannot_be_built():
    node = Node()
    node.box = Box(None)
    node.box.item = (node.box,)
    graphdef, state = g.split(node)
    with pytest.raises(
        StructureError, match="must pass a Node, a list or a dict, but the pytree at `box` is made of itself"
    ):
        g.merge(graphdef, state)


def test_a_cycle_through_a_pytree_and_a_node_is_built():
    node = Node()
    node.box = Box((node, [1]))
    merged = g.merge(*g.split(node))
    assert merged.box.item[0] is merged


def test_graphdefs_pickle_with_every_kind_of_head():
    node = sample()
    node.leaf = Leaf()
    node.ordered = collections.OrderedDict(z=1)
    graphdef = g.graphdef(node)
    assert pickle.loads(pickle.dumps(graphdef)) == graphdef
