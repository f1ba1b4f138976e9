"""What the walk refuses, and that bound methods and partials are structure."""

import collections
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate.graph as g
from graphstate.errors import StructureError
from graphstate.graph import Node, ParamState, State
from graphstate.graph._flatten import flatten, is_unchanged, unflatten
from tests.graph.graphs import Branch

pytestmark = pytest.mark.no_leak_check("very many eager operations")


class Layer(Node):
    def __init__(self):
        self.weight = ParamState(jnp.ones(2))

    def double(self, x=1):
        return self.weight.value * 2 * x


def test_a_bound_method_is_rebound():
    node = Layer()
    node.call = node.double
    merged = g.merge(*g.split(node))
    merged.weight.value = jnp.zeros(2)
    assert merged.call.__self__ is merged
    assert not merged.call().any()
    assert node.call().all()


@pytest.mark.parametrize("kind", [functools.partial, jax.tree_util.Partial])
def test_a_partial_is_rebound(kind):
    node = Layer()
    node.call = kind(node.double, x=3)
    node.made = kind(operator.add, node, 2)
    merged = g.merge(*g.split(node))
    assert type(merged.call) is kind
    assert merged.call.func.__self__ is merged
    assert merged.call.keywords == {"x": 3}
    assert merged.made.args == (merged, 2)
    assert g.diff(merged, node) == []
    merged.call = kind(merged.double, x=4)
    assert g.diff(node, merged) == ["call/x: 3 -> 4"]


def test_a_partial_that_is_held_twice_is_one_partial_after_merge():
    node = Layer()
    node.call = functools.partial(operator.add, node)
    node.calls = [node.call, functools.partial(operator.add, node)]
    merged = g.merge(*g.split(node))
    assert merged.calls[0] is merged.call
    assert merged.calls[1] is not merged.call
    assert g.shared(node)["call",] == (("calls", 0),)
    merged.calls[0] = functools.partial(operator.add, merged)
    assert g.diff(node, merged) == ["calls/0: shared with `call` -> partial of 1 arguments of its own"]


def test_a_partial_that_holds_itself_is_refused():
    node = Node()
    node.call = functools.partial(dict)
    node.call.keywords["me"] = node.call
    with pytest.raises(StructureError, match="the pytree at `call` is made of itself"):
        g.clone(node)


def test_a_function_beside_a_partial_may_name_it_unless_it_holds_the_graph():
    node = Layer()
    total = node.total = functools.partial(sum, start=1.0)
    node.function = lambda xs: total(xs)
    assert g.merge(*g.split(node)).function([2.0]) == 3.0
    holding = node.holding = functools.partial(operator.add, node)
    node.function = lambda: holding
    with pytest.raises(StructureError, match=r"refers to the graph that it is part of \(args\[0\] is `\(root\)`\)"):
        g.split(node)


def test_a_partial_may_hold_states_and_arrays():
    node = Node()
    node.call = functools.partial(operator.add, State(1), b=jnp.ones(2))
    assert [g.write_path(path) for path in g.state(node)] == ["call/0", "call/b"]


def closing(node):
    return lambda x: x * node.weight.value


def defaulting(node):
    def function(x, *, owner=node):
        return x

    return function


def holding(node):
    nodes = [node]
    return lambda x: nodes[0]


def nesting(node):
    inner = closing(node)
    return lambda x: inner(x)


def wrapping(node):
    return functools.wraps(closing(node))(len)


@pytest.mark.parametrize("make", [closing, defaulting, holding, nesting, lambda node: jax.jit(closing(node))])
def test_a_function_that_reaches_its_own_graph_is_refused(make):
    node = Layer()
    node.act = make(node)
    with pytest.raises(
        StructureError, match=r"The function .* at `act` refers to the graph that it is part of \(\w+ is `\(root\)`\)"
    ):
        g.split(node)


def test_a_function_that_reaches_a_state_of_its_graph_is_refused():
    node = Layer()
    weight = node.weight
    node.act = lambda x: x * weight.value
    with pytest.raises(StructureError, match=r"\(weight is `weight`\).*use `functools.partial\(f, self\)`"):
        g.split(node)


def test_a_method_of_a_list_of_the_graph_is_refused():
    node = Node()
    node.items = []
    node.add = node.items.append
    with pytest.raises(StructureError, match=r"The function list\.append at `add` refers to the graph"):
        g.split(node)


def test_a_function_that_reaches_another_graph_is_static():
    other = Layer()
    node = Node()
    node.act = closing(other)
    assert g.merge(*g.split(node)).act is node.act


def test_a_static_object_that_hides_a_state_is_refused():
    class Holder:
        def __init__(self):
            self.state = State(1)

    node = Node()
    node.holder = Holder()
    with pytest.raises(
        StructureError, match=r"The Holder at `holder` holds a State \(state\) where the graph does not reach"
    ):
        g.split(node)
    node.holder = frozenset([State(1)])
    with pytest.raises(StructureError, match="The frozenset at `holder` holds a State"):
        g.split(node)


@pytest.mark.parametrize("key", [State(1), Node()])
def test_a_state_as_key_is_refused(key):
    node = Node()
    node.table = {key: 1}
    with pytest.raises(StructureError, match=r"The dict at `table` holds a (State|Node) \(a key\)"):
        g.split(node)


def test_two_keys_that_are_written_alike_are_refused():
    node = Node()
    node.table = {1: State(1), "1": State(2)}
    with pytest.raises(StructureError, match="the dict at `table` has two keys that are written '1'"):
        g.split(node)


@pytest.mark.parametrize("table", [{"a/b": State(1), "a": {"b": State(2)}}, {"": Node()}])
def test_two_paths_that_are_written_alike_are_refused(table):
    node = Node()
    node.table = table
    if "" in table:
        node = table
    with pytest.raises(
        StructureError, match=r"must differ when they are written, but \(.*\) and \(.*\) are both written"
    ):
        g.split(node)


