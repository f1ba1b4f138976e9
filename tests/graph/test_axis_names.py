"""The names of axes: a map that stacks lanes adds one, and in a lane it is gone."""

import copy
import pickle

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

import graphstate as gs

pytestmark = pytest.mark.no_leak_check("very many eager operations")


class Layer(gs.Node):
    def __init__(self, scale=1.0):
        self.weight = gs.ParamState(jnp.full((2, 3), scale, jnp.float32), axes=("embed", "mlp"))
        self.pair = gs.State({"a": jnp.zeros((2, 3)), "b": jnp.ones((4, 3))}, axes=("row", "mlp"))
        self.free = gs.State(jnp.zeros(3), unit="steps")

    def __call__(self, x):
        return x @ self.weight.value


def make(scale):
    return Layer(scale)


def names(node):
    return {path[-1]: state.metadata.get("axes") for path, state in gs.states(node).items()}


def layered(*lanes):
    """The names where the axes in front are these."""
    return {"weight": (*lanes, "embed", "mlp"), "pair": (*lanes, "row", "mlp"), "free": None}


SCALES = jnp.arange(8.0)
STACKED = {
    "vmap": (lambda: gs.vmap(make, axis_name="member")(SCALES), "member"),
    "vmap without a name": (lambda: gs.vmap(make)(SCALES), None),
    "pmap": (lambda: gs.pmap(make, axis_name="member")(SCALES), "member"),
    "map": (lambda: gs.map(make, SCALES, batch_size=3), None),
    "for_loop": (lambda: gs.for_loop(make, SCALES), None),
    "scan": (lambda: gs.scan(lambda carry, scale: (carry, make(scale)), 0, SCALES)[1], None),
    "stack": (lambda: gs.stack([make(scale) for scale in SCALES]), None),
    "Ensemble": (lambda: gs.nn.Ensemble(Layer, 8).members, None),
    "Repeat": (lambda: gs.nn.Repeat(Layer, 8).layers, None),
    "a map in jit": (lambda: gs.jit(gs.vmap(make, axis_name="member"))(SCALES), "member"),
}


@pytest.mark.parametrize("kind", STACKED)
def test_what_stacks_adds_its_name_and_taking_apart_takes_it_away(kind):
    build, name = STACKED[kind]
    members = build()
    assert members.weight.value.shape == (8, 2, 3)
    assert names(members) == layered(name)
    assert members.free.metadata == {"unit": "steps"}
    assert names(gs.take(members, 1)) == names(gs.unstack(members)[0]) == layered()
    assert names(gs.take(members, jnp.array([0, 2]))) == layered(name)
    assert gs.graphdef(gs.take(members, 0)) == gs.graphdef(Layer())


@pytest.mark.parametrize(("axis", "expected"), [(1, ("a", "m", "b")), (2, ("a", "b", "m")), (-1, ("a", "b", "m"))])
def test_the_name_stands_where_the_lane_axis_is(axis, expected):
    def build(x):
        return gs.State(jnp.full((2, 3), x), axes=("a", "b"))

    stacked = gs.vmap(build, out_axes=axis, axis_name="m")(jnp.arange(4.0))
    assert stacked.metadata["axes"] == expected
    assert stacked.value.shape[expected.index("m")] == 4
    inside = []
    gs.vmap(lambda state: inside.append(state.metadata["axes"]), in_axes=axis)(stacked)
    assert inside == [("a", "b")]
    assert gs.take(stacked, 0, axis).metadata["axes"] == ("a", "b")
    assert gs.stack(gs.unstack(stacked, axis), axis).metadata["axes"] == tuple(
        None if each == "m" else each for each in expected
    )


def test_nested_maps_each_add_a_name():
    def grid(scales):
        return gs.vmap(make, axis_name="inner")(scales)

    outer = gs.vmap(grid, axis_name="outer")(SCALES.reshape(2, 4))
    assert names(outer) == layered("outer", "inner")
    seen = []

    def inner(layer):
        seen.append(names(layer))
        return gs.clone(layer)

    again = gs.vmap(gs.vmap(inner, axis_name="second"), axis_name="first")(outer)
    assert seen == [layered()]
    assert names(again) == layered("first", "second")


