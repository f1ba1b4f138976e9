"""`pop` removes States with all their aliases."""

import jax
import jax.numpy as jnp
import pytest

import graphstate.graph as g
from graphstate.errors import FilterError, StaleReadWarning, StructureError, TraceContextError
from graphstate.graph import HiddenState, Node, ParamState, State
from tests.graph.graphs import assert_same_graph

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def sample():
    node = Node()
    node.weight = ParamState(jnp.ones(2))
    node.hidden = HiddenState(jnp.zeros(3))
    node.items = [node.hidden, ParamState(jnp.ones(1)), node.hidden, 5, HiddenState(jnp.ones(1))]
    node.table = {"h": node.hidden, 2: node.weight}
    node.array = jnp.ones(1)
    return node


def test_it_removes_every_alias_and_returns_the_values():
    node = sample()
    popped = g.pop(node, HiddenState)
    assert [g.write_path(path) for path in popped] == ["hidden", "items/4"]
    assert not hasattr(node, "hidden")
    assert [type(item) for item in node.items] == [ParamState, int]
    assert list(node.table) == [2]
    assert not g.states(node, HiddenState)


def test_it_returns_one_graphstate_a_filter():
    node = sample()
    hidden, params = g.pop(node, HiddenState, ParamState)
    assert (len(hidden), len(params)) == (2, 2)
    assert node.items == [5]
    assert vars(node).keys() == {"items", "table", "array"}


def test_ellipsis_removes_all_states_and_no_arrays():
    node = sample()
    assert len(g.pop(node, ...)) == 4
    assert list(g.state(node)) == [("array",)]


def test_what_is_popped_keeps_the_paths_of_its_aliases():
    node = sample()
    popped = g.pop(node, HiddenState)
    assert popped["table/h"] is popped["hidden"]


def test_a_filter_that_selects_nothing_removes_nothing():
    node = sample()
    assert len(g.pop(node, "nothing")) == 0
    assert_same_graph(node, sample())


def test_without_a_filter_it_is_an_error():
    with pytest.raises(FilterError, match=r"`pop` needs a filter that says what to remove, but none came"):
        g.pop(sample())


@pytest.mark.parametrize("holder", [lambda state: (state, 1), lambda state: {"a": [(state,)]}])
def test_from_a_tuple_it_is_an_error_and_nothing_is_removed(holder):
    node = sample()
    node.more = holder(node.hidden)
    before = g.graphdef(node)
    with pytest.raises(
        StructureError, match="but these are held by something that cannot be changed:\n  more/"
    ) as caught:
        g.pop(node, HiddenState)
    assert "Nothing was removed. Keep them in a list" in str(caught.value)
    assert len(caught.value.differences) == 1
    assert g.graphdef(node) == before


def test_a_state_by_itself_cannot_be_popped():
    with pytest.raises(StructureError, match=r"\(root\)"):
        g.pop(State(1), ...)


def test_in_a_pytree_of_nodes_each_is_popped_from():
    one, two = sample(), sample()
    popped = g.pop((one, {"x": two}), HiddenState)
    assert next(iter(popped)) == (0, "hidden")
    assert not hasattr(two, "hidden")


def test_a_node_from_outside_of_a_trace_is_not_changed():
    node = sample()

    @jax.jit
    def pops():
        g.pop(node, HiddenState)

    with pytest.warns(StaleReadWarning), pytest.raises(TraceContextError, match="was changed inside of a transform"):
        pops()
    assert_same_graph(node, sample())


def test_a_registered_object_loses_its_attribute():
    class Point:
        pass

    g.register_node_type(Point, attributes=vars, set_attribute=setattr, create=object.__new__)
    point = Point()
    point.x, point.y = State(1), 3
    assert g.pop(point, ...)["x"] == 1
    assert vars(point) == {"y": 3}
