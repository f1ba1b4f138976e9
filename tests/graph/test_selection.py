"""What filters select is looked up once, where nothing can change it."""

import abc
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import FilterError, UpdateError
from graphstate.filters import OfType, PathContains, WithTag
from tests.counting import calls_of


class Layer(gs.Node):
    def __init__(self):
        self.weight = gs.ParamState(jnp.ones(2))
        self.mean = gs.BatchState(jnp.zeros(2), tags="frozen")


class Model(gs.Node):
    def __init__(self, depth=2):
        self.layers = [Layer() for _ in range(depth)]


LASTING = [
    gs.ParamState,
    gs.ParamState | gs.HiddenState,
    "frozen",
    ...,
    None,
    OfType(gs.BatchState),
    WithTag("frozen"),
    PathContains(1),
    ~OfType(gs.ParamState) & PathContains("layers/0") | "frozen",
    (gs.ParamState, "frozen"),
    [gs.BatchState],
]


@pytest.mark.no_leak_check("counts calls, of which looking for leaks makes more")
@pytest.mark.parametrize("filter", LASTING, ids=str)
def test_a_filter_is_looked_up_once_for_an_unchanged_graph(filter):
    def count(depth):
        model = Model(depth)
        state = gs.state(model)
        calls = [
            lambda: gs.states(model, filter),
            lambda: gs.state(model, filter),
            lambda: gs.split(model, filter, ...) if filter is not ... else gs.split(model, filter),
            lambda: state.filter(filter),
        ]
        for call in calls:
            call()
        return [calls_of(call) for call in calls]

    assert count(2) == count(20)


@pytest.mark.parametrize("filter", LASTING, ids=str)
def test_what_is_kept_is_what_was_selected(filter):
    model = Model()
    for _ in range(2):
        selected = gs.states(model, filter)
        asked = gs.states(model, lambda path, record: gs.filters.to_predicate(filter)(path, record))
        assert dict(selected) == dict(asked)
        assert list(gs.state(model, filter)) == list(gs.state(model).filter(filter)) == list(asked)


def test_a_function_is_asked_each_time():
    model, wanted = Model(), {0}

    def chosen(path, record):
        return path[1] in wanted

    assert len(gs.states(model, chosen)) == len(gs.state(model, chosen)) == 2
    wanted.add(1)
    assert len(gs.states(model, chosen)) == len(gs.state(model, chosen)) == len(gs.state(model).filter(chosen)) == 4
    assert len(gs.states(model, (gs.HiddenState, chosen))) == 4
    wanted.clear()
    assert len(gs.states(model, ~OfType(gs.HiddenState) & chosen)) == len(gs.states(model, (chosen,))) == 0


def test_a_list_counts_as_what_is_in_it():
    model, filters = Model(), [gs.ParamState]
    assert len(gs.states(model, filters)) == len(gs.state(model, filters)) == 2
    filters.append("frozen")
    assert len(gs.states(model, filters)) == len(gs.state(model, filters)) == 4


def test_a_class_that_says_itself_what_its_subclasses_are_is_asked_each_time():
    class Family(abc.ABC):  # noqa: B024, what counts is what is registered
        pass

    model = Model()
    assert len(gs.states(model, Family)) == len(gs.state(model, Family)) == 0
    Family.register(gs.ParamState)
    assert len(gs.states(model, Family)) == len(gs.state(model, Family)) == 2


def test_arrays_of_numpy_are_told_from_those_of_jax_in_one_layout():
    node = gs.Node()
    node.table, node.scale = np.ones(2), gs.State(1.0)
    state = gs.state(node)
    assert len(state.filter(np.ndarray)) == 1
    assert len(jax.tree.map(jnp.asarray, state).filter(np.ndarray)) == 0
    assert len(state.filter(np.ndarray)) == 1


def test_an_error_is_raised_each_time():
    model = Model()
    for _ in range(2):
        with pytest.raises(FilterError, match="matches"):
            gs.split(model, gs.ParamState)
        with pytest.raises(FilterError, match="must be the last"):
            gs.state(model, ..., gs.ParamState)
        with pytest.raises(FilterError, match="must be the last"):
            gs.states(model, ..., gs.ParamState)


@pytest.mark.no_leak_check("counts calls, of which looking for leaks makes more")
def test_how_parts_are_merged_is_looked_up_once():
    def count(depth):
        parts = gs.split(Model(depth), gs.ParamState, ...)
        gs.merge(*parts)
        return calls_of(gs.merge, *parts)

    assert count(2) == count(20)


def test_parts_that_do_not_fit_are_an_error_after_some_that_do():
    model = Model()
    graphdef, params, rest = gs.split(model, gs.ParamState, ...)
    for first, second in ((params, rest), (rest, params)):
        merged = gs.merge(graphdef, first, second)
        assert gs.state(merged)["layers/1/mean"].tolist() == [0.0, 0.0]
    with pytest.raises(UpdateError, match="given twice: layers/0/mean"):
        gs.merge(graphdef, params, rest, rest)
    with pytest.raises(UpdateError, match="missing: layers/0/mean"):
        gs.merge(graphdef, params)
    assert gs.merge(graphdef, params.to_dict(), rest).layers[1].weight.value.tolist() == [1.0, 1.0]


@pytest.mark.no_leak_check("counts calls, of which looking for leaks makes more")
def test_an_update_runs_few_functions_for_each_state():
    def count(depth, *filters):
        model = Model(depth)
        state = gs.state(model, *filters)
        gs.update(model, state)
        return calls_of(gs.update, model, state)

    assert (count(20) - count(10)) / 20 <= 2
    assert (count(20, gs.ParamState) - count(10, gs.ParamState)) / 10 <= 2


def test_what_is_kept_with_a_graphdef_is_no_part_of_it():
    used, fresh = gs.graphdef(Model()), gs.graphdef(Model())
    gs.merge(used, *(gs.split(Model(), gs.ParamState, ...)[1:]))
    assert used == fresh
    assert hash(used) == hash(fresh)
    assert pickle.dumps(used) == pickle.dumps(fresh)


def test_views_take_written_paths_and_keep_the_order():
    for mapping in (gs.states(Model()), gs.state(Model())):
        assert list(mapping.keys()) == list(mapping) == [path for path, _ in mapping.items()]
        assert [id(item) for _, item in mapping.items()] == [id(item) for item in mapping.values()]
        assert "layers/0/weight" in mapping.keys()  # noqa: SIM118, the view is meant
        assert ("layers/0/weight", mapping["layers/0/weight"]) in mapping.items()
        assert "layers/7/weight" not in mapping.keys()  # noqa: SIM118
        assert len(mapping.items()) == len(mapping.keys()) == 4


@pytest.mark.no_leak_check("counts calls, of which looking for leaks makes more")
@pytest.mark.parametrize("find", [gs.states, gs.state])
def test_listing_paths_and_items_runs_no_function_for_each(find):
    def count(depth):
        model = Model(depth)
        list(find(model).items())
        found = find(model)
        return calls_of(lambda: list(found.items()))

    assert count(2) == count(20)
