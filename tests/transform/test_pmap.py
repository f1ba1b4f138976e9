"""`pmap` is `vmap` with the lanes spread over devices: the same values for every number of them.

The oracle is `gs.jit(gs.vmap(f))`, whose lanes all run on one device. What runs where is read from the shardings and
from the compiled program.
"""

import functools
import re
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, Mesh, PartitionSpec

import graphstate as gs
from graphstate.errors import AxisError, BatchAxisError, ShardingError, StateTypeError, TraceContextError

DEVICES = (1, 2, 4, 8)
EPSILON = float(jnp.finfo(jnp.float32).eps)
many_calls = pytest.mark.no_leak_check("compiles many programs")
counts = pytest.mark.no_leak_check("counts traces and compilations")

on = lambda count: jax.devices()[:count]  # noqa: E731


def on_one_device(f, *args, **parameters):
    """The oracle."""
    return gs.jit(gs.vmap(f, *args, **parameters))


def spread(count):
    """`pmap` over so many devices."""
    return functools.partial(gs.pmap, devices=on(count))


def numbers(*shape):
    """Numbers without an order that a lane could profit from."""
    return jnp.sin(jnp.arange(np.prod(shape), dtype=jnp.float32) * 12.9898).reshape(shape)


def is_spread(array, count, axis=0):
    """Whether the lanes of an array lie on so many devices, each its own."""
    sizes = {shard.data.shape[axis] for shard in array.addressable_shards}
    return len(array.sharding.device_set) == count and sizes == {array.shape[axis] // count}


# The table: what each kind of function gives, mapped in one way or another


def elementwise(mapped, lanes):
    return mapped(lambda x: jnp.tanh(x) * x + 1)(numbers(lanes, 5))


def matmul(mapped, lanes):
    weight = gs.ParamState(numbers(6, 4))
    return mapped(lambda x: jnp.tanh(x @ weight.value))(numbers(lanes, 3, 6))


def convolution_with_kernels_of_its_own(mapped, lanes):
    convolve = lambda x, kernel: lax.conv_general_dilated(x, kernel, (1,), "SAME")  # noqa: E731
    return mapped(convolve)(numbers(lanes, 2, 3, 8), numbers(lanes, 4, 3, 3))


def recurrent_scan(mapped, lanes):
    hidden, cell = gs.HiddenState(jnp.zeros((lanes, 3))), gs.nn.Linear(5, 3, rng=gs.random.RandomState(0))

    def step(x):
        hidden.value = jnp.tanh(cell(jnp.concatenate([x, hidden.value])))
        return hidden.value

    outputs = mapped(lambda sequence: gs.for_loop(step, sequence), state_in_axes=gs.HiddenState)(numbers(lanes, 6, 2))
    return outputs, hidden.value


def loop_of_its_own_length(mapped, lanes):
    def count(x):
        return lax.while_loop(lambda c: c[0] < 10 * x, lambda c: (c[0] * 1.5, c[1] + 1), (1.0 + x, 0))

    return mapped(count)(jnp.arange(lanes, dtype=jnp.float32))


def branch_of_its_own(mapped, lanes):
    choose = lambda x: gs.cond(x.sum() > 0, jnp.sin, lambda x: x * x, x)  # noqa: E731
    return mapped(choose)(numbers(lanes, 3))


def sort(mapped, lanes):
    return mapped(lambda x: (jnp.sort(x), lax.top_k(x, 2)), out_axes=(1, 0))(numbers(lanes, 7))


def gather_and_scatter(mapped, lanes):
    table = gs.State(numbers(9, 2))
    pick = lambda index, x: jnp.zeros(5).at[index % 5].add(x) + table.value[index].sum()  # noqa: E731
    return mapped(pick)(jnp.arange(lanes) % 9, numbers(lanes))


def draws(mapped, lanes):
    rng = gs.random.RandomState(3)
    drawn = mapped(lambda x: rng.uniform(size=2) * x)(numbers(lanes))
    return drawn, jax.random.key_data(rng.value)


def collectives(mapped, lanes):
    def share(x):
        sums = lax.psum(x, "lane"), lax.pmean(x, "lane"), lax.pmax(x, "lane"), lax.pmin(x, "lane")
        return sums, lax.axis_index("lane"), lax.axis_size("lane") * x

    return mapped(share, axis_name="lane")(numbers(lanes, 2))


def cholesky(mapped, lanes):
    return mapped(lambda x: jnp.linalg.cholesky(x @ x.T + 4 * jnp.eye(3)))(numbers(lanes, 3, 3))


def attention(mapped, lanes):
    def attend(query, key, value):
        return jax.nn.softmax(query @ key.T / 2.0) @ value

    return mapped(attend, in_axes=(0, 1, 0))(numbers(lanes, 4, 4), numbers(5, lanes, 4), numbers(lanes, 5, 2))


def fourier(mapped, lanes):
    return mapped(lambda x: jnp.abs(jnp.fft.rfft(x)))(numbers(lanes, 8))


class Learner(gs.Node):
    """Dropout and the running statistics of a batch normalisation, and parameters to train."""

    def __init__(self, seed):
        rng = gs.random.RandomState(seed)
        self.layer = gs.nn.Linear(4, 3, rng=rng)
        self.dropout = gs.nn.Dropout(0.5, rng=rng)
        self.mean = gs.BatchState(jnp.zeros(3))
        self.steps = gs.State(jnp.int32(0))

    def __call__(self, x):
        y = self.dropout(self.layer(x), fit=True)
        self.mean.value = 0.9 * self.mean.value + 0.1 * y.mean(0)
        self.steps.value = self.steps.value + 1
        return y - self.mean.value[None]


def train(learner, x):
    grads = gs.grad(lambda learner: jnp.mean(learner(x) ** 2))(learner)
    gs.update(learner, jax.tree.map(lambda p, g: p - 0.1 * g, gs.state(learner, gs.ParamState), grads), strict=True)


def training(mapped, lanes):
    learners = gs.vmap(Learner)(jnp.arange(lanes))
    step = mapped(train, in_axes=(0, None))
    for _ in range(2):
        step(learners, numbers(5, 4))
    return [jax.random.key_data(v) if v.ndim == 1 and v.dtype.name == "key<fry>" else v for v in _values(learners)]


def _values(node):
    return [state.value for state in gs.states(node).values()]


PRODUCTS = (matmul, recurrent_scan, training, collectives)  # XLA sums in another order where there are fewer rows
PRODUCTS_OF_A_LANE = (attention, cholesky, convolution_with_kernels_of_its_own)
VECTORS = (elementwise,)  # XLA computes a sine in whole vectors otherwise than in what is left over
LANES = (8, 16, 24)
KINDS = (
    *VECTORS,
    *PRODUCTS,
    *PRODUCTS_OF_A_LANE,
    loop_of_its_own_length,
    branch_of_its_own,
    sort,
    gather_and_scatter,
    draws,
    fourier,
)


@many_calls
@pytest.mark.parametrize(
    ("kind", "lanes"),
    [
        pytest.param(kind, lanes, marks=[] if lanes == LANES[number % 3] else pytest.mark.sweep)
        for number, kind in enumerate(KINDS)
        for lanes in LANES
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_every_number_of_devices_gives_what_one_device_gives(kind, lanes):
    expected = jax.tree.leaves(kind(on_one_device, lanes))
    first = None
    for count in DEVICES:
        given_ = jax.tree.leaves(jax.tree.map(np.asarray, kind(spread(count), lanes)))
        tolerance = 64 * EPSILON if kind in PRODUCTS + PRODUCTS_OF_A_LANE else 4 * EPSILON if kind in VECTORS else 0
        for ours, oracle in zip(given_, expected, strict=True):
            assert (ours.shape, ours.dtype) == (oracle.shape, oracle.dtype)
            np.testing.assert_allclose(ours, oracle, rtol=tolerance, atol=tolerance)
        if kind not in PRODUCTS + VECTORS:
            first = first or given_
            for ours, other in zip(given_, first, strict=True):
                np.testing.assert_array_equal(ours, other)


@many_calls
@given(st.data())
@settings(max_examples=8)
def test_pmap_means_vmap(data):
    """For any axes, dtypes, shapes and numbers of devices and lanes."""
    count = data.draw(st.sampled_from(DEVICES), label="devices")
    lanes = count * data.draw(st.integers(1, 3), label="lanes a device")
    rank = data.draw(st.integers(1, 3), label="rank")
    in_axes = data.draw(st.tuples(*[st.integers(-rank, rank - 1)] * 2), label="in_axes")
    out_axes = data.draw(st.integers(-rank, rank - 1), label="out_axes")
    dtypes = data.draw(st.tuples(*[st.sampled_from([jnp.float32, jnp.int32])] * 2), label="dtypes")
    steps = [
        jnp.moveaxis(jnp.round(9 * numbers(lanes, *[2] * (rank - 1))).astype(dtype), 0, axis)
        for dtype, axis in zip(dtypes, in_axes, strict=True)
    ]

    def run(mapped):
        total = gs.HiddenState(steps[0])

        def step(x, shared):
            total.value = total.value + x.astype(total.value.dtype)
            return jnp.sort(total.value.ravel()).reshape(total.value.shape) * shared.astype(total.value.dtype), x

        axes = {"in_axes": (in_axes[1], None), "out_axes": (out_axes, 0), "state_in_axes": {gs.HiddenState: in_axes[0]}}
        return mapped(step, **axes)(steps[1], jnp.float32(2)), total.value

    for ours, oracle in zip(*map(jax.tree.leaves, (run(spread(count)), run(on_one_device))), strict=True):
        assert ours.dtype == oracle.dtype
        np.testing.assert_array_equal(ours, oracle)


# Where everything lies


def test_what_is_mapped_stays_spread_and_what_is_not_is_copied():
    hidden, total, weight = gs.HiddenState(jnp.zeros((3, 8))), gs.State(jnp.float32(0)), gs.ParamState(numbers(3))

    @gs.pmap(state_in_axes={gs.HiddenState: 1}, out_axes=1)
    def step(x):
        hidden.value = hidden.value + x * weight.value
        total.value = total.value + 1.0
        return hidden.value

    for _ in range(2):
        assert is_spread(step(numbers(8)), 8, axis=1)
        assert is_spread(hidden.value, 8, axis=1)
        for state in (total, weight):
            assert state.value.sharding.is_fully_replicated
            assert len(state.value.sharding.device_set) == 8
    assert total.value == 2.0


def test_members_are_made_where_they_live():
    members = gs.pmap(lambda seed: gs.nn.Linear(2, 3, rng=gs.random.RandomState(seed)))(jnp.arange(16))
    assert is_spread(members.weight.value, 8)
    twins = gs.vmap(lambda seed: gs.nn.Linear(2, 3, rng=gs.random.RandomState(seed)))(jnp.arange(16))
    np.testing.assert_array_equal(members.weight.value, twins.weight.value)


def test_lane_i_runs_on_the_device_of_its_part():
    devices = [jax.devices()[number] for number in (5, 2)]
    output = gs.pmap(lambda x: 2 * x, devices=devices)(jnp.arange(4))
    assert [(shard.device, shard.data.tolist()) for shard in output.addressable_shards] == [
        (devices[0], [0, 2]),
        (devices[1], [4, 6]),
    ]


def test_lanes_lie_along_some_axes_of_a_mesh():
    for types in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((2, 2, 2), ("a", "b", "c"), axis_types=(types,) * 3)
        for axes, count in (("b", 2), (("a", "c"), 4), (None, 8)):
            output = gs.pmap(lambda x: jnp.sort(x), mesh=mesh, mesh_axes=axes)(numbers(8, 3))
            assert {shard.data.shape[0] for shard in output.addressable_shards} == {8 // count}
            np.testing.assert_array_equal(output, np.sort(numbers(8, 3)))
            assert jnp.sort(output[1:], axis=0).shape == (7, 3)  # its axes are Auto in any case


# Compiled once


@counts
@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("donates", [False, True])
def test_a_second_call_traces_compiles_and_moves_nothing(count, donates, caplog):
    runs = []
    members = gs.vmap(Learner)(jnp.arange(8))

    def step(learner, x):
        runs.append(None)
        train(learner, x)
        return learner(x).sum()

    step = gs.pmap(step, in_axes=(0, None), devices=on(count), donate_states=donates)
    x = jax.device_put(numbers(5, 4), jax.NamedSharding(Mesh(np.array(on(count)), ("lanes",)), PartitionSpec()))
    step(members, x)
    assert len(runs) == 1
    with jax.log_compiles(), jax.transfer_guard("disallow"):
        for _ in range(2):
            output = step(members, x)
    assert [record.message for record in caplog.records if "Compiling" in record.message] == []
    assert len(runs) == 1
    assert is_spread(output, count)
    aliased = step.lower(members, x).compile().memory_analysis().alias_size_in_bytes
    assert aliased == (donates and 4 * (12 + 3 + 3 + 1) * 8 // count)  # of each member two parameters and two counts


@counts
def test_inputs_from_anywhere_share_one_program(caplog):
    runs, total = [], gs.HiddenState(np.zeros(8, np.float32))

    @gs.pmap(in_axes=(0, None), state_in_axes=gs.HiddenState)
    def step(x, y):
        runs.append(None)
        total.value = total.value + x * y
        return x + y

    output = step(np.arange(8, dtype=np.float32), np.float32(2))
    with jax.log_compiles():
        step(output, jnp.float32(2))
        step(jax.device_put(jnp.arange(8.0), output.sharding), np.float32(1))
        step(jax.device_put(output, jax.NamedSharding(output.sharding.mesh, PartitionSpec())), np.float32(1))
        total.value = jnp.zeros(8)
        step(output, jnp.float32(2))
    assert len(runs) == 1
    assert [record.message for record in caplog.records if "Compiling jit(step)" in record.message] == []
    np.testing.assert_array_equal(total.value, 2 * (np.arange(8.0) + 2))


def _collectives(compiled):
    """The collectives of a compiled program."""
    names = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast"
    return re.findall(rf" = .*?\b({names})(?:-start)?\(", compiled.as_text())


def _ensemble(count, lanes=64):
    members = gs.pmap(lambda seed: gs.nn.Linear(32, 32, rng=gs.random.RandomState(seed)), devices=on(count))(
        jnp.arange(lanes)
    )

    @gs.pmap(in_axes=(0, None), devices=on(count))
    def step(layer, x):
        loss, grads = gs.value_and_grad(lambda layer: jnp.mean(jnp.tanh(layer(x)) ** 2))(layer)
        gs.update(layer, jax.tree.map(lambda p, g: p - 0.1 * g, gs.state(layer, gs.ParamState), grads))
        return loss

    return step.lower(members, numbers(32, 32)).compile()


@counts
def test_each_device_does_its_part_of_the_work_and_hears_of_no_other():
    alone = _ensemble(1)
    for count in (2, 8):
        compiled = _ensemble(count)
        assert _collectives(compiled) == []
        assert compiled.cost_analysis()["flops"] == pytest.approx(alone.cost_analysis()["flops"] / count, rel=0.05)
        memory, whole = compiled.memory_analysis(), alone.memory_analysis()
        assert memory.temp_size_in_bytes == pytest.approx(whole.temp_size_in_bytes / count, rel=0.02)
        assert memory.output_size_in_bytes == pytest.approx(whole.output_size_in_bytes / count, rel=0.02)


@counts
@pytest.mark.parametrize("kind", [convolution_with_kernels_of_its_own, loop_of_its_own_length, draws, sort, fourier])
def test_no_kind_of_function_needs_a_collective(kind):
    programs = []

    def mapped(f, **parameters):
        f = gs.pmap(f, **parameters)
        return lambda *args: (programs.append(f.lower(*args).compile()), f(*args))[1]

    kind(mapped, 8)
    assert [_collectives(program) for program in programs] == [[]]


@counts
def test_a_collective_would_be_found():
    summed = gs.pmap(lambda x, y: lax.psum((x, y), "i"), axis_name="i", out_axes=None)
    assert set(_collectives(summed.lower(XS, XS).compile())) == {"all-reduce"}


# Collectives

XS = jnp.arange(16.0)
COLLECTIVES = {
    "all_gather": lambda x: lax.all_gather(x, "i"),
    "ppermute": lambda x: lax.ppermute(x, "i", [(j, (j + 1) % 16) for j in range(16)]),
    "all_to_all": lambda x: lax.all_to_all(jnp.arange(16.0) * x, "i", 0, 0),
    "psum_scatter": lambda x: lax.psum_scatter(jnp.arange(16.0) * x, "i"),
    "psum in a loop": lambda x: lax.fori_loop(0, 3, lambda _, total: total + lax.psum(x, "i"), 0.0),
    "gradient of a psum": jax.grad(lambda x: lax.psum(x * x, "i")),
    "size of the axis": lambda x: x * lax.psum(1, "i"),
}
REFUSED = {
    "partial ppermute": (lambda x: lax.ppermute(x, "i", [(0, 1), (9, 3)]), AssertionError, "doesn't match the axis"),
    "groups": (lambda x: lax.psum(x, "i", axis_index_groups=[[0, 1], [2, 3]]), NotImplementedError, "not supported"),
    "the name of the mesh axis": (lambda x: lax.psum(x, "lanes"), NameError, "unbound axis name: lanes"),
}


@pytest.mark.parametrize("name", COLLECTIVES)
def test_collectives_run_over_all_lanes(name):
    expected = jax.vmap(COLLECTIVES[name], axis_name="i")(XS)
    np.testing.assert_allclose(gs.pmap(COLLECTIVES[name], axis_name="i")(XS), expected, rtol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_what_vmap_refuses_is_refused(name):
    f, error, text = REFUSED[name]
    for transform in (jax.vmap, gs.pmap):
        with pytest.raises(error, match=text):
            transform(f, axis_name="i")(XS)


def test_no_collective_runs_over_devices_only():
    """Not where the mesh has an axis of that name, nor in a rule that only a derivative shows."""
    mesh = Mesh(np.array(on(4)), ("i",))
    assert gs.pmap(lambda x: lax.psum(x, "i"), axis_name="i", mesh=mesh)(XS).tolist() == [120.0] * 16

    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, cotangent: (lax.psum(cotangent, "i"),))
    for given_ in ({"mesh": mesh}, {}):
        inside = gs.pmap(jax.grad(double), axis_name="i", **given_)
        assert inside(XS).tolist() == [16.0] * 16
        outside = gs.pmap(double, axis_name="i", **given_)
        with pytest.raises(NameError, match="unbound axis name: i"):
            jax.grad(lambda x: outside(x).sum())(XS)  # noqa: B023


def test_collectives_over_an_axis_around_are_those_of_that_axis():
    f = lambda x: x + lax.psum(x, "around")  # noqa: E731
    xs = numbers(3, 8)
    expected = jax.vmap(jax.vmap(f), axis_name="around")(xs)
    np.testing.assert_allclose(gs.vmap(gs.pmap(f), axis_name="around")(xs), expected, rtol=1e-6)


@counts
def test_many_calls_with_collectives_do_not_wait_for_each_other():
    step = gs.pmap(lambda x: x - lax.pmean(x, "i"), axis_name="i")
    x = step(XS)
    for _ in range(300):
        x = step(x)
    np.testing.assert_allclose(x, XS - 7.5, atol=1e-5)


# What lanes may write


def test_a_write_that_depends_on_the_lane_is_refused_where_one_state_has_to_hold_it():
    total = gs.State(jnp.float32(0))

    def write(x):
        total.value = x

    def write_index(x):
        total.value = lax.axis_index("i").astype(x.dtype)

    for f in (write, write_index):
        with pytest.raises(BatchAxisError, match=r"`total` .* is not mapped, .* the values of 16 lanes"):
            gs.pmap(f, axis_name="i")(XS)
    assert total.value == 0.0

    def write_mean(x):
        total.value = lax.pmean(x, "i")

    gs.pmap(write_mean, axis_name="i")(XS)
    assert total.value == 7.5


def test_streams_that_are_not_drawn_from_stay():
    node = Learner(0)
    key = jax.random.key_data(node.dropout.rng.value)
    gs.pmap(lambda node, x: node.layer(x), in_axes=(None, 0))(node, numbers(8, 4))
    np.testing.assert_array_equal(jax.random.key_data(node.dropout.rng.value), key)
    assert len(node.dropout.rng.value.sharding.device_set) == 8  # and are not moved again


def test_values_that_are_trees_lie_where_they_are_needed():
    state = gs.State({"a": jnp.ones((3, 8)), "b": [np.zeros((2, 8), np.float32)]})
    total = gs.State([jnp.ones(2)])

    def add(state, x):
        state.value["b"][0] + total.value[0]
        return state.value["a"].sum() * x + total.value[0].sum()

    np.testing.assert_array_equal(gs.pmap(add, in_axes=(-1, 0))(state, jnp.arange(8.0)), 3 * np.arange(8.0) + 2)
    assert all(is_spread(leaf, 8, axis=1) for leaf in jax.tree.leaves(state.value))
    assert total.value[0].sharding.is_fully_replicated
    assert len(total.value[0].sharding.device_set) == 8


@pytest.mark.parametrize("donates", [False, True])
def test_a_call_that_fails_leaves_everything_where_it_was(donates):
    hidden = gs.HiddenState(jnp.zeros(8))
    before = hidden.value

    def fail(x):
        hidden.value = hidden.value + x
        raise RuntimeError("it failed")

    with pytest.raises(RuntimeError, match="it failed"):
        gs.pmap(fail, state_in_axes=gs.HiddenState, donate_states=donates)(jnp.arange(8.0))
    assert hidden.value is before


# In and around other transforms: tests/transform/test_nesting.py has every pair


def test_a_pmap_in_lanes_or_shards_is_vmap():
    double = gs.pmap(lambda x: 2 * x)
    xs = numbers(8, 3)  # three lanes: no number of devices but one divides them
    np.testing.assert_array_equal(gs.pmap(double)(xs), 2 * xs)
    mesh = Mesh(np.array(on(8)), ("x",))
    split = PartitionSpec("x")
    np.testing.assert_array_equal(gs.shard_map(gs.vmap(double), mesh=mesh, in_specs=split, out_specs=split)(xs), 2 * xs)
    with pytest.raises(AxisError, match="3 lanes are no multiple of 8 devices"):
        double(xs[0])


@counts
def test_derivatives_by_what_all_lanes_share_are_summed_over_them():
    weight, xs = gs.ParamState(numbers(4)), numbers(8, 4)
    loss = lambda x: jnp.tanh(x @ weight.value)  # noqa: E731
    total = lambda: gs.pmap(loss)(xs).sum()  # noqa: E731
    expected = jax.grad(lambda w: jnp.tanh(xs @ w).sum())(weight.value)
    for call in (gs.grad(total, states=weight), gs.jit(gs.grad(total, states=weight))):
        np.testing.assert_allclose(call(), expected, rtol=1e-5)


def test_methods_are_mapped():
    class Scale(gs.Node):
        def __init__(self):
            self.factor = gs.ParamState(jnp.arange(8.0))
            self.mapped = gs.pmap(self._lane, state_in_axes=gs.ParamState)

        def _lane(self, x):
            return self.factor.value * x

        @gs.pmap(in_axes=(0, None))
        def decorated(self, x):
            return self.factor.value * x

    scale = Scale()
    twice = gs.clone(scale)
    twice.factor.value = 2 * twice.factor.value
    np.testing.assert_array_equal(scale.mapped(jnp.ones(8)), np.arange(8))
    np.testing.assert_array_equal(twice.mapped(jnp.ones(8)), 2 * np.arange(8))
    np.testing.assert_array_equal(scale.decorated(2.0), 2 * np.arange(8))


def test_it_is_a_mapping_that_is_compiled():
    mapped = gs.pmap(lambda x, *, y: x + y)
    assert isinstance(mapped, gs.StatefulMapping)
    assert mapped.eval_shape(XS, y=XS).shape == (16,)
    assert "shard_map" in str(mapped.trace(XS, y=XS).jaxpr)
    abstract = mapped.lower(jax.ShapeDtypeStruct((16,), jnp.float32), y=XS).compile()
    assert abstract.memory_analysis().argument_size_in_bytes == 2 * 16 * 4 // 8
    with jax.disable_jit():
        np.testing.assert_array_equal(mapped(XS, y=XS), 2 * XS)


def test_no_lanes_and_lanes_without_arguments_work():
    assert gs.pmap(lambda x: 2 * x)(jnp.zeros((0, 3))).shape == (0, 3)
    assert gs.pmap(lambda: gs.random.uniform(), axis_size=8)().shape == (8,)


# Uneven numbers of lanes


def test_lanes_that_the_devices_do_not_divide_may_be_padded():
    total = gs.State(jnp.float32(0))
    rng = gs.random.RandomState(0)

    def lane(x, scale):
        total.value = total.value + 1.0
        return x * scale, rng.uniform()

    def run(mapped):
        rng.seed(0)
        return mapped(lane, in_axes=(1, None), out_axes=(1, 0))(numbers(2, 10), jnp.float32(3))

    for ours, oracle in zip(run(functools.partial(gs.pmap, uneven="pad")), run(on_one_device), strict=True):
        np.testing.assert_array_equal(ours, oracle)
    assert total.value == 2.0


def test_lanes_are_not_padded_where_that_would_change_something():
    hidden = gs.HiddenState(jnp.zeros(10))

    def write(x):
        hidden.value = hidden.value + x

    def write_argument(state, x):
        state.value = state.value + x

    spread_states = {"uneven": "pad", "state_in_axes": gs.HiddenState}
    text = r"`uneven=\"pad\"` of `pmap` adds lanes whose results are dropped, but `hidden` .* is mapped and was written"
    with pytest.raises(AxisError, match=text):
        gs.pmap(write, **spread_states)(jnp.arange(10.0))
    with pytest.raises(AxisError, match=text.replace("hidden", "state")):
        gs.pmap(write_argument, uneven="pad")(hidden, jnp.arange(10.0))
    with pytest.raises(AxisError, match="adds lanes, which would take part in the collectives over 'i'"):
        gs.pmap(lambda x: lax.psum(x, "i"), axis_name="i", uneven="pad")(jnp.arange(10.0))
    assert hidden.value.tolist() == [0.0] * 10


# Errors


def test_lanes_that_the_devices_do_not_divide_are_an_error_with_two_ways_out():
    with pytest.raises(AxisError, match=r"10 lanes are no multiple of 8 devices .*'lanes': 8.*`devices=`.*\"pad\""):
        gs.pmap(lambda x: x)(jnp.arange(10.0))


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"mesh_axes": "x"}, "no `mesh` was given"),
        ({"devices": []}, "`devices` is empty"),
        ({"devices": 4}, r"a sequence of devices, but 4 is none. Take some of `jax.devices\(\)`"),
        ({"devices": "twice"}, "names each device once, but .* is there 2 times"),
        ({"devices": "all", "mesh": "grid"}, "was given both"),
        ({"mesh": "grid", "mesh_axes": ("a", "c")}, "it has 'c', and the axes of the mesh are 'a', 'b'"),
        ({"mesh": "grid", "mesh_axes": ("a", "a")}, r"each once, but it has \('a', 'a'\)"),
        ({"uneven": "fewer"}, "`uneven` is one of 'error', 'pad', but it is 'fewer'"),
        ({"rng": "other"}, "`rng` is one of"),
        ({"in_axes": (0, 0)}, "must have an entry for each of the 1 positional arguments"),
        ({"in_axes": None}, "`pmap` needs something to map over"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense_are_refused(parameters, text):
    known = {"grid": Mesh(np.array(on(4)).reshape(2, 2), ("a", "b")), "all": on(8), "twice": on(2) * 2}
    given_ = {name: known.get(value, value) if isinstance(value, str) else value for name, value in parameters.items()}
    with pytest.raises(AxisError, match=text):
        gs.pmap(lambda x: x, **given_)(XS)


def test_what_was_put_on_other_devices_is_named():
    elsewhere = jax.device_put(jnp.arange(8.0), jax.devices()[1])
    hidden = gs.HiddenState(elsewhere)
    double = lambda node, x: node.value * x  # noqa: E731
    for call, name in (
        (lambda: gs.pmap(double)(gs.HiddenState(jnp.ones(8)), elsewhere), "x"),
        (lambda: gs.pmap(double)(hidden, jnp.ones(8)), "node"),
        (lambda: gs.pmap(lambda x: x + hidden.value.sum())(jnp.ones(8)), "hidden"),
    ):
        with pytest.raises(ShardingError, match=rf"`pmap` of .* on 8 devices .*, but `{name}` was put somewhere else"):
            call()
    assert hidden.value is elsewhere


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_keys_whose_numbers_would_depend_on_the_devices_are_refused(implementation):
    keys = jax.random.split(jax.random.key(0, impl=implementation), 8)
    with pytest.raises(StateTypeError, match="with `rbg` keys they depend on how many lanes a device runs"):
        gs.pmap(jax.random.normal)(keys)


def test_the_mesh_of_a_block_must_be_that_of_the_map():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    scan = lambda x: lax.scan(lambda total, _: (total + x, None), 0 * x, None, length=3)[0]  # noqa: E731
    triple = gs.pmap(scan)
    triple(XS)
    with jax.set_mesh(mesh):
        for call in (triple, gs.jit(triple)):
            with pytest.raises(
                TraceContextError, match=r"\{'lanes': 8\} \(Auto\).*`jax.set_mesh`.*\{'x': 8\} \(Auto\)"
            ):
                call(XS)
        for call in (gs.pmap(scan, mesh=mesh), gs.jit(gs.pmap(scan, mesh=mesh))):
            np.testing.assert_array_equal(call(XS), 3 * XS)


@many_calls
def test_collectives_mean_the_same_within_other_transforms():
    scale = lambda x: x * lax.pmean(x, "i")  # noqa: E731
    spread, plain, xs = gs.pmap(scale, axis_name="i"), jax.vmap(scale, axis_name="i"), numbers(3, 8)
    both = lambda x: x + lax.psum(x, "i") * lax.psum(x, "j")  # noqa: E731
    nested = jax.vmap(jax.vmap(both, axis_name="j"), axis_name="i")
    for ours, oracle in (
        (gs.vmap(spread)(xs), jax.vmap(plain)(xs)),
        (gs.grad(lambda x: (spread(x) ** 2).sum())(xs[0]), jax.grad(lambda x: (plain(x) ** 2).sum())(xs[0])),
        (gs.scan(lambda c, x: (spread(x) + c, c), xs[0], xs), lax.scan(lambda c, x: (plain(x) + c, c), xs[0], xs)),
        (gs.pmap(gs.pmap(both, axis_name="j"), axis_name="i")(numbers(8, 3)), nested(numbers(8, 3))),
    ):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), ours, oracle)


def test_a_node_may_be_restructured_and_the_number_of_lanes_may_change():
    node = gs.Node()
    node.total, node.log, node.array = gs.State(jnp.zeros(8)), [], jnp.arange(8.0)

    def step(node, x):
        node.log.append(gs.State(x))
        node.array = node.array + 1
        node.total.value = node.total.value + node.array

    step = gs.pmap(step, donate_states=True)
    for _ in range(2):
        step(node, jnp.arange(8.0))
    assert all(is_spread(each, 8) for each in (node.log[0].value, node.log[1].value, node.array))
    np.testing.assert_array_equal(node.total.value, 2 * np.arange(8.0) + 3)
    node.total.value, node.array, node.log = jnp.zeros(16), jnp.arange(16.0), []
    step(node, jnp.arange(16.0))
    np.testing.assert_array_equal(node.total.value, np.arange(16.0) + 1)


@counts
def test_threads_never_draw_with_one_key():
    rng, drawn = gs.random.RandomState(1), []
    draw = gs.pmap(lambda x: rng.normal() + x)
    threads = [
        threading.Thread(target=lambda: [drawn.append(np.asarray(draw(jnp.zeros(8)))) for _ in range(4)])
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.tobytes() for each in drawn}) == 12


def test_what_is_drawn_outside_after_a_draw_on_all_devices_is_bound_to_none():
    rng, alone = gs.random.RandomState(3), gs.random.RandomState(3)
    gs.pmap(lambda x: rng.normal() + x)(jnp.zeros(8))
    gs.pmap(lambda x: alone.normal() + x, devices=jax.devices()[:1])(jnp.zeros(8))
    layer, other = gs.nn.Linear(2, 3, rng=rng), gs.nn.Linear(2, 3, rng=alone)
    np.testing.assert_array_equal(layer.weight.value, other.weight.value)
    assert not layer.weight.value.committed
    gs.pmap(layer, devices=jax.devices()[:2])(jnp.ones((4, 2)))
    draws = gs.vmap(lambda x: rng.normal() + x)(jnp.zeros(4))
    np.testing.assert_array_equal(draws, gs.vmap(lambda x: alone.normal() + x)(jnp.zeros(4)))
    assert not draws.committed
