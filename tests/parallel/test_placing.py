"""Arrays and States put on a mesh: where they lie, that they are what they were, and what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import graphstate as gs
from graphstate.errors import ShardingError
from graphstate.parallel import make_mesh, place, replicate, shard

LINE, GRID = make_mesh(), make_mesh((2, 4), ("data", "model"))


class Block(gs.Node):
    def __init__(self):
        self.up = gs.ParamState(jnp.arange(32.0).reshape(4, 8), axes=("embed", "mlp"))
        self.down = gs.ParamState(jnp.arange(32.0).reshape(8, 4), axes=("mlp", "embed"))
        self.tied = self.up
        self.free = gs.ParamState(jnp.ones(3))
        self.rng = gs.random.RandomState(0)


def specs(node):
    return {path[-1]: state.value.sharding.spec for path, state in gs.states(node).items()}


def test_arrays_are_divided_along_an_axis():
    tree = {"x": jnp.arange(16.0).reshape(8, 2), "y": np.arange(8)}
    spread = shard(tree, LINE)
    assert [leaf.sharding.spec for leaf in jax.tree.leaves(spread)] == [P("batch", None), P("batch")]
    for ours, given in zip(jax.tree.leaves(spread), jax.tree.leaves(tree), strict=True):
        np.testing.assert_array_equal(ours, given)
    assert shard(jnp.ones((3, 8)), GRID, axis=-1).sharding.spec == P(None, ("data", "model"))
    assert shard(jnp.ones((4, 8)), GRID, "data").sharding.spec == P("data", None)


def test_states_are_moved_in_place_and_arrays_beside_them_come_back():
    members = gs.vmap(lambda seed: gs.nn.Linear(2, 3, rng=gs.random.RandomState(seed)))(jnp.arange(8))
    weight = np.asarray(members.weight.value)
    same, x = shard((members, jnp.ones(8)), LINE)
    assert same is members
    assert members.weight.value.sharding.spec == P("batch", None, None)
    assert x.sharding.spec == P("batch")
    np.testing.assert_array_equal(members.weight.value, weight)


def test_copies_lie_on_all_devices():
    block = Block()
    key = jax.random.key_data(block.rng.value)
    assert replicate(block, GRID) is block
    for state in gs.states(block).values():
        assert state.value.sharding.is_fully_replicated
        assert len(state.value.sharding.device_set) == 8
    np.testing.assert_array_equal(jax.random.key_data(block.rng.value), key)


def test_rules_say_for_names_of_axes_what_divides_them():
    block = place(Block(), GRID, {"mlp": "model", "embed": "data"})
    assert specs(block) == {"tied": P("data", "model"), "down": P("model", "data"), "free": P(), "rng": P()}
    assert block.tied is block.up
    block = place(Block(), GRID, {"mlp": ("data", "model"), "other": "data"})
    assert specs(block)["tied"] == P(None, ("data", "model"))
    x = jnp.ones((2, 4))
    np.testing.assert_array_equal(
        gs.jit(lambda block, x: x @ block.up.value @ block.down.value)(block, x),
        x @ Block().up.value @ Block().down.value,
    )


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda block: shard(block, LINE), r"Axis 0 of the State `free` .* \(3,\), and 3 is no multiple of 8"),
        (
            lambda block: shard({"x": jnp.ones(6)}, LINE),
            r"Axis 0 of the array \['x'\] .* 8 devices .* no multiple of 8",
        ),
        (lambda block: shard(jnp.ones(()), LINE), r"divides axis 0 .* the shape of the array given is \(\)"),
        (lambda block: shard(jnp.ones(8), LINE, "model"), "along 'model', but the axes of the mesh are 'batch'"),
        (
            lambda block: place(block, GRID, {"embed": "model", "mlp": "model"}),
            "two axes of the State `.*` are to lie along 'model'",
        ),
        (
            lambda block: place(block, GRID, {"nothing": ("data", "expert")}),
            "The rule for 'nothing' names 'expert', but the axes of the mesh are 'data', 'model'. Name one of these, a",
        ),
        (lambda block: place(block, LINE, {"embed": "batch"}), r"Axis 1 of the State `down` .* 4 is no multiple of 8"),
        (
            lambda block: place([block, gs.State(jnp.ones((2, 2)), axes=("embed",))], GRID, {"embed": "data"}),
            r"for the State `1` they are \('embed',\), and its shape is \(2, 2\)",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_moved(call, text):
    block = Block()
    before = {path: state.value for path, state in gs.states(block).items()}
    with pytest.raises(ShardingError, match=text):
        call(block)
    assert all(state.value is before[path] for path, state in gs.states(block).items())
