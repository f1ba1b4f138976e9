"""The check of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
import graphstate.testing as gst
from graphstate.errors import PropertyError

pytestmark = pytest.mark.no_leak_check(reason="runs many eager operations")

X = np.float32([[0, 1], [2, 4]])


def test_it_passes_members_that_draw_and_are_written() -> None:
    members = gs.vmap(lambda seed: gs.nn.Linear(2, 2, rng=gs.random.RandomState(seed)))(jnp.arange(2))
    rng = gs.random.RandomState(0)

    def layer(node, x, scale):
        node.bias.value += x
        return node(x) * scale + rng.normal(size=2), node

    gst.check_pmap(layer, gst.BatchCase(2, (members, X.T, np.float32(2)), in_axes=(0, 1, None)))


def test_it_passes_a_batched_function() -> None:
    gst.check_pmap(lambda x: jnp.cumsum(x, -1), gst.BatchCase(2, (X,)), batched=True)


def test_it_finds_a_rule_that_knows_how_many_lanes_a_device_has() -> None:
    @jax.custom_batching.custom_vmap
    def function(x):
        return x

    @function.def_vmap
    def rule(axis_size, in_batched, x):
        return x * axis_size, True

    with pytest.raises(PropertyError, match=r"output: index .*: pmap over 2 devices .*, vmap"):
        gst.check_pmap(lambda x: function(x), gst.BatchCase(2, (X,)))


def test_it_says_what_vmap_raises() -> None:
    total = gs.State(jnp.zeros(2))

    def add(x):
        total.value += x

    with pytest.raises(PropertyError, match=r"uncompiled works, but vmap raises BatchAxisError: `total`"):
        gst.check_pmap(add, gst.BatchCase(2, (X,)))