def test_a_state_that_is_not_mapped_keeps_its_names():
    spec = gs.StateAxes({gs.ParamState: None, ...: 0})
    shared = gs.ParamState(jnp.zeros((2, 3)), axes=("embed", "mlp"))

    def build(x):
        layer = Layer()
        layer.weight = shared
        layer.pair.value = jax.tree.map(lambda leaf: leaf + x, layer.pair.value)
        return layer

    heads = gs.vmap(build, out_axes=spec, axis_name="head")(jnp.arange(2.0))
    expected = {"weight": ("embed", "mlp"), "pair": ("head", "row", "mlp"), "free": None}
    assert names(heads) == expected
    seen = []
    gs.vmap(lambda layer: seen.append(names(layer)), in_axes=(spec,))(heads)
    assert seen == [layered()]
    assert names(gs.stack([gs.take(heads, 0, spec), gs.take(heads, 1, spec)], spec)) == {
        **expected,
        "pair": (None, "row", "mlp"),
    }


@pytest.mark.parametrize("mapped", [gs.vmap, gs.pmap])
def test_an_argument_keeps_its_names_and_what_is_attached_to_it_gets_one(mapped):
    members = gs.vmap(make, axis_name="member")(SCALES)
    states = [members.weight, members.pair]

    def step(layer):
        layer.weight.value = 2 * layer.weight.value
        layer.bias = gs.ParamState(layer.free.value, axes=("mlp",))
        return layer, gs.clone(layer)

    back, copied = mapped(step, axis_name="lane")(members)
    assert back is members
    assert [members.weight, members.pair] == states
    assert names(members) == {**layered("member"), "bias": ("lane", "mlp")}
    assert names(copied) == {**layered("lane"), "bias": ("lane", "mlp")}


def test_steps_of_a_loop_see_their_own_names():
    members = gs.vmap(make, axis_name="member")(SCALES)
    seen = []

    def step(carry, layer):
        seen.append(names(layer))
        layer.weight.value += 1
        return carry, gs.clone(layer)

    _, copies = gs.scan(step, 0, members)
    assert seen == [layered()]
    assert names(members) == layered("member")
    assert names(copies) == layered(None)


def test_an_error_about_structure_in_a_loop_speaks_of_what_was_changed_only():
    def step(carry, layer):
        layer.extra = 1
        return carry, None

    members = gs.vmap(make, axis_name="member")(SCALES)
    with pytest.raises(gs.errors.StructureError) as caught:
        gs.scan(step, 0, members)
    assert "extra" in str(caught.value)
    assert "axes" not in str(caught.value)


def test_closed_over_states_that_are_mapped_have_in_a_lane_the_names_of_their_slices():
    members = gs.vmap(make, axis_name="member")(SCALES)
    seen = []

    def lane():
        seen.extend([names(members), members.weight.metadata["axes"], names(gs.merge(*gs.split(members)))])
        gs.jit(lambda layer: seen.append(names(layer)))(members)
        return gs.clone(members), copy.deepcopy(members.weight), copy.copy(members.weight)

    copied, deep, shallow = gs.vmap(lane, axis_size=8, axis_name="lane", state_in_axes={...: 0})()
    assert seen == [layered(), ("embed", "mlp"), layered(), layered()]
    assert names(copied) == layered("lane")
    assert deep.metadata["axes"] == shallow.metadata["axes"] == ("lane", "embed", "mlp")
    assert names(members) == layered("member")


def test_a_state_that_two_maps_take_from_the_closure_loses_the_names_of_both():
    grid = gs.ParamState(jnp.zeros((2, 3, 4)), axes=("a", "b", "c"))
    seen = []

    def inner():
        seen.append((grid.metadata["axes"], grid.value.shape))

    def outer():
        gs.vmap(inner, axis_size=2, state_in_axes={...: 0})()

    gs.vmap(outer, axis_size=4, state_in_axes={...: 2})()
    gs.vmap(lambda: gs.vmap(inner, axis_size=3, state_in_axes={...: 0})(), axis_size=2, state_in_axes={...: 0})()
    assert seen == [(("b",), (3,)), (("c",), (4,))]


