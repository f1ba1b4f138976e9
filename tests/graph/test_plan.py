"""A graph that has not changed is not walked again, and a change is always seen."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from tests.counting import calls_of


class Layer(gs.Node):
    def __init__(self, size=1.0):
        self.weight, self.bias = gs.ParamState(jnp.full(2, size)), gs.ParamState(jnp.zeros(2))


class Model(gs.Node):
    def __init__(self, depth=2):
        self.layers = [Layer() for _ in range(depth)]
        self.table = {"scale": gs.State(jnp.ones(2))}
        self.depth = depth
        self.act = functools.partial(scaled, by=2.0)


def scaled(x, **factors):
    return x * sum(factors.values())


def append(model):
    model.layers.append(Layer())


def swap(model):
    model.layers[0] = Layer(7.0)


def reorder(model):
    model.layers.reverse()


def add_a_key(model):
    model.table["shift"] = gs.State(jnp.ones(2))


def drop_a_key(model):
    del model.table["scale"]


def set_a_static(model):
    model.depth = 5


def set_below(model):
    model.layers[1].extra = gs.State(jnp.ones(2))


def delete_below(model):
    del model.layers[1].bias


def share(model):
    model.layers[1].weight = model.layers[0].weight


def write_and_touch(model):
    vars(model.layers[0])["late"] = gs.State(jnp.ones(2))
    gs.graph.touch(model.layers[0])


def set_a_keyword(model):
    model.act.keywords["by"] = 3.0


def add_a_keyword(model):
    model.act.keywords["gain"] = gs.State(jnp.ones(2))


def drop_a_keyword(model):
    del model.act.keywords["by"]


CHANGES = [
    append,
    swap,
    reorder,
    add_a_key,
    drop_a_key,
    set_a_static,
    set_below,
    delete_below,
    share,
    write_and_touch,
    set_a_keyword,
    add_a_keyword,
    drop_a_keyword,
]


def seen(model):
    """What each call finds, by identity where that is what it gives."""
    graphdef, state = gs.split(model)
    found = {path: id(each) for path, each in gs.states(model).items()}
    clone = gs.clone(model)
    return (
        graphdef,
        {path: value.tolist() for path, value in state.items()},
        found,
        gs.graphdef(clone),
        len(gs.nodes(model)),
    )


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_by_every_call_on_a_graph_that_was_walked_before(change):
    model = Model()
    before = seen(model)
    assert seen(model)[:3] == before[:3]
    change(model)
    after = seen(model)
    fresh = gs.graph.merge(*gs.split(model))
    assert after[:3] != before[:3]
    assert after[0] == after[3] == gs.graphdef(fresh)
    walked = {("layers", index): layer for index, layer in enumerate(model.layers)}
    assert {path: id(node) for path, node in gs.nodes(model, Layer).items()} == {
        path: id(node) for path, node in walked.items()
    }


def test_values_are_those_of_now():
    model = Model()
    gs.split(model)
    model.layers[0].weight.value = jnp.full(2, 3.0)
    assert gs.state(model)["layers/0/weight"].tolist() == [3.0, 3.0]
    model.layers[0].weight.value = {"a": jnp.ones(2)}
    assert set(gs.state(model)["layers/0/weight"]) == {"a"}
    assert gs.clone(model).layers[0].weight.value["a"].tolist() == [1.0, 1.0]


def test_a_numpy_array_that_changed_in_place_is_split_as_it_is_now_and_copied():
    model = Model()
    model.mean = np.zeros(2)
    gs.split(model)
    model.mean += 1
    _, state = gs.split(model)
    assert state["mean"].tolist() == [1.0, 1.0]
    assert gs.clone(model).mean is not model.mean


def test_in_a_lane_values_are_those_of_the_lane():
    model = Model()
    gs.split(model)

    def total(x):
        model.layers[0].weight.value = x
        return gs.state(model)["layers/0/weight"] + gs.clone(model).layers[0].weight.value

    mapped = gs.vmap(total, state_in_axes={gs.filters.PathContains("nowhere"): 0}, state_out_axes={gs.ParamState: 0})
    xs = jnp.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(mapped(xs), 2 * xs)


def test_under_plain_jax_split_and_merge_of_a_model_made_there_are_right():
    @jax.jit
    def program(x):
        layer = Layer()
        layer.weight.value = x
        first = gs.state(layer)["weight"]
        layer.weight.value = 2 * x
        return first + gs.merge(*gs.split(layer)).weight.value

    assert program(jnp.ones(2)).tolist() == [3.0, 3.0]


def test_a_merged_model_is_seen_to_change():
    model = gs.merge(*gs.split(Model()))
    gs.split(model)
    model.layers.append(Layer())
    assert len(gs.states(model)) == 7
    del model.table["scale"]
    assert len(gs.states(model)) == 6


def test_walking_a_model_does_not_keep_it_alive():
    model = Model()
    gs.split(model), gs.states(model), gs.clone(model), gs.nodes(model, Layer)
    graphdef, params, rest = gs.split(model, gs.ParamState, ...)
    gs.states(model, gs.ParamState), gs.merge(graphdef, params, rest), gs.update(model, params)
    del params, rest
    node, state = weakref.ref(model), weakref.ref(model.layers[0].weight)
    del model
    gc.collect()
    assert node() is None
    assert state() is None


@pytest.mark.no_leak_check("counts calls, of which looking for leaks makes more")
@pytest.mark.parametrize("call", [gs.split, gs.state, gs.states])
def test_a_warm_call_runs_as_many_functions_however_many_states_there_are(call):
    counts = set()
    for depth in (2, 20, 200):
        model = Model(depth)
        call(model)
        call(model)
        counts.add(calls_of(call, model))
    assert len(counts) == 1


@pytest.mark.no_leak_check("counts calls, of which looking for leaks makes more")
def test_merge_runs_few_functions_for_each_object():
    def count(depth):
        parts = gs.split(Model(depth))
        gs.merge(*parts)
        return calls_of(gs.merge, *parts)

    each = (count(40) - count(20)) / 20
    assert each <= 3  # a layer has one Node and two States
