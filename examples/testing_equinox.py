"""The checks of graphstate on a module of Equinox: `pytest examples/testing_equinox.py`, with the extra `bench`.

A check takes any function of the arguments of one lane. A module of Equinox is one; where its arrays shall be lanes,
too, as in an ensemble, `partition` and `combine` make a pure function of them.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
import graphstate.testing as gst


class Block(eqx.Module):
    linear: eqx.nn.Linear
    norm: eqx.nn.LayerNorm

    def __init__(self, key):
        self.linear = eqx.nn.Linear(3, 3, key=key)
        self.norm = eqx.nn.LayerNorm(3)

    def __call__(self, x):
        return x + jnp.tanh(self.linear(self.norm(x)))


block = Block(jax.random.key(0))
EXAMPLES = gst.batched(gst.arrays(shape=3))


@gst.given(case=EXAMPLES, structures=2, examples=6)
def test_a_module_maps_over_a_batch(case):
    gst.check_vmap(block, case)
    gst.check_lane_isolation(block, case)
    gst.check_grad(block, case)


def test_an_ensemble_maps_over_its_members():
    arrays, static = eqx.partition(eqx.filter_vmap(Block)(jax.random.split(jax.random.key(1), 2)), eqx.is_array)

    def member(arrays, x):
        return eqx.combine(arrays, static)(x)

    gst.check_vmap(member, gst.BatchCase(2, (arrays, np.float32([1, 2, 3])), in_axes=(0, None)))


def test_a_norm_of_the_whole_batch_is_found():
    unit = eqx.nn.Lambda(lambda x: x / jnp.linalg.norm(x))
    batch = gst.BatchCase(2, (np.float32([[1, 2, 3], [3, 5, 9]]),))
    gst.check_vmap(unit, batch)
    with pytest.raises(gs.errors.PropertyError, match="all lanes at once differ"):
        gst.check_vmap(unit, batch, batched=True)
