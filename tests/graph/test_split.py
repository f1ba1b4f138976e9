"""`split`, `merge`, `state` and `graphdef`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate.graph as g
from graphstate.errors import FilterError, StateTypeError, StructureError, UpdateError
from graphstate.filters import PathContains
from graphstate.graph import BatchState, Node, ParamState, State
from tests.graph.graphs import assert_same_graph

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def sample():
    node = Node()
    node.weight = ParamState(jnp.ones((2, 3)))
    node.mean = BatchState(jnp.zeros(3), tags="frozen")
    node.table = np.arange(3)
    node.inner = {"bias": ParamState(jnp.ones(3)), "count": State(0)}
    return node


def paths(state):
    return [g.write_path(path) for path in state]


def test_without_filters_all_values_come_in_one():
    graphdef, state = g.split(sample())
    assert paths(state) == ["inner/bias", "inner/count", "mean", "table", "weight"]
    assert graphdef == g.graphdef(sample())


def test_with_filters_each_gets_what_it_is_the_first_to_match():
    _, params, frozen, rest = g.split(sample(), ParamState, (State, "frozen"), ...)
    assert paths(params) == ["inner/bias", "weight"]
    assert paths(frozen) == ["inner/count", "mean"]
    assert paths(rest) == ["table"]


def test_an_array_is_matched_by_its_type_and_path():
    assert paths(g.state(sample(), np.ndarray)) == ["table"]
    assert paths(g.state(sample(), PathContains("table"))) == ["table"]
    assert paths(g.state(sample(), State)) == ["inner/bias", "inner/count", "mean", "weight"]


def test_a_remainder_without_ellipsis_is_an_error_that_lists_it():
    with pytest.raises(FilterError) as caught:
        g.split(sample(), BatchState)
    assert str(caught.value) == (
        "`split` needs a filter for every state, but none of its 1 filters matches:\n"
        "  inner/bias (ParamState)\n  inner/count (State)\n  table (array)\n  weight (ParamState)\n"
        "Add `...` as the last filter to collect the rest."
    )


@pytest.mark.parametrize("call", [g.split, g.state, g.states, g.pop])
def test_an_ellipsis_before_another_filter_is_refused(call):
    with pytest.raises(FilterError, match=r"must be the last filter, but it is number 1 of 2\. Move it to the end"):
        call(sample(), ..., State)


def test_a_filter_of_another_kind_is_refused():
    with pytest.raises(StateTypeError, match="A filter is a type"):
        g.split(sample(), 3)


def test_state_leaves_out_what_no_filter_selects():
    assert paths(g.state(sample(), BatchState)) == ["mean"]
    params, means = g.state(sample(), ParamState, BatchState)
    assert (len(params), len(means)) == (2, 1)
    assert len(g.state(sample(), None)) == 0


def test_a_callable_filter_gets_path_and_record():
    seen = []

    def chosen(path, record):
        seen.append((path, record.type, record.tags, dict(record.metadata), jnp.shape(record.value)))
        return path[-1] == "mean"

    assert paths(g.state(sample(), chosen)) == ["mean"]
    assert (("mean",), BatchState, frozenset({"frozen"}), {}, (3,)) in seen
    assert (("table",), np.ndarray, frozenset(), {}, (3,)) in seen
    seen.clear()
    assert list(g.states(sample(), chosen)) == [("mean",)]
    assert len(seen) == 4


def test_a_pytree_of_nodes_and_states_will_do():
    model, count = sample(), State(3)
    graphdef, state = g.split({"model": model, "extra": (count, count, jnp.ones(1))})
    assert paths(state)[:3] == ["extra/0", "extra/2", "model/inner/bias"]
    merged = g.merge(graphdef, state)
    assert merged["extra"][0] is merged["extra"][1]
    assert_same_graph(model, g.merge(*g.split((model,)))[0])


def test_a_state_by_itself_will_do():
    state = ParamState(jnp.ones(2), tags="a")
    graphdef, values = g.split(state)
    assert list(values) == [()]
    merged = g.merge(graphdef, values)
    assert type(merged) is ParamState
    assert merged.tags == {"a"}
    assert paths(g.state(state)) == [""]


def test_numbers_become_arrays_in_a_graphstate():
    state = g.state(sample())
    assert isinstance(state["inner/count"], jax.Array)
    assert all(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(state))


def test_a_state_with_a_pytree_is_one_entry():
    node = Node()
    node.carry = State({"c": jnp.ones(2), "h": (jnp.zeros(1), 2.0)})
    graphdef, state = g.split(node)
    assert len(state) == 1
    assert len(jax.tree.leaves(state)) == 3
    assert g.merge(graphdef, state).carry.value["h"][0].shape == (1,)


def test_merge_makes_a_fresh_node():
    node = sample()
    graphdef, state = g.split(node)
    one, two = g.merge(graphdef, state), g.merge(graphdef, state)
    assert one is not two
    assert one.inner is not two.inner
    one.weight.value = jnp.zeros(1)
    assert node.weight.value.shape == two.weight.value.shape == (2, 3)


def test_merge_lists_missing_unknown_and_repeated_paths():
    graphdef, params, rest = g.split(sample(), ParamState, ...)
    other = g.GraphState.from_dict({"stray": jnp.ones(1)})
    with pytest.raises(UpdateError) as caught:
        g.merge(graphdef, params, params, other)
    assert caught.value.differences == (
        "missing: inner/count", "missing: mean", "missing: table", "unknown: stray",
        "given twice: inner/bias", "given twice: weight",
    )  # fmt: skip
    assert str(caught.value) == (
        "`merge` needs one value for each of the 5 paths of the GraphDef, but:\n"
        "  missing: inner/count\n  missing: mean\n  missing: table\n  unknown: stray\n  and 2 more\n"
        "Give all the GraphStates that `split` returned, or change some values with `update` instead."
    )
    assert len(g.state(g.merge(graphdef, rest, params))) == 5


def test_merge_takes_nested_dicts_and_rebuilds_the_types():
    graphdef, state = g.split(sample())
    merged = g.merge(graphdef, state.to_dict())
    assert type(merged.mean) is BatchState
    assert merged.mean.tags == {"frozen"}
    plain = g.GraphState.from_dict(state.to_dict())
    assert type(g.merge(graphdef, plain).mean) is BatchState


def test_merge_refuses_what_is_no_graphdef():
    with pytest.raises(StateTypeError, match="`merge` needs a GraphDef and GraphStates, but a Node came first"):
        g.merge(sample(), g.state(sample()))
    with pytest.raises(StateTypeError, match="`merge` takes GraphStates and nested dicts, but a Node came"):
        g.merge(g.graphdef(sample()), sample())


def test_split_and_merge_inside_of_plain_jax_are_right():
    graphdef, state = g.split(sample())

    @jax.jit
    def doubled(state):
        node = g.merge(graphdef, state)
        node.weight.value = node.weight.value * 2
        node.inner["count"].value += 1
        return g.state(node)

    out = doubled(state)
    assert out._layout == state._layout
    assert (out["weight"] == 2).all()
    assert out["inner/count"] == 1


def test_gradients_map_together_with_the_state():
    graphdef, params, rest = g.split(sample(), ParamState, ...)

    def loss(params):
        return (g.merge(graphdef, params, rest).weight.value ** 2).sum()

    grads = jax.vmap(jax.grad(loss), axis_size=3, in_axes=None)(params)
    moved = jax.tree.map(lambda p, d: p - d.mean(0), params, grads)
    assert paths(moved) == ["inner/bias", "weight"]


def test_abstract_values_split_and_merge():
    graphdef, state = g.split(sample())
    shapes = jax.eval_shape(lambda state: state, state)
    node = g.merge(graphdef, shapes)
    assert node.weight.value == jax.ShapeDtypeStruct((2, 3), jnp.float32)
    assert jax.tree.leaves(g.state(node)) == jax.tree.leaves(shapes)


def test_an_empty_node_has_an_empty_state():
    graphdef, state = g.split(Node())
    assert len(state) == 0
    assert jax.tree.leaves(state) == []
    assert isinstance(g.merge(graphdef, state), Node)


def test_what_is_static_only_is_refused_where_it_cannot_be_hashed():
    with pytest.raises(StructureError, match=r"at `\(root\)` there is a set"):
        g.split({1, 2})
