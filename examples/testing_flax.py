"""The checks of graphstate on a module of Flax: `pytest examples/testing_flax.py`, with the extra `bench`.

A check takes any function of the arguments of one lane. `nnx.split` and `nnx.merge` make one of a module: of its
parameters and inputs, with what it writes among the results.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import graphstate as gs
import graphstate.testing as gst


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        self.norm = nnx.LayerNorm(3, rngs=rngs)

    def __call__(self, x):
        return x + jnp.tanh(self.linear(self.norm(x)))


graphdef, parameters = nnx.split(Block(nnx.Rngs(0)))
EXAMPLES = gst.batched(gst.arrays(shape=3))


def apply(parameters, x):
    return nnx.merge(graphdef, parameters)(x)


def block(x):
    return apply(parameters, x)


@gst.given(case=EXAMPLES, structures=2, examples=6)
def test_a_module_maps_over_a_batch(case):
    gst.check_vmap(block, case)
    gst.check_lane_isolation(block, case)
    gst.check_grad(block, case)


def test_an_ensemble_maps_over_its_members():
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(nnx.state(Block(nnx.Rngs(seed))) for seed in (1, 2)))
    gst.check_vmap(apply, gst.BatchCase(2, (members, np.float32([1, 2, 3])), in_axes=(0, None)))


def test_statistics_of_the_batch_are_found():
    norm_def, state = nnx.split(nnx.BatchNorm(3, use_running_average=False, rngs=nnx.Rngs(0)))

    def normalise(x):
        return nnx.merge(norm_def, state)(x)

    batch = gst.BatchCase(2, (np.float32([[1, 2, 3], [3, 5, 9]]),))
    with pytest.raises(gs.errors.PropertyError, match="all lanes at once differ"):
        gst.check_vmap(normalise, batch, batched=True)
