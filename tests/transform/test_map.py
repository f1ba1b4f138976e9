"""`map`: what `vmap` means, in batches of any size; one trace; what depends on the lane, and what does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate import random
from graphstate.errors import AliasError, AxisError, BatchAxisError, StateTypeError, TraceContextError

SIZES = (None, 0, 1, 3, 4, 7, 9)
XS = jnp.arange(7.0)


def members(count=7):
    return gs.vmap(lambda seed: gs.nn.Linear(2, 3, rng=random.RandomState(seed)))(jnp.arange(count))


def weights(node):
    return np.asarray(node.weight.value)


# The meaning: `vmap`, whatever the batch size


@pytest.mark.parametrize("size", SIZES)
def test_arrays_are_mapped_as_jax_lax_map_does(size):
    got = gs.map(lambda x: {"double": 2 * x, "pair": (x, jnp.ones(2))}, XS, batch_size=size)
    expected = jax.lax.map(lambda x: {"double": 2 * x, "pair": (x, jnp.ones(2))}, XS, batch_size=size)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize("size", SIZES)
def test_nodes_are_sliced_and_what_is_written_to_them_comes_back_stacked(size):
    layers, before = members(), weights(members())

    def step(layer, x):
        layer.weight.value = layer.weight.value + x
        return layer(jnp.ones(2))

    out = gs.map(step, layers, XS, batch_size=size)
    expected = np.stack([before[i] + i for i in range(7)])
    np.testing.assert_allclose(weights(layers), expected, rtol=1e-6)
    np.testing.assert_allclose(out, expected.sum(1), rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_lanes_draw_what_they_draw_under_vmap(size):
    ours, theirs = random.RandomState(0), random.RandomState(0)

    def draw(rng):
        return lambda x: (x + rng.normal(), rng.normal(size=(2,)))

    got, expected = gs.map(draw(ours), XS, batch_size=size), gs.vmap(draw(theirs))(XS)
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert ours.value == theirs.value


@pytest.mark.parametrize("size", [None, 2])
def test_stacked_keys_give_each_lane_its_own(size):
    rng = random.RandomState(jax.random.split(jax.random.key(0), 3))
    keys = rng.value
    got = gs.map(lambda rng: rng.normal(), rng, batch_size=size)
    np.testing.assert_array_equal(got, [random.RandomState(key).normal() for key in keys])
    assert rng.value.shape == (3,)
    assert not (rng.value == keys).any()


@pytest.mark.parametrize("size", SIZES)
def test_a_write_that_does_not_depend_on_the_lane_is_kept_once(size):
    number, buffer = gs.State(3), gs.State(jnp.zeros(2))

    def step(x):
        number.value += 1
        buffer.value = buffer.value + 1.0
        return number.value * jnp.ones_like(x, jnp.int32), buffer.value.sum()

    counted, sums = gs.map(step, XS, batch_size=size)
    assert number.value == 4
    np.testing.assert_array_equal(buffer.value, [1.0, 1.0])
    np.testing.assert_array_equal(counted, [4] * 7)
    np.testing.assert_array_equal(sums, [2.0] * 7)


def test_what_a_compiled_function_writes_is_told_apart_by_output():
    """A whole call leads from the input to both, but only one of them depends on it."""
    number = gs.State(0)

    @gs.jit
    def inner(x):
        number.value += 1
        return 2 * x

    np.testing.assert_array_equal(gs.map(inner, XS), 2 * XS)
    assert number.value == 1


@pytest.mark.parametrize("size", SIZES)
def test_a_lane_dependent_write_to_an_unmapped_state_is_an_error(size):
    total = gs.State(jnp.float32(0.0))

    def step(x):
        total.value = total.value + x

    with pytest.raises(
        BatchAxisError,
        match=r"`total` \(State, created at test_map.py:\d+\) is not mapped, but a value that depends on the lane was "
        r"written to it.*7 lanes.*Give its Node to `map`.*`state_in_axes`.*use `for_loop`",
    ):
        gs.map(step, XS, batch_size=size)
    assert total.value == 0.0


def test_a_draw_in_a_lane_depends_on_the_lane():
    rng, noise = random.RandomState(0), gs.State(jnp.float32(0.0))
    key = rng.value

    def step(x):
        noise.value = rng.normal()
        return x

    with pytest.raises(BatchAxisError, match="`noise`"):
        gs.map(step, XS)
    assert rng.value == key


def test_a_write_that_no_batching_rule_can_follow_is_taken_to_depend_on_the_lane():
    total = gs.State(jnp.float32(0.0))

    def add(x):
        return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((), jnp.float32), x)

    def step(x):
        total.value = add(x)

    np.testing.assert_array_equal(gs.map(add, XS), XS)
    with pytest.raises(BatchAxisError, match="`total`"):
        gs.map(step, XS)


# State axes and rng


@pytest.mark.parametrize("size", SIZES)
def test_states_of_the_closure_are_mapped_by_filter_at_any_axis(size):
    hidden, seen = gs.HiddenState(jnp.zeros((2, 7))), gs.ShortTermState(jnp.zeros(()))

    def step(x):
        hidden.value = hidden.value + x
        seen.value = x
        return hidden.value.sum()

    axes = {gs.HiddenState: 1}
    out = gs.map(step, XS, batch_size=size, state_in_axes=axes, state_out_axes={gs.ShortTermState: 0})
    np.testing.assert_array_equal(hidden.value, [XS, XS])
    np.testing.assert_array_equal(seen.value, XS)
    np.testing.assert_array_equal(out, 2 * XS)


def test_states_alone_tell_the_number_of_lanes():
    hidden = gs.HiddenState(jnp.arange(3.0))
    np.testing.assert_array_equal(gs.map(lambda: hidden.value + 1, state_in_axes=gs.HiddenState), [1.0, 2.0, 3.0])


def test_lanes_draw_alike_or_not_at_all_as_asked():
    rng = random.RandomState(0)
    drawn = gs.map(lambda x: rng.normal(), XS, rng="same")
    assert len(set(drawn.tolist())) == 1
    with pytest.raises(TraceContextError, match=r'`rng`.* was drawn from inside of a map with rng="error"'):
        gs.map(lambda x: rng.normal(), XS, rng="error")
    with pytest.raises(AxisError, match="`rng` is one of 'split', 'same', 'error', but it is 'all'"):
        gs.map(lambda x: x, XS, rng="all")


# Sizes


@pytest.mark.parametrize("size", [None, 0, 2])
def test_no_lanes_give_empty_results(size):
    number, rng = gs.State(0), random.RandomState(0)

    def step(x):
        number.value += 1
        return x, rng.normal(size=(2,))

    first, second = gs.map(step, jnp.zeros((0, 3)), batch_size=size)
    assert (first.shape, second.shape, number.value) == ((0, 3), (0, 2), 1)


def test_batch_sizes_that_are_none_are_refused():
    for size in (-1, 2.0, True):
        with pytest.raises(AxisError, match=rf"`batch_size` is how many lanes run at once.*but it is {size}"):
            gs.map(lambda x: x, XS, batch_size=size)


def test_sizes_that_differ_are_an_error():
    with pytest.raises(AxisError, match=r"(?s)`map` maps over one number of lanes.*3 in.*7 in `"):
        gs.map(lambda x, y: x, XS, jnp.ones(3))


def test_nothing_to_map_over_is_an_error():
    with pytest.raises(
        AxisError, match=r"`map` needs something to map over, but it was given neither arrays nor Nodes"
    ):
        gs.map(lambda: 1.0)


def test_state_axes_are_no_argument():
    with pytest.raises(StateTypeError, match="`map` takes Nodes, States and pytrees of arrays"):
        gs.map(lambda x, axes: x, XS, gs.StateAxes({...: 0}))


# Traces


@pytest.mark.no_leak_check(reason="counts traces")
@pytest.mark.parametrize("size", SIZES)
def test_the_function_is_traced_once_and_not_again_by_the_next_call(size, caplog):
    layers, traces = members(), []

    def step(layer, x):
        traces.append(1)
        layer.bias.value = layer.bias.value + x
        return layer(jnp.ones(2))

    gs.map(step, layers, XS, batch_size=size)
    assert len(traces) == 1
    with jax.log_compiles():
        gs.map(step, layers, XS, batch_size=size)
    assert len(traces) == 1
    assert "Compiling" not in caplog.text
    gs.jit(lambda layers: gs.map(step, layers, XS, batch_size=size))(layers)
    assert len(traces) == 2


def test_one_lane_at_a_time_runs_one_branch():
    ran = []

    def step(x):
        def odd(x):
            jax.debug.callback(lambda x: ran.append(float(x)), x)
            return x

        return jax.lax.cond(x % 2 == 1, odd, lambda x: x, x)

    gs.map(step, XS)
    jax.effects_barrier()
    assert sorted(ran) == [1.0, 3.0, 5.0]


# Nested


@pytest.mark.parametrize("size", [None, 2])
def test_map_in_vmap_in_jit_is_a_loop_in_a_loop(size):
    rng, reference = random.RandomState(0), random.RandomState(0)

    def inner(rng, mapping):
        return lambda row: mapping(lambda x: x + rng.normal(), row)

    ours = gs.jit(gs.vmap(inner(rng, lambda f, x: gs.map(f, x, batch_size=size))))(jnp.zeros((2, 3)))
    theirs = gs.vmap(inner(reference, lambda f, x: gs.vmap(f)(x)))(jnp.zeros((2, 3)))
    np.testing.assert_array_equal(ours, theirs)
    assert len(set(ours.ravel().tolist())) == 6
    assert rng.value == reference.value


@pytest.mark.parametrize("size", [None, 2])
def test_gradients_go_through(size):
    layers = members()

    def loss(layers):
        return jnp.sum(gs.map(lambda layer: jnp.sum(layer(jnp.ones(2)) ** 2), layers, batch_size=size))

    def plain(layers):
        return jnp.sum(gs.vmap(lambda layer: jnp.sum(layer(jnp.ones(2)) ** 2))(layers))

    jax.tree.map(np.testing.assert_array_equal, gs.grad(loss)(layers), gs.grad(plain)(layers))
    jax.tree.map(np.testing.assert_array_equal, gs.grad(plain)(layers), gs.jit(gs.grad(loss))(layers))


def test_a_loop_inside_of_a_lane_carries_states_of_the_lane():
    totals = gs.vmap(lambda x: Total(x))(jnp.zeros(3))
    gs.map(lambda total: gs.for_loop(total.add, jnp.arange(4.0)), totals)
    np.testing.assert_array_equal(totals.total.value, [6.0, 6.0, 6.0])


class Total(gs.Node):
    def __init__(self, x):
        self.total = gs.State(x)

    def add(self, x):
        self.total.value = self.total.value + x


def test_a_method_writes_to_its_node_what_does_not_depend_on_the_lane():
    total = Total(jnp.float32(0.0))
    with pytest.raises(BatchAxisError, match="total"):
        gs.map(total.add, XS)
    gs.map(lambda x: total.add(jnp.float32(1.0)), XS)
    assert total.total.value == 1.0


# Nodes out of lanes, structure, failures


@pytest.mark.parametrize("size", SIZES)
def test_a_constructor_makes_a_stacked_node(size):
    made = gs.map(lambda seed: gs.nn.Linear(2, 3, rng=random.RandomState(seed)), jnp.arange(7), batch_size=size)
    np.testing.assert_array_equal(weights(made), weights(members()))


def test_a_mapped_node_may_gain_a_state():
    layers = members()

    def grow(layer, x):
        layer.extra = gs.State(x)
        return layer

    assert gs.map(grow, layers, XS, batch_size=3) is layers
    np.testing.assert_array_equal(layers.extra.value, XS)


def test_an_outer_state_in_a_result_is_an_error():
    outer = gs.State(jnp.zeros(2))
    with pytest.raises(AliasError, match=r"mapped at axis 0, but that is `outer`.*which was made outside"):
        gs.map(lambda x: outer, XS)


def test_a_node_that_is_mapped_and_read_from_the_closure_is_an_error():
    layers = members()
    with pytest.raises(AliasError, match=r"`layer.weight` is mapped as an argument, so that each lane has its slice"):
        gs.map(lambda layer: layer.weight.value.sum() + layers.weight.value.sum(), layers)


@pytest.mark.parametrize("size", [None, 2])
def test_a_failure_leaves_everything_as_it_was(size):
    layers, rng, number = members(), random.RandomState(0), gs.State(0)
    before, key = weights(layers), rng.value

    def step(layer, x):
        layer.weight.value = layer.weight.value * rng.normal()
        layer.extra = x
        number.value += 1
        raise RuntimeError("as it was")

    with pytest.raises(RuntimeError, match="as it was"):
        gs.map(step, layers, XS, batch_size=size)
    np.testing.assert_array_equal(weights(layers), before)
    assert (rng.value == key, number.value, hasattr(layers, "extra")) == (True, 0, False)


def test_dropout_differs_from_lane_to_lane():
    drop = gs.nn.Dropout(0.5, rng=random.RandomState(0))
    with gs.environ.context(fit=True):
        out = gs.map(lambda x: drop(jnp.ones(32)), XS[:3], batch_size=2)
    assert len({tuple(row) for row in out.tolist()}) == 3
