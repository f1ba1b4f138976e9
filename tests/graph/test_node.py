"""Nodes: plain Python objects of every shape that Python has."""

import copy
import functools
import pickle
from dataclasses import dataclass, field

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate.graph as g
from graphstate.errors import StructureError, TraceContextError
from graphstate.graph import Node, ParamState, State
from tests.graph.graphs import assert_same_graph

pytestmark = pytest.mark.no_leak_check("very many eager operations")


class Affine(Node):
    def __init__(self, size=2):
        self.scale = ParamState(jnp.ones(size))
        self.shifts = [ParamState(jnp.zeros(size))]

    def __call__(self, x):
        return self.scale.value * x + self.shifts[0].value


@dataclass
class Plain(Node):
    size: int
    weight: State = field(default_factory=lambda: ParamState(jnp.ones(2)))


@dataclass(eq=True)
class Comparing(Node):
    size: int
    array: jax.Array = field(default_factory=lambda: jnp.ones(2))


@dataclass(frozen=True)
class Frozen(Node):
    size: int
    weight: State = field(default_factory=lambda: ParamState(jnp.ones(2)))


@dataclass(slots=True)
class Slotted(Node):
    size: int
    weight: State = field(default_factory=lambda: ParamState(jnp.ones(2)))


@dataclass(frozen=True, slots=True)
class FrozenSlotted(Node):
    size: int
    weight: State = field(default_factory=lambda: ParamState(jnp.ones(2)))


class Handwritten(Node):
    __slots__ = ("__hidden", "weight")

    def __init__(self, size):
        self.weight = ParamState(jnp.ones(2))
        self.__hidden = State(size)

    def hidden(self):
        return self.__hidden.value


DATACLASSES = [Plain, Comparing, Frozen, Slotted, FrozenSlotted, Handwritten]


def test_lists_dicts_and_arrays_need_no_declaration():
    node = Affine()
    node.table = {"a": [State(1)], 3: (jnp.ones(2), np.ones(3))}
    node.shifts.append(ParamState(jnp.zeros(1)))
    assert [g.write_path(path) for path in g.state(node)] == [
        "scale", "shifts/0", "shifts/1", "table/3/0", "table/3/1", "table/a/0",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", DATACLASSES)
def test_every_way_of_writing_a_class_works(kind):
    node = kind(3)
    graphdef, state = g.split(node)
    assert len(state) >= 1
    merged = g.merge(graphdef, state)
    assert type(merged) is kind
    assert g.diff(node, merged) == []
    g.update(node, jax.tree.map(lambda x: x * 0, state))
    assert all(not value.any() for value in g.state(node).values())
    copies = [
        g.clone(node),
        copy.copy(node),
        copy.deepcopy(node),
        pickle.loads(pickle.dumps(node)),
        cloudpickle.loads(cloudpickle.dumps(node)),
        g.unstack(g.stack([node, g.clone(node)]))[0],
    ]
    for copied in copies:
        assert type(copied) is kind
        assert copied is not node
        assert g.diff(node, copied) == []
    assert repr(node)


def test_a_private_slot_is_an_attribute():
    node = Handwritten(5)
    assert [g.write_path(path) for path in g.states(node)] == ["_Handwritten__hidden", "weight"]
    assert g.merge(*g.split(node)).hidden() == 5


def test_a_node_without_a_hash_may_be_shared():
    node = Node()
    node.a = node.b = Comparing(1)
    merged = g.merge(*g.split(node))
    assert merged.a is merged.b


def test_attributes_called_states_and_nodes_shadow():
    node = Node()
    node.states, node.nodes = State(1), [State(2)]
    assert [g.write_path(path) for path in g.states(node)] == ["nodes/0", "states"]
    assert_same_graph(node, g.clone(node))
    assert repr(node) == "Node(nodes=[State(2)], states=State(1))"


def test_the_methods_are_the_functions():
    node = Affine()
    assert dict(node.states(ParamState)) == dict(g.states(node, ParamState))
    assert dict(node.nodes()) == {(): node}
    params, rest = node.states(ParamState, ...)
    assert len(params) == 2
    assert len(rest) == 0


def test_a_cached_property_is_no_structure():
    class Cached(Node):
        @functools.cached_property
        def table(self):
            return jnp.ones(2)

    node = Cached()
    before = g.graphdef(node)
    assert node.table.shape == (2,)
    assert g.graphdef(node) == before
    assert "table" not in vars(g.clone(node))


def test_attributes_of_a_new_class_and_a_property_are_told_apart():
    class Sized(Node):
        def __init__(self):
            self.weight = State(jnp.ones(2))

        @property
        def size(self):
            return self.weight.value.size

    assert g.merge(*g.split(Sized())).size == 2


def test_touch_says_that_the_dict_was_written():
    node = Node()
    before = node._graph_version
    vars(node)["depth"] = 3
    assert node._graph_version == before
    g.touch(node)
    assert node._graph_version > before


def test_copy_shares_what_is_below():
    node = Affine()
    copied = copy.copy(node)
    assert copied.scale is node.scale
    assert copied.shifts is node.shifts
    copied.scale = None
    assert isinstance(node.scale, State)


@pytest.mark.parametrize("change", [lambda node: setattr(node, "scale", 1), lambda node: delattr(node, "scale")])
def test_a_node_from_outside_of_a_trace_is_not_changed_in_it(change):
    node = Affine()

    @jax.jit
    def changes():
        change(node)

    with pytest.raises(TraceContextError, match="Attribute 'scale' of a Affine was changed inside of a transform"):
        changes()
    assert isinstance(node.scale, State)


def test_a_node_that_outlived_its_trace_may_be_changed():
    kept = []

    @jax.jit
    def make():
        kept.append(Node())
        kept[0].inside = 1
        return 0

    make()
    kept[0].outside = 2
    assert vars(kept[0]) == {"inside": 1, "outside": 2}


def test_deleting_an_attribute_is_seen():
    node = Affine()
    del node.shifts
    assert list(g.state(node)) == [("scale",)]


def test_a_static_value_that_cannot_be_hashed_is_named_by_its_path():
    node = Node()
    node.inner = Node()
    node.inner.bad = {1, 2}
    with pytest.raises(StructureError, match="at `inner/bad` there is a set and it cannot be hashed: <set>"):
        g.split(node)
