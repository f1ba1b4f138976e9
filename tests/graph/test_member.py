"""A member of a stack that is spread over devices lies on those that hold it, and is what it is in a stack on one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.parallel import make_mesh, replicate, shard

P = jax.sharding.PartitionSpec
DEVICES = jax.devices()
GRID = make_mesh((2, 4), ("data", "model"))


class Member(gs.Node):
    def __init__(self, number):
        self.rng = gs.random.RandomState(number)
        self.weight = gs.ParamState((number + jnp.arange(8)).astype(float).reshape(2, 4))
        self.pair = gs.State({"a": number * jnp.arange(3), "b": number})

    def __call__(self, x):
        return x @ self.weight.value + self.rng.normal(size=4)


def stacked(count=16):
    return gs.vmap(Member)(jnp.arange(count))


def leaves(node):
    return [leaf for state in gs.states(node).values() for leaf in jax.tree.leaves(state.value)]


def plain(leaf):
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def assert_equal(node, other):
    for ours, theirs in zip(leaves(node), leaves(other), strict=True):
        assert str(jax.typeof(ours)) == str(jax.typeof(theirs))
        np.testing.assert_array_equal(plain(ours), plain(theirs))


def devices_of(node):
    return {frozenset(leaf.sharding.device_set) for leaf in leaves(node)}


@pytest.mark.no_leak_check("runs many eager operations")
def test_a_member_of_what_pmap_has_made_stays_on_its_device_and_nothing_else_is_moved():
    spread, whole = gs.pmap(Member)(jnp.arange(16)), stacked()
    for index in (0, 3, 15, -1, -16):
        with jax.transfer_guard("disallow"):
            member = gs.take(spread, index)
        assert devices_of(member) == {frozenset({DEVICES[index % 16 // 2]})}
        assert_equal(member, gs.take(whole, index))
    np.testing.assert_allclose(member(jnp.ones(2)), gs.take(whole, index)(jnp.ones(2)), rtol=1e-6)
    assert member.weight.value.sharding.device_set == {DEVICES[0]}


@pytest.mark.no_leak_check("runs many eager operations")
@pytest.mark.parametrize("axes", ["data", "model", ("data", "model"), ("model", "data")])
def test_on_a_grid_it_lies_on_a_row_or_column_or_on_one_device(axes):
    spread, whole = shard(stacked(), GRID, axes), stacked()
    for index in (0, 6, 13):
        member = gs.take(spread, index)
        ((home,),) = [devices_of(member)]
        assert len(home) == {"data": 4, "model": 2}.get(axes, 1)
        assert home == {shard.device for shard in _shards_with(spread.weight.value, index)}
        assert_equal(member, gs.take(whole, index))


def _shards_with(array, index):
    return [each for each in array.addressable_shards if index in range(array.shape[0])[each.index[0]]]


def test_what_is_divided_by_other_axes_too_stays_divided():
    spread, whole = shard(stacked(8), GRID, "data"), stacked(8)
    spread.weight.value = jax.device_put(spread.weight.value, jax.NamedSharding(GRID, P("data", None, "model")))
    spread.pair.value = replicate(spread.pair.value, GRID)
    member = gs.take(spread, 5)
    assert member.weight.value.sharding.spec == P(None, "model")
    assert devices_of(member) == {frozenset(GRID.devices[1])}
    assert_equal(member, gs.take(whole, 5))


def test_the_lane_axis_may_be_any():
    axes = gs.StateAxes({gs.ParamState: -1, ...: 0})
    whole = gs.stack([Member(jnp.int32(number)) for number in range(8)], axes)
    spread = gs.clone(whole)
    shard([spread.rng, spread.pair], GRID)
    spread.weight.value = shard(spread.weight.value, GRID, axis=-1)
    member = gs.take(spread, 6, axes)
    assert devices_of(member) == {frozenset({DEVICES[6]})}
    assert_equal(member, gs.take(whole, 6, axes))


def test_arrays_and_traced_indices_give_what_they_give_on_one_device():
    spread, whole = gs.pmap(Member)(jnp.arange(8)), stacked(8)
    assert_equal(gs.take(spread, [5, -1]), gs.take(whole, [5, -1]))
    traced = gs.jit(lambda node, index: gs.take(node, index))(spread, -3)
    assert_equal(traced, gs.take(whole, 5))
    assert_equal(gs.jit(lambda node: gs.take(node, 2))(spread), gs.take(whole, 2))


def test_a_member_lies_where_all_its_parts_can():
    def parts(node):
        return {len(devices) for devices in devices_of(node)}

    copied, half = replicate(stacked(6), GRID), shard(stacked(8), GRID, "data")
    half.weight.value = shard(half.weight.value, GRID, "model")
    mixed = shard(stacked(8), GRID, "data")
    mixed.pair.value = jax.device_put(mixed.pair.value, DEVICES[7])
    for node, count in ((copied, 6), (half, 8), (mixed, 8)):
        assert_equal(gs.take(node, 4), gs.take(stacked(count), 4))
    assert parts(gs.take(copied, 4)) == parts(gs.take(half, 4)) == {8}


def test_a_member_that_shares_a_state_lies_where_that_does():
    axes = gs.StateAxes({gs.ParamState: None, ...: 0})
    spread = stacked(8)
    spread.weight = replicate(gs.ParamState(jnp.ones((2, 4))), GRID)
    shard([spread.rng, spread.pair], GRID)
    member = gs.take(spread, 3, axes)
    assert member.weight is spread.weight
    assert devices_of(member) == {frozenset(DEVICES)}


def test_what_was_put_nowhere_goes_with_it():
    spread = shard(stacked(8), GRID)
    spread.table = np.arange(8.0)
    spread.pair.value = {"a": jnp.ones((8, 3)), "b": jnp.arange(8)}
    member = gs.take(spread, 3)
    assert type(member.table) is np.ndarray
    assert (member.table, member.pair.value["b"]) == (3, 3)
    assert member.weight.value.sharding.device_set == {DEVICES[3]}


def test_members_that_lie_apart_are_stacked_where_the_first_lies():
    spread, whole = gs.pmap(Member)(jnp.arange(8)), stacked(8)
    again = gs.stack([gs.take(spread, 5), gs.take(spread, 2)])
    assert devices_of(again) == {frozenset({DEVICES[5]})}
    assert_equal(again, gs.take(whole, [5, 2]))
