"""`GraphState`: a mapping, and a pytree that JAX and optax take as it is."""

import collections
import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import graphstate.graph as g
from graphstate.errors import FilterError, StructureError, UpdateError
from graphstate.filters import PathContains
from graphstate.graph import BatchState, GraphState, Node, ParamState, State

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def sample():
    node = Node()
    node.layers = [Node(), Node()]
    for number, layer in enumerate(node.layers):
        layer.weight = ParamState(jnp.full((2,), float(number)))
    node.mean = BatchState(jnp.zeros(3))
    node.tied = node.layers[1].weight
    return node


def test_it_is_a_mapping_by_path():
    state = g.state(sample())
    assert list(state) == [("layers", 0, "weight"), ("layers", 1, "weight"), ("mean",)]
    assert len(state) == 3
    assert dict(state.items())[("mean",)] is state["mean"]
    assert list(state.values()) == [state[path] for path in state] or len(list(state.values())) == 3
    assert state.keys() == set(state)


@pytest.mark.parametrize(
    "path", [("layers", 1, "weight"), "layers/1/weight", ("layers", "1", "weight"), "tied", ("tied",)]
)
def test_every_way_of_naming_a_value_finds_it(path):
    state = g.state(sample())
    assert path in state
    assert state[path][0] == 1


@pytest.mark.parametrize("path", ["layers", "layers/2/weight", ("nothing",), 3, ""])
def test_an_unknown_path_is_a_key_error_that_shows_some(path):
    state = g.state(sample())
    assert path not in state
    with pytest.raises(KeyError, match=r"no value at .*; there are layers/0/weight, layers/1/weight, mean"):
        state[path]


def test_it_is_not_made_by_calling_the_class():
    with pytest.raises(TypeError, match=r"made by `split`, `state` or `GraphState\.from_dict`"):
        GraphState({})


def test_it_is_compared_by_identity_and_may_be_hashed():
    state = g.state(sample())
    assert state == state
    assert state != g.state(sample())
    assert len({state, state}) == 1


def test_jax_sees_one_node_with_written_keys():
    state = g.state(sample())
    keys = [path for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert keys == [(jax.tree_util.DictKey(text),) for text in ("layers/0/weight", "layers/1/weight", "mean")]
    assert jax.tree.structure(state).num_nodes == 4
    assert jax.tree.structure(state) == jax.tree.structure(g.state(sample()))
    assert jax.tree.structure(state) != jax.tree.structure(g.state(sample(), ParamState))


def test_any_leaf_may_be_put_into_it():
    state = g.state(sample())
    masks = jax.tree.map(lambda _: True, state)
    assert masks["mean"] is True
    assert jax.tree.leaves(jax.tree.map(lambda x: None, state)) == []
    shapes = jax.eval_shape(lambda: state)
    assert shapes["mean"].shape == (3,)


def test_optax_takes_it():
    params = g.state(sample(), ParamState)
    tx = optax.chain(
        optax.clip_by_global_norm(1.0), optax.masked(optax.sgd(0.1, 0.9), jax.tree.map(lambda _: True, params))
    )
    opt_state = tx.init(params)
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), opt_state, params)
    assert optax.apply_updates(params, updates)._layout == params._layout


def test_filter_split_and_union():
    state = g.state(sample())
    params, rest = state.split(ParamState, ...)
    assert list(rest) == [("mean",)]
    assert list(state.filter(BatchState, PathContains(0))) == [("layers", 0, "weight"), ("mean",)]
    assert list(state.filter(PathContains("tied"))) == [("layers", 1, "weight")]
    assert list(state.filter(~PathContains("tied"))) == [("layers", 0, "weight"), ("mean",)]
    assert (rest | params)._layout == state._layout
    assert state.filter(...) is not None
    with pytest.raises(FilterError, match=r"`GraphState\.split` needs a filter for every state"):
        state.split(ParamState)


def test_in_a_union_the_second_wins():
    one = GraphState.from_dict({"b": jnp.zeros(1), "a": jnp.zeros(1)})
    two = GraphState.from_dict({"b": jnp.ones(1), "c": jnp.ones(1)})
    union = one | two
    assert {g.write_path(path): int(value[0]) for path, value in union.items()} == {"a": 0, "b": 1, "c": 1}
    assert list(union) == [("a",), ("b",), ("c",)]
    with pytest.raises(TypeError):
        one | {"a": 1}


def test_a_union_of_a_value_and_what_is_below_it_is_refused():
    one = GraphState.from_dict({"a": jnp.zeros(1)})
    two = GraphState.from_dict({"a": {"b": jnp.ones(1)}})
    with pytest.raises(UpdateError, match="`a` has a value and so has something below it, at `a/b`"):
        one | two


def test_a_union_forgets_an_alias_that_is_a_path_of_its_own_in_the_other():
    one = g.state(sample(), PathContains("tied"))
    two = GraphState.from_dict({"tied": jnp.ones(1)})
    union = one | two
    assert union["tied"].shape == (1,)
    assert union["layers/1/weight"].shape == (2,)


def test_map_goes_by_path():
    state = g.state(sample())
    summed = state.map(lambda a, b: a + b, GraphState.from_dict(state.to_dict()))
    assert summed["layers/1/weight"][0] == 2
    assert summed._layout is state._layout
    assert state.map(jnp.shape)["mean"] == (3,)


