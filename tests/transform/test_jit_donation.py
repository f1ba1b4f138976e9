"""`jit` that donates: which buffers are given away, which are copied, and what is left after a failure."""

import copy
import re
import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import graphstate as gs
from graphstate import random
from graphstate.errors import DonatedError, StateTypeError


class Pair(gs.Node):
    def __init__(self):
        self.written = gs.ParamState(jnp.arange(4.0))
        self.read = gs.ParamState(jnp.ones(4))


def pointer(state):
    return state.value.unsafe_buffer_pointer()


def sharing(array):
    """Another array of the same buffer."""
    other = jax.device_put(array, jax.devices()[0])
    assert other is not array
    assert other.unsafe_buffer_pointer() == array.unsafe_buffer_pointer()
    return other


def add_read(pair):
    pair.written.value = pair.written.value + pair.read.value


def counter(value=None, **options):
    state = gs.State(jnp.arange(4.0) if value is None else value)

    @gs.jit(donate_states=True, **options)
    def increase():
        state.value = jax.tree.map(lambda x: x + 1, state.value)

    return state, increase


# What is donated


@pytest.mark.parametrize("options", [{"donate_states": True}, {"donate_argnums": 0}, {"donate_argnames": "pair"}])
def test_states_that_are_written_are_written_in_place(options):
    pair, step = Pair(), gs.jit(add_read, **options)
    for _ in range(3):
        places = pointer(pair.written), pointer(pair.read)
        step(pair)
        assert (pointer(pair.written), pointer(pair.read)) == places
    np.testing.assert_array_equal(pair.written.value, np.arange(4.0) + 3)
    np.testing.assert_array_equal(pair.read.value, np.ones(4))


def test_states_of_the_closure_are_donated_only_with_donate_states():
    state, increase = counter()
    place = pointer(state)
    increase()
    increase()
    assert pointer(state) == place
    np.testing.assert_array_equal(state.value, np.arange(4.0) + 2)


def test_only_the_named_arguments_are_donated():
    @gs.jit(donate_argnums=1)
    def step(first, second):
        for pair in (first, second):
            add_read(pair)

    first, second = Pair(), Pair()
    step(first, second)
    places = pointer(first.written), pointer(second.written)
    step(first, second)
    now = {pointer(first.written), pointer(second.written)}  # a buffer may serve for another State of its size
    assert places[0] not in now
    assert places[1] in now


def test_arrays_are_donated_as_under_jax():
    x, y = jnp.ones(3), jnp.ones(3)
    double = gs.jit(lambda x, y: (2 * x, y), donate_argnums=0)
    double(x, y)
    assert x.is_deleted()
    assert not y.is_deleted()
    with pytest.raises((RuntimeError, ValueError), match="deleted"):
        double(x, y)
    with pytest.raises(RuntimeError, match="deleted"):
        x + 1


def test_arrays_in_pytrees_and_keywords_are_donated():
    tree, z = {"a": jnp.ones(3), "b": jnp.ones(4)}, jnp.ones(5)
    gs.jit(lambda tree, *, z: (jax.tree.map(lambda x: x + 1, tree), z + 1), donate_argnames=("tree", "z"))(tree, z=z)
    assert tree["a"].is_deleted()
    assert tree["b"].is_deleted()
    assert z.is_deleted()


def test_donated_positions_count_static_arguments():
    x, y = jnp.ones(3), jnp.ones(4)
    gs.jit(lambda k, x, y: (k * x, k * y), static_argnums=0, donate_argnums=-1)(2.0, x, y)
    assert not x.is_deleted()
    assert y.is_deleted()


def test_a_pytree_in_a_state_is_donated():
    state, increase = counter({"a": jnp.ones(3), "b": (jnp.ones(4), jnp.ones(5))})
    increase()
    places = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state.value)]
    increase()
    assert [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state.value)] == places
    assert (state.value["b"][0] == 3).all()


def test_a_value_of_another_size_is_not_donated_and_nothing_is_warned_about():
    state = gs.State(jnp.ones(2))

    @gs.jit(donate_states=True)
    def grow():
        state.value = jnp.concatenate([state.value, state.value])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grow()
        grow()
    assert state.value.shape == (8,)


