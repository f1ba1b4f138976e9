"""`pmap` is `vmap` with the lanes spread over devices: the same values for every number of them.

The oracle is `gs.jit(gs.vmap(f))`, whose lanes all run on one device. What runs where is read from the shardings and
from the compiled program.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, Mesh, PartitionSpec

import graphstate as gs

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
KINDS = (
    elementwise,
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
    [(kind, (8, 16, 24)[number % 3]) for number, kind in enumerate(KINDS)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_every_number_of_devices_gives_what_one_device_gives(kind, lanes):
    expected = jax.tree.leaves(kind(on_one_device, lanes))
    first = None
    for count in DEVICES:
        given_ = jax.tree.leaves(jax.tree.map(np.asarray, kind(spread(count), lanes)))
        tolerance = 64 * EPSILON if kind in PRODUCTS + PRODUCTS_OF_A_LANE else 0
        for ours, oracle in zip(given_, expected, strict=True):
            assert (ours.shape, ours.dtype) == (oracle.shape, oracle.dtype)
            np.testing.assert_allclose(ours, oracle, rtol=tolerance, atol=tolerance)
        if kind not in PRODUCTS:
            first = first or given_
            for ours, other in zip(given_, first, strict=True):
                np.testing.assert_array_equal(ours, other)


@many_calls
@given(st.data())
@settings(max_examples=12)
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
    return re.findall(rf"= \S+ ({names})", compiled.as_text())


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
        assert compiled.cost_analysis()["flops"] == pytest.approx(alone.cost_analysis()["flops"] / count, rel=0.02)
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
