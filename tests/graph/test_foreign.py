"""Classes that are no Nodes but were registered."""

import copy

import jax.numpy as jnp
import pytest

import graphstate.graph as g
from graphstate.errors import StructureError
from graphstate.graph import Node, State
from graphstate.graph._flatten import flatten, is_unchanged, unflatten

pytestmark = pytest.mark.no_leak_check("very many eager operations")


class Point:
    def __init__(self):
        self.x = State(jnp.ones(2))
        self.label = "p"
        self.others = [self]


g.register_node_type(Point, attributes=vars, set_attribute=setattr, create=object.__new__)


def test_an_object_of_a_registered_class_is_a_node():
    point = Point()
    point.array = jnp.zeros(1)
    merged = g.merge(*g.split(point))
    assert type(merged) is Point
    assert merged.others == [merged]
    assert list(g.nodes(point)) == [()]
    assert [g.write_path(path) for path in g.state(point)] == ["array", "x"]
    g.update(point, {"array": jnp.ones(1), "x": jnp.zeros(2)})
    assert point.array == 1
    holder = Node()
    holder.point = point
    assert "others=[↺ point]" in repr(holder)


def test_it_may_be_shared_with_nodes():
    node = Node()
    node.a = node.b = Point()
    node.a.owner = node
    for copied in (g.clone(node), copy.deepcopy(node), g.stack([node, g.clone(node)])):
        assert copied.a is copied.b
        assert copied.a.owner is copied


def test_a_change_of_an_attribute_is_found():
    point = Point()
    flat = flatten(point)
    assert is_unchanged(flat)
    point.label = "q"
    assert not is_unchanged(flat)
    point.label, point.extra = "p", 1
    assert not is_unchanged(flat)


def test_unflatten_removes_what_is_gone():
    point = Point()
    flat = flatten(point)
    point.extra = 1
    unflatten(flat.graphdef, [None], existing=dict(enumerate(flat.objects)))
    assert not hasattr(point, "extra")


def test_a_subclass_is_not_registered_with_it():
    class Special(Point):
        pass

    node = Node()
    node.special = Special()
    with pytest.raises(StructureError, match="The Special at `special` holds a State"):
        g.split(node)


def test_a_class_is_registered_once():
    with pytest.raises(StructureError, match="Point is registered as a node type already"):
        g.register_node_type(Point, attributes=vars, set_attribute=setattr, create=object.__new__)