def test_numbers_and_numpy_arrays_can_be_donated():
    for value, expected in ((3.0, 5.0), (np.ones(3, np.float32), 3 * np.ones(3))):
        state, increase = counter(value)
        increase()
        increase()
        np.testing.assert_array_equal(state.value, expected)


def test_programs_of_one_structure_may_write_different_states():
    first, second = gs.State(jnp.zeros(2)), gs.State(jnp.zeros(2))

    @gs.jit(donate_states=True)
    def step(x):
        state = first if x.shape[0] > 1 else second
        state.value = state.value + x.sum()
        return first.value.sum() + second.value.sum()

    for size in (1, 2, 3, 2, 1):
        step(jnp.ones(size))
    assert (first.value == 7).all()
    assert (second.value == 2).all()
    places = pointer(first), pointer(second)
    step(jnp.ones(2))
    step(jnp.ones(1))
    assert (pointer(first), pointer(second)) == places


def test_the_compiled_program_says_what_it_saves():
    pair = Pair()
    saved = gs.jit(add_read, donate_states=True).lower(pair).compile().memory_analysis()
    plain = gs.jit(add_read).lower(pair).compile().memory_analysis()
    assert (saved.alias_size_in_bytes, plain.alias_size_in_bytes) == (16, 0)
    assert not pair.written.value.is_deleted()


@pytest.mark.no_leak_check  # which traces more often
def test_the_function_is_traced_once():
    traces = []

    @gs.jit(donate_states=True)
    def step(pair):
        traces.append(1)
        add_read(pair)

    for _ in range(3):
        step(Pair())
    assert traces == [1]


# What is copied


def test_a_state_that_holds_the_same_array_keeps_it():
    state, increase = counter()
    other = gs.State(state.value)
    increase()
    increase()
    np.testing.assert_array_equal(other.value, np.arange(4.0))
    np.testing.assert_array_equal(state.value, np.arange(4.0) + 2)


def test_a_clone_keeps_its_values():
    pair = Pair()
    copied, deep = gs.clone(pair), copy.deepcopy(pair)
    step = gs.jit(add_read, donate_states=True)
    step(pair)
    step(pair)
    for each in (copied, deep):
        np.testing.assert_array_equal(each.written.value, np.arange(4.0))


def test_what_was_taken_before_keeps_its_values():
    pair = Pair()
    values, array = gs.state(pair), pair.written.value
    gs.jit(add_read, donate_states=True)(pair)
    np.testing.assert_array_equal(values["written"], np.arange(4.0))
    np.testing.assert_array_equal(array, np.arange(4.0))


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_state_that_holds_the_same_buffer_keeps_it(after):
    state, increase = counter()
    for _ in range(after):
        increase()
    other = gs.State(sharing(state.value))
    increase()
    np.testing.assert_array_equal(other.value, np.arange(4.0) + after)
    np.testing.assert_array_equal(state.value, np.arange(4.0) + after + 1)


def test_an_argument_of_the_same_array_or_buffer_is_read_first():
    state = gs.State(jnp.arange(4.0))

    @gs.jit(donate_states=True)
    def add(x):
        state.value = state.value + x

    add(state.value)
    add(sharing(state.value))
    add(sharing(state.value))
    np.testing.assert_array_equal(state.value, 8 * np.arange(4.0))


def test_two_written_states_may_share_a_buffer():
    first = gs.State(jnp.arange(4.0))
    second = gs.State(first.value)

    @gs.jit(donate_states=True)
    def step():
        first.value, second.value = first.value + 1, second.value * 2

    step()
    np.testing.assert_array_equal(first.value, np.arange(4.0) + 1)
    np.testing.assert_array_equal(second.value, 2 * np.arange(4.0))
    second.value = sharing(first.value)
    step()
    np.testing.assert_array_equal(first.value, np.arange(4.0) + 2)
    np.testing.assert_array_equal(second.value, 2 * np.arange(4.0) + 2)


def test_a_part_of_a_pytree_that_another_state_holds_is_kept():
    state, increase = counter({"a": (jnp.ones(3), jnp.ones(4))})
    part = gs.State(state.value["a"])
    whole = state.value
    increase()
    assert (part.value[1] == 1).all()
    assert (whole["a"][0] == 1).all()
    assert (state.value["a"][0] == 2).all()