def test_map_with_other_paths_is_an_error_that_lists_them():
    state = g.state(sample())
    other = GraphState.from_dict({"mean": jnp.ones(1), "median": jnp.ones(1)})
    with pytest.raises(UpdateError, match="needs GraphStates with the same paths") as caught:
        state.map(lambda a, b: a, other)
    assert caught.value.differences == ("missing: layers/0/weight", "missing: layers/1/weight", "extra: median")
    assert "Select the common part with `.filter` first." in str(caught.value)


def test_to_dict_is_nested_and_plain():
    values = g.state(sample()).to_dict()
    assert values.keys() == {"layers", "mean"}
    assert values["layers"].keys() == {0, 1}
    assert type(values["layers"][0]) is dict


def test_the_value_of_a_state_by_itself_has_the_empty_path():
    state = State({"a": jnp.ones(1), "b": jnp.zeros(2)})
    values = g.state(state).to_dict()
    assert values.keys() == {""}
    assert GraphState.from_dict(values, like=state)[()]["b"].shape == (2,)


def test_a_long_graphstate_is_cut():
    node = Node()
    node.items = [jnp.ones(1)] * 300
    lines = repr(g.state(node)).splitlines()
    assert len(lines) == 200
    assert lines[-1] == "  ... 102 more"


def test_graphstates_in_another_order_are_aligned_by_path():
    node = sample()
    one, two = g.state(node), g.state(sample())
    untied = GraphState.from_dict(two.to_dict())
    assert untied._layout != one._layout
    assert (one.map(lambda a, b: a - b, untied)["layers/1/weight"] == 0).all()


def test_from_dict_takes_types_from_like():
    node = sample()
    text = {"layers": {"0": {"weight": jnp.ones(2)}}, "mean": jnp.ones(3)}
    for like in (node, g.graphdef(node), g.state(node)):
        state = GraphState.from_dict(text, like=like)
        assert list(state) == [("layers", 0, "weight"), ("mean",)]
        assert list(state.filter(BatchState)) == [("mean",)]
    assert list(GraphState.from_dict(text).filter(BatchState)) == []


def test_from_dict_takes_an_alias_for_its_state():
    state = GraphState.from_dict({"tied": jnp.ones(2)}, like=sample())
    assert list(state) == [("layers", 1, "weight")]


def test_from_dict_takes_a_dict_as_the_value_of_a_state_that_holds_one():
    node = Node()
    node.carry = State({"c": jnp.ones(1), "h": jnp.ones(2)})
    state = GraphState.from_dict({"carry": {"c": jnp.zeros(1), "h": jnp.zeros(2)}}, like=node)
    assert len(state) == 1
    assert g.merge(g.graphdef(node), state).carry.value["h"].shape == (2,)


def test_from_dict_refuses_what_is_no_array():
    with pytest.raises(
        UpdateError, match=r"takes arrays, but at `a/b` there is '3' of type int\. Convert numbers with `jnp\.asarray`"
    ):
        GraphState.from_dict({"a": {"b": 3}})
    with pytest.raises(UpdateError, match="takes arrays, but at `mean` there is 'text' of type str"):
        GraphState.from_dict({"mean": "text"}, like=sample())


@pytest.mark.parametrize(
    ("values", "like"),
    [
        ({"a/b": jnp.ones(1), "a": {"b": jnp.ones(1)}}, None),
        ({0: jnp.ones(1), "0": jnp.ones(1)}, None),
        ({"tied": jnp.ones(2), "layers/1/weight": jnp.ones(2)}, sample()),
    ],
)
def test_from_dict_refuses_one_path_written_twice(values, like):
    with pytest.raises(UpdateError, match="takes one value for a path, but was given two for"):
        GraphState.from_dict(values, like=like)


def test_from_dict_refuses_a_path_that_like_does_not_have():
    with pytest.raises(
        UpdateError, match=r"value for `median`, but `like` has no such path; it has:\n  layers/0/weight\n"
    ):
        GraphState.from_dict({"median": jnp.ones(1)}, like=sample())


def test_it_copies_and_pickles_with_its_keys():
    node = sample()
    node.key = State(jax.random.key(1))
    node.table = np.ones(2)
    state = g.state(node)
    again = pickle.loads(pickle.dumps(state))
    assert again._layout == state._layout
    assert again["key"].dtype == state["key"].dtype
    assert copy.copy(state) is state
    deep = copy.deepcopy(state)
    assert deep["table"] is not state["table"]
    assert deep["mean"] is state["mean"]


def test_layouts_of_equal_structures_are_equal_and_copy_to_themselves():
    one, two = g.state(sample())._layout, g.state(sample())._layout
    assert one == two
    assert hash(one) == hash(two)
    assert copy.deepcopy(one) is copy.copy(one) is one
    assert one != "text"
    assert repr(one) == "Layout(3 values)"
    untied = sample()
    del untied.tied
    assert g.state(untied)._layout != one


def test_an_ordered_mapping_is_read_as_a_mapping():
    assert len(GraphState.from_dict(collections.OrderedDict(a={"b": jnp.ones(1)}))) == 1


def test_a_union_whose_paths_are_written_alike_is_refused():
    flat, deep = Node(), Node()
    setattr(flat, "a/b", State(1.0))
    deep.a = Node()
    deep.a.b = State(2.0)
    with pytest.raises(StructureError, match=r"\('a', 'b'\) and \('a/b',\) are both written 'a/b'. Rename one"):
        g.state(flat) | g.state(deep)
    g.update(flat, g.state(deep))
    assert vars(flat)["a/b"].value == 2.0
    assert list(g.state(flat) | g.state(flat)) == [("a/b",)]
