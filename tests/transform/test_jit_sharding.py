"""`jit` with shardings of arguments and results, on eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import graphstate as gs
from graphstate.errors import AliasError, FilterError, ShardingError

MESH = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
SPLIT = NamedSharding(MESH, PartitionSpec("d"))
WHOLE = NamedSharding(MESH, PartitionSpec())


class Pair(gs.Node):
    def __init__(self):
        self.weight = gs.ParamState(jnp.arange(8.0))
        self.mean = gs.BatchState(jnp.zeros(8))
        self.parts = gs.State({"a": jnp.ones(8), "b": jnp.zeros(16)})


def is_sharded(array, sharding):
    return array.sharding.is_equivalent_to(sharding, array.ndim)


def test_arrays_are_sharded_as_under_jax():
    def function(x, y, z):
        return x + 1, y["a"] + 1, y["b"] + 1, z

    arguments = jnp.arange(8.0), {"a": jnp.arange(8.0), "b": jnp.arange(16.0)}, jnp.ones(3)
    options = {"in_shardings": (SPLIT, {"a": SPLIT, "b": WHOLE}, None), "out_shardings": (SPLIT, None, SPLIT, None)}
    expected = jax.jit(function, **options)(*arguments)
    for mine, theirs in zip(gs.jit(function, **options)(*arguments), expected, strict=True):
        assert is_sharded(mine, theirs.sharding)
        np.testing.assert_array_equal(mine, theirs)


def test_one_sharding_holds_for_all_states_of_a_node():
    @gs.jit(in_shardings=(SPLIT, None))
    def step(pair, x):
        for state in gs.states(pair, (gs.ParamState, gs.BatchState)).values():
            state.value = state.value + x
        pair.parts.value = jax.tree.map(lambda part: part + x, pair.parts.value)

    pair = Pair()
    for _ in range(2):
        step(pair, 1.0)
    assert all(is_sharded(leaf, SPLIT) for leaf in jax.tree.leaves(gs.state(pair)))
    np.testing.assert_array_equal(pair.weight.value, np.arange(8.0) + 2)


def test_filters_choose_for_each_state():
    @gs.jit(in_shardings=({gs.ParamState: SPLIT, gs.BatchState: WHOLE},))
    def step(pair):
        pair.weight.value = pair.weight.value + 1
        pair.mean.value = pair.mean.value + 1
        pair.parts.value = {"a": pair.parts.value["a"] + 1, "b": pair.parts.value["b"]}

    pair = Pair()
    step(pair)
    assert is_sharded(pair.weight.value, SPLIT)
    assert is_sharded(pair.mean.value, WHOLE)


def test_two_nodes_have_shardings_of_their_own():
    @gs.jit(in_shardings=[SPLIT, {gs.ParamState: WHOLE, ...: None}])
    def step(first, second):
        for pair in (first, second):
            pair.weight.value = pair.weight.value + 1

    first, second = Pair(), Pair()
    step(first, second)
    assert is_sharded(first.weight.value, SPLIT)
    assert is_sharded(second.weight.value, WHOLE)


def test_a_written_state_without_a_sharding_gets_what_xla_gives():
    count = gs.State(jax.device_put(jnp.arange(8.0), SPLIT))

    @gs.jit
    def step():
        count.value = 2 * count.value

    step()
    assert is_sharded(count.value, SPLIT)


def test_out_shardings_hold_for_nodes_too():
    other = Pair()

    @gs.jit(out_shardings={"old": {gs.ParamState: SPLIT}, "new": SPLIT, "closed": WHOLE, "x": SPLIT})
    def step(pair, x):
        pair.weight.value = pair.weight.value + x
        pair.mean.value = pair.mean.value + x
        other.weight.value = other.weight.value + x
        return {"old": pair, "new": Pair(), "closed": other, "x": jnp.zeros(8) + x}

    pair = Pair()
    result = step(pair, 1.0)
    assert result["old"] is pair
    assert result["closed"] is other
    assert is_sharded(pair.weight.value, SPLIT)
    assert all(is_sharded(leaf, SPLIT) for leaf in jax.tree.leaves(gs.state(result["new"])))
    assert is_sharded(other.weight.value, WHOLE)
    assert len(other.weight.value.sharding.device_set) == 8
    assert is_sharded(result["x"], SPLIT)


def test_a_restructured_argument_may_be_given_shardings_too():
    @gs.jit(out_shardings=SPLIT)
    def grow(pair):
        pair.extra = gs.State(jnp.ones(8))
        pair.weight.value = pair.weight.value + 1
        return pair.child if hasattr(pair, "child") else pair

    pair = Pair()
    assert grow(pair) is pair
    assert is_sharded(pair.extra.value, SPLIT)


def test_shardings_and_donation_combine():
    @gs.jit(in_shardings=(SPLIT, WHOLE), donate_states=True)
    def step(pair, x):
        pair.weight.value = pair.weight.value + x.sum()

    pair = Pair()
    step(pair, jnp.ones(3))
    step(pair, jnp.ones(3))
    before = [shard.data.unsafe_buffer_pointer() for shard in pair.weight.value.addressable_shards]
    step(pair, jnp.ones(3))
    assert [shard.data.unsafe_buffer_pointer() for shard in pair.weight.value.addressable_shards] == before
    np.testing.assert_array_equal(pair.weight.value, np.arange(8.0) + 9)


def test_shardings_of_arguments_and_donated_states_of_the_closure_combine():
    pair = Pair()

    @gs.jit(in_shardings=SPLIT, donate_states=True)
    def step(x):
        pair.weight.value = pair.weight.value + x
        return pair.mean.value + x

    for count in (1, 2):
        assert is_sharded(step(jnp.ones(8)), SPLIT)
        np.testing.assert_array_equal(pair.weight.value, np.arange(8.0) + count)


def test_programs_that_write_other_states_have_shardings_of_their_own():
    @gs.jit(in_shardings=(SPLIT, None))
    def step(pair, x):
        chosen = pair.weight if x.shape[0] > 1 else pair.mean
        chosen.value = chosen.value + x.sum()

    pair = Pair()
    for size in (1, 2, 1, 2):
        step(pair, jnp.ones(size))
    assert is_sharded(pair.weight.value, SPLIT)
    np.testing.assert_array_equal(pair.weight.value, np.arange(8.0) + 4)
    np.testing.assert_array_equal(pair.mean.value, np.full(8, 2.0))


def test_static_and_keyword_arguments_are_not_counted():
    @gs.jit(in_shardings=(SPLIT,), static_argnums=0)
    def scale(factor, x, *, y):
        return factor * x + y

    assert is_sharded(scale(2, jnp.arange(8.0), y=jnp.ones(8)), SPLIT)


def test_inside_of_another_jit_shardings_hold():
    inner = gs.jit(lambda x: x + 1, out_shardings=SPLIT)
    assert is_sharded(gs.jit(lambda x: inner(x))(jax.device_put(jnp.arange(8.0), WHOLE)), SPLIT)


def test_a_wrong_number_of_shardings_is_an_error():
    with pytest.raises(
        ShardingError,
        match=r"`in_shardings` must be a prefix tree of the positional arguments of `.*<lambda>`.*tuple of 1",
    ):
        gs.jit(lambda x: x, in_shardings=(SPLIT, SPLIT))(jnp.arange(8.0))


def test_out_shardings_must_fit_the_result():
    with pytest.raises(ShardingError, match=r"`out_shardings` must be a prefix tree of the result.*A Node is one leaf"):
        gs.jit(lambda x: (x,), out_shardings=(SPLIT, SPLIT))(jnp.arange(8.0))


def test_a_filter_does_not_choose_for_an_array():
    with pytest.raises(ShardingError, match=r"`x` is an array, and for it stands .* choice by filter is for Nodes"):
        gs.jit(lambda x: x, in_shardings=({gs.ParamState: SPLIT},))(jnp.arange(8.0))


def test_a_filter_must_be_one():
    with pytest.raises(FilterError, match="last"):
        gs.jit(lambda pair: None, in_shardings=({...: SPLIT, gs.ParamState: WHOLE},))(Pair())


def test_one_state_has_one_sharding():
    pair = Pair()
    with pytest.raises(AliasError, match=r"`pair.weight` and `weight` are the same State, and `in_shardings` gives"):
        gs.jit(lambda pair, weight: None, in_shardings=(SPLIT, WHOLE))(pair, pair.weight)


def test_a_state_that_lies_elsewhere_is_named():
    pair = Pair()
    pair.weight.value = jax.device_put(pair.weight.value, WHOLE)
    step = gs.jit(lambda pair: pair.weight.value + 1, in_shardings=(SPLIT,))
    with pytest.raises(ShardingError, match=r"says that `pair.weight` is sharded as .* but it was put somewhere else"):
        step(pair)