def test_a_sharded_state_is_donated_unless_a_shard_is_held():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    state, increase = counter(jax.device_put(jnp.arange(16.0), NamedSharding(mesh, PartitionSpec("d"))))
    increase()
    places = [shard.data.unsafe_buffer_pointer() for shard in state.value.addressable_shards]
    increase()
    assert [shard.data.unsafe_buffer_pointer() for shard in state.value.addressable_shards] == places
    piece = gs.State(state.value.addressable_data(3))
    increase()
    np.testing.assert_array_equal(piece.value, [8.0, 9.0])
    np.testing.assert_array_equal(state.value, np.arange(16.0) + 3)
    assert len(state.value.sharding.device_set) == 8


# Inside of other transforms


@pytest.mark.parametrize(
    "call", [lambda f: gs.jit(f)(), lambda f: gs.vmap(f, axis_size=2)(), lambda f: gs.for_loop(f, length=1)]
)
def test_inside_of_another_trace_nothing_is_donated(call):
    state, increase = counter()
    before = state.value
    call(increase)
    assert not before.is_deleted()
    np.testing.assert_array_equal(state.value, np.arange(4.0) + 1)


def test_an_array_is_not_donated_inside_of_another_trace():
    x, double = jnp.ones(3), gs.jit(lambda x: 2 * x, donate_argnums=0)
    gs.vmap(double)(x)
    jax.vmap(double)(x)
    gs.grad(lambda x: double(x).sum())(x)
    gs.jit(lambda x: double(x))(x)
    assert not x.is_deleted()


@pytest.mark.parametrize("inner", [gs.jit, gs.jit(donate_states=True)], ids=["jit", "donating"])
def test_a_function_that_donates_calls_compiled_functions(inner):
    traces = []
    rng = random.RandomState(0)

    @inner
    def add(pair, x):
        pair.written.value = pair.written.value + x.sum() + 0 * rng.normal()

    @gs.jit(donate_states=True)
    def step(pair, x):
        traces.append(x.shape)
        add(pair, x)
        if len(x) > 1:
            pair.read.value = pair.read.value + 1

    pair, draws = Pair(), random.RandomState(0)
    for x in (jnp.ones(1), jnp.ones(2), jnp.ones(3), jnp.ones(1), jnp.ones(2)):
        step(pair, x)
        draws.normal()
    np.testing.assert_array_equal(pair.written.value, np.arange(4.0) + 9)
    np.testing.assert_array_equal(pair.read.value, [4.0, 4.0, 4.0, 4.0])
    assert jnp.all(jax.random.key_data(rng.value) == jax.random.key_data(draws.value))
    assert traces == [(1,), (2,), (3,)]


def test_jax_may_be_told_not_to_compile():
    state, increase = counter()
    with jax.disable_jit():
        increase()
    np.testing.assert_array_equal(state.value, np.arange(4.0) + 1)


# Random draws


def test_a_program_that_draws_donates_what_it_writes_but_the_key():
    rng, state = random.RandomState(0), gs.State(jnp.zeros(4))
    plain, reference = random.RandomState(0), gs.State(jnp.zeros(4))

    def walk(rng, state):
        state.value = state.value + rng.normal(4)

    donating = gs.jit(walk, donate_states=True)
    for _ in range(3):
        donating(rng, state)
        walk(plain, reference)
    np.testing.assert_allclose(state.value, reference.value, rtol=1e-6)
    assert rng.value == plain.value
    key, place = rng.value, pointer(state)
    donating(rng, state)
    assert pointer(state) == place
    assert not key.is_deleted()


def test_threads_that_draw_never_repeat_a_key():
    rng = random.RandomState(0)
    states = [gs.State(jnp.zeros(())) for _ in range(3)]
    drawn = []

    @gs.jit(donate_states=True)
    def draw(state):
        state.value = rng.normal()

    def work(state):
        for _ in range(20):
            draw(state)
            drawn.append(float(state.value))

    for state in states:
        draw(state)
    threads = [threading.Thread(target=work, args=(state,)) for state in states]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == len(drawn) == 60