def test_a_mapped_argument_that_is_reached_from_the_closure_has_its_names_in_the_lane():
    members = gs.vmap(make, axis_name="member")(SCALES)
    seen = []

    def lane(layer):
        seen.append(members.weight.metadata["axes"])

    gs.vmap(lane)(members)
    gs.vmap(lane, state_in_axes={...: 0})(members)
    assert seen == [("embed", "mlp")] * 2


def test_a_state_made_in_a_lane_is_mapped_only_by_maps_inside_of_it():
    seen = []

    def lane(x):
        state = gs.ParamState(jnp.full(2, x), axes=("embed",))
        seen.append(state.metadata["axes"])
        gs.vmap(lambda: seen.append(state.metadata["axes"]), axis_size=2, state_in_axes={...: 0})()
        return state

    made = gs.vmap(lane, axis_name="lane", state_in_axes={...: 0})(SCALES)
    assert seen == [("embed",), ()]
    assert made.metadata["axes"] == ("lane", "embed")


def test_gradients_in_lanes_map_together_with_the_states_of_the_stack():
    members = gs.vmap(make, axis_name="member")(SCALES)
    grads = gs.vmap(gs.grad(lambda layer: jnp.sum(layer.weight.value**2)))(members)
    moved = jax.tree.map(lambda p, d: p - 0.5 * d, gs.state(members, gs.ParamState), grads)
    assert not moved["weight"].any()
    gs.update(members, moved)
    assert names(members) == layered("member")
    assert gs.state(members).filter(lambda path, record: "unit" in record.metadata)._layout.rows == {"free": 0}


def test_split_merge_clone_and_pickle_keep_the_names():
    members = gs.vmap(make, axis_name="member", out_axes=-1)(SCALES)
    for again in (gs.merge(*gs.split(members)), gs.clone(members), pickle.loads(pickle.dumps(members))):
        assert gs.graphdef(again) == gs.graphdef(members)
        assert again.weight.metadata["axes"] == ("embed", "mlp", "member")


def test_an_optimizer_made_in_lanes_has_the_names_of_its_parameters():
    optax = pytest.importorskip("optax", reason="is part of the extra `test`")
    members = gs.vmap(make, axis_name="member")(SCALES)

    def build(layer):
        return gs.optim.Optimizer(layer, optax.adam, hyperparams={"learning_rate": 0.1})

    opts = gs.vmap(build, axis_name="member")(members)
    named = {state.metadata["axes"] for state in gs.states(opts).values() if "axes" in state.metadata}
    assert named == {("member", "embed", "mlp")}
    eager = gs.optim.Optimizer(members, optax.adam, hyperparams={"learning_rate": 0.1})
    assert {state.metadata["axes"] for state in gs.states(eager).values() if "axes" in state.metadata} == named


def test_rules_place_the_lane_axis():
    members = gs.vmap(make, axis_name="member")(SCALES)
    mesh = gs.parallel.make_mesh((4, 2), ("data", "model"))
    gs.parallel.place(members, mesh, {"member": "data", "embed": "model"})
    assert members.weight.value.sharding.spec == P("data", "model", None)
    assert members.free.value.sharding.is_fully_replicated


def test_warm_calls_with_names_trace_nothing():
    members = gs.vmap(make, axis_name="member")(SCALES)

    def step(layer):
        layer.weight.value += 1
        return layer.weight.value.sum()

    train = gs.jit(gs.assert_max_traces(gs.vmap(gs.assert_max_traces(step, 1)), 1))
    loop = gs.assert_max_traces(lambda carry, layer: (carry + layer.weight.value.sum(), None), 1)
    for _ in range(3):
        train(members)
        gs.scan(loop, 0.0, members)
    renewed = gs.jit(gs.assert_max_traces(gs.vmap(gs.clone, axis_name="member"), 1))
    for _ in range(3):
        members = renewed(members)
    assert names(members) == layered("member")


def test_names_that_do_not_fit_the_array_stay_an_error_when_it_is_placed():
    wrong = gs.vmap(lambda x: gs.State(jnp.full((2, 3), x), axes=("embed",)), axis_name="member")(SCALES)
    assert wrong.metadata["axes"] == ("member", "embed")
    with pytest.raises(gs.errors.ShardingError, match="`axes` of a State names each axis of its array"):
        gs.parallel.place(wrong, gs.parallel.make_mesh(), {"member": "batch"})