def slashed_attribute():
    node = Node()
    node.a = Node()
    node.a.b = State(1.0)
    setattr(node, "a/b", State(2.0))
    return node


def slashed_attribute_and_key():
    node = Node()
    node.table = {"x": {"y": State(1.0)}}
    setattr(node, "table/x", {"y": State(2.0)})
    return node


def unnamed_attribute():
    node = Node()
    setattr(node, "", State(1.0))
    return node


def slashed_keyword():
    node = Node()
    node.call = functools.partial(len, **{"a/b": State(1.0), "a": {"b": State(2.0)}})
    return node


CALLS = {
    "split": g.split,
    "graphdef": g.graphdef,
    "state": g.state,
    "states": g.states,
    "nodes": g.nodes,
    "shared": g.shared,
    "clone": g.clone,
    "update": lambda node: g.update(node, {"a/b": 3.0}),
    "pop": lambda node: g.pop(node, State),
    "stack": lambda node: g.stack([node, node]),
    "diff": lambda node: g.diff(node, Node()),
    "from_dict": lambda node: g.GraphState.from_dict({"a/b": 1.0}, like=node),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("make", [slashed_attribute, slashed_attribute_and_key, unnamed_attribute, slashed_keyword])
def test_every_call_refuses_paths_that_are_written_alike(make, call):
    node = make()
    before = repr(node)
    text = r"must differ when they are written.*Use keys and attribute names without a slash"
    with pytest.raises(StructureError, match=text):
        CALLS[call](node)
    assert repr(node) == before


def test_attribute_names_with_slashes_work_where_nothing_is_written_alike():
    node = Node()
    setattr(node, "a/b", State(1.0))
    node.a = Node()
    node.a.c = State(2.0)
    g.update(node, {"a/b": 3.0, "a": {"c": 4.0}})
    assert g.state(node)["a/b"] == 3.0
    assert g.states(node)["a/c"].value == 4.0
    graphdef, state = g.split(node)
    assert g.diff(g.merge(graphdef, state), node) == []


def test_keys_with_slashes_work_where_nothing_is_written_alike():
    node = Node()
    node.params = {"linear/w": State(jnp.ones(2)), "linear/b": State(jnp.zeros(2)), "deep": {"x/y": State(1)}}
    state = g.state(node)
    assert state["params/linear/w"].shape == (2,)
    assert state[("params", "linear/w")] is state["params/linear/w"]
    g.update(node, {"params": {"linear": {"w": jnp.zeros(2)}}, "params/linear/b": jnp.ones(2), "params/deep/x/y": 3})
    assert not node.params["linear/w"].value.any()
    assert node.params["linear/b"].value.all()
    assert node.params["deep"]["x/y"].value == 3
    assert g.states(node)["params/deep/x/y"] is node.params["deep"]["x/y"]


def test_the_static_part_of_a_pytree_must_be_hashable():
    node = Node()
    node.tree = g.GraphState.from_dict({"a": jnp.ones(1)})
    assert len(g.state(node)) == 1

    @jax.tree_util.register_pytree_node_class
    class Labelled:
        def tree_flatten(self):
            return (), ["unhashable"]

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls()

    node.tree = Labelled()
    with pytest.raises(
        StructureError, match="at `tree` there is a Labelled and the static part of this pytree cannot be hashed"
    ):
        g.split(node)


@pytest.mark.parametrize(
    "change",
    [
        lambda node: setattr(node, "x", 1),
        lambda node: delattr(node, "rate"),
        lambda node: node.items.append(1),
        lambda node: node.items.reverse(),
        lambda node: node.table.update(b=1),
        lambda node: node.table.update(a=node.table.pop("a"), z=node.table.pop("z")),
        lambda node: setattr(node.inner.length, "unit", "km"),
    ],
)
def test_a_walk_knows_whether_the_graph_is_still_the_same(change):
    class Meter(State):
        unit = None

    node = Node()
    node.rate, node.items, node.table, node.inner = 0.5, [1, 2], {"z": 1, "a": 2}, Branch()
    node.inner.length = Meter(1)
    node.inner.length.unit = "m"
    flat = flatten(node)
    assert is_unchanged(flat)
    node.inner.length.value = 2
    assert is_unchanged(flat)
    change(node)
    assert not is_unchanged(flat)


def test_a_change_of_a_pytree_object_is_found():
    node = Node()
    node.table = collections.OrderedDict(a=1)
    flat = flatten(node)
    assert is_unchanged(flat)
    node.table["a"] = 2
    assert not is_unchanged(flat)
    node.table["a"] = 1
    assert is_unchanged(flat)
    node.table["b"] = 2
    assert not is_unchanged(flat)


def test_unflatten_uses_existing_objects_and_leaves_those_that_fit_alone():
    node = Node()
    node.items, node.table, node.pair = [State(1)], {"a": State(2)}, (1, 2.5, "x", None)
    flat = flatten(node)
    versions = list(flat.versions)
    existing = {place: item for place, item in enumerate(flat.objects) if isinstance(item, Node | State | list | dict)}
    objects = unflatten(flat.graphdef, [None] * len(flat.graphdef.leaves), existing=existing)
    assert objects[0] is node
    assert node.items == [flat.objects[flat.graphdef.find(("items", 0))]]
    assert g.diff(node, g.clone(node)) == []
    assert len(versions) == 1


def test_numpy_arrays_stay_numpy_arrays():
    node = Node()
    node.table = np.arange(3)
    assert type(g.merge(*g.split(node)).table) is np.ndarray
    node.table = jnp.arange(3)
    assert isinstance(g.merge(*g.split(node)).table, jax.Array)