def test_a_callback_may_draw_from_the_stream_of_a_program_that_then_donates_nothing():
    rng, state = random.RandomState(0), gs.State(jnp.zeros(()))

    @gs.jit(donate_states=True)
    def step():
        state.value = state.value + rng.normal() + jax.pure_callback(lambda x: x, state.value, state.value)

    before = state.value
    step()
    assert not before.is_deleted()


# Failures


def failing(fails):
    def on_the_host(x):
        if fails:
            raise ValueError("failed on the host")
        return x

    state = gs.State(jnp.zeros(4))

    @gs.jit(donate_states=True)
    def step():
        state.value = jax.pure_callback(on_the_host, state.value, state.value) + 1

    return state, step


def test_a_state_that_a_failing_call_was_given_raises_until_it_is_written():
    fails = []
    state, step = failing(fails)
    step()
    fails.append(1)
    with pytest.raises(jax.errors.JaxRuntimeError, match="failed on the host"):
        step()
    with pytest.raises(DonatedError, match=r"`state` \(State, created at .*\) has no value: its buffer was donated to"):
        state.value  # noqa: B018, the error is the point
    with pytest.raises(DonatedError, match=r"`.*step` donate nothing"):
        step()
    with pytest.raises(DonatedError, match="has no value"):
        gs.jit(lambda: state.value)()
    with pytest.raises(DonatedError, match="has no value"):
        gs.state(state)
    assert repr(state) == "State(no value: donated)"
    fails.clear()
    state.value = jnp.ones(4)
    step()
    assert (state.value == 2).all()


def test_a_lost_state_can_be_restored_by_update():
    fails = []
    state, step = failing(fails)
    node = gs.Node()
    node.part = state
    saved = jax.tree.map(np.asarray, gs.state(node))
    fails.append(1)
    with pytest.raises(jax.errors.JaxRuntimeError):
        step()
    with pytest.raises(gs.errors.UpdateError, match=re.escape("needs f32[4], got f32[5]")):
        gs.update(node, {"part": jnp.zeros(5)})
    gs.update(node, saved)
    assert (state.value == 0).all()


def test_a_call_that_fails_while_it_is_traced_takes_nothing():
    state = gs.State(jnp.zeros(4))

    @gs.jit(donate_states=True)
    def step(x):
        state.value = state.value + x

    with pytest.raises(TypeError, match="shapes"):
        step(jnp.ones(3))
    assert (state.value == 0).all()
    step(jnp.ones(4))
    assert (state.value == 1).all()


def test_a_state_whose_buffer_is_gone_is_named():
    state, increase = counter()
    gs.jit(lambda x: x + 1, donate_argnums=0)(state.value)
    with pytest.raises(DonatedError, match=r"needs `state` \(State, .*\), but its buffer was donated to another call"):
        increase()
    state.value = jnp.zeros(4)
    increase()
    assert (state.value == 1).all()


def test_an_array_may_not_be_donated_and_be_read_from_a_state():
    state = gs.State(jnp.arange(4.0))
    add = gs.jit(lambda x: x + state.value, donate_argnums=0)
    with pytest.raises(jax.errors.JaxRuntimeError, match="donate"):
        add(state.value)
    np.testing.assert_array_equal(state.value, np.arange(4.0))


def test_threads_that_share_a_state_get_an_error_at_worst():
    state, increase = counter(jnp.zeros(100))
    increase()
    errors = []

    def work():
        for _ in range(50):
            try:
                increase()
            except DonatedError as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    values = set(np.asarray(state.value).tolist())
    assert len(values) == 1
    assert 1 <= values.pop() <= 151
    assert all("was donated to another call" in str(error) or "has no value" in str(error) for error in errors)


# Parameters


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"donate_argnums": 3}, "`donate_argnums` has 3, but `.*<lambda>` takes 1 positional arguments"),
        ({"donate_argnames": "z"}, r"`donate_argnames` names \['z'\], but `.*<lambda>` has the parameters \['x'\]"),
        ({"donate_argnums": 0, "static_argnames": "x"}, r"is static or donated, but \['x'\] of .* is both"),
    ],
)
def test_parameters_that_do_not_fit_are_errors(options, text):
    with pytest.raises(StateTypeError, match=text):
        gs.jit(lambda x: x, **options)
