"""The checks of steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import graphstate as gs
import graphstate.testing as gst
from graphstate.errors import PropertyError, StateTypeError

pytestmark = pytest.mark.no_leak_check(reason="runs many eager operations")

X = np.float32([[0, 1], [2, 4], [5, 7]])
CASE = gst.BatchCase(3, (X,))


def members():
    return gs.vmap(lambda seed: gs.nn.Linear(2, 1, rng=gs.random.RandomState(seed)))(jnp.arange(3))


@pytest.mark.parametrize("batched", [False, True])
def test_scan_passes_a_cell_that_carries_draws_and_counts(batched) -> None:
    hidden, rng = gs.HiddenState(jnp.zeros((3, 2) if batched else 2)), gs.random.RandomState(0)

    def cell(x):
        hidden.value = jnp.tanh(hidden.value + x + rng.normal())
        return hidden.value

    gst.check_scan(cell, CASE, batched=batched)
    np.testing.assert_array_equal(hidden.value, 0 * hidden.value)


def test_scan_passes_a_stack_of_layers_that_are_written() -> None:
    def layer(node, x, more):
        node.bias.value += x.sum()
        return node(x + more), node

    gst.check_scan(layer, gst.BatchCase(3, (members(), X.T, np.float32([1, 2])), in_axes=(0, -1, None)))


def test_scan_passes_a_stack_of_layers_without_states() -> None:
    layers = gs.stack([gs.nn.Identity(), gs.nn.Identity()])
    gst.check_scan(lambda node, x: node(x), gst.BatchCase(2, (layers, np.float32([1, 2]))))


def test_scan_passes_steps_that_are_given_nothing_of_their_own() -> None:
    count = gs.State(jnp.int32(0))

    def step():
        count.value += 1
        return count.value

    gst.check_scan(step, gst.BatchCase(3, ()))


def test_scan_finds_a_state_that_changes_its_type() -> None:
    state = gs.State(jnp.int32(0))

    def step(x):
        state.value = state.value + x.sum()

    with (
        jax.numpy_dtype_promotion("standard"),
        pytest.raises(PropertyError, match=r"the Python loop works, but the compiled loop raises CarryError"),
    ):
        gst.check_scan(step, CASE)


def test_scan_refuses_mapped_states() -> None:
    hidden = gs.HiddenState(jnp.zeros((3, 2)))
    with pytest.raises(StateTypeError, match=r"`check_scan` makes steps of the lanes, which share what the function"):
        gst.check_scan(lambda x: x + hidden.value, gst.BatchCase(3, (X,), state_in_axes=gs.HiddenState))


def make_step(clip):
    def step(layer, optimizer, x):
        gradient = gs.grad(lambda layer: (layer(x) ** 2).sum())(layer)
        optimizer.update(layer, clip(gradient))

    return step


def ensemble():
    layers = members()
    optimizers = gs.vmap(lambda layer: gs.optim.Optimizer(layer, optax.adam(0.1)))(layers)
    return gst.BatchCase(3, (layers, optimizers, np.float32([3, 4])), in_axes=(0, 0, None))


def test_ensemble_step_passes_members_with_optimizers_and_noise() -> None:
    rng = gs.random.RandomState(0)
    gst.check_ensemble_step(make_step(lambda gradient: gradient), ensemble())
    gst.check_ensemble_step(
        make_step(lambda gradient: jax.tree.map(lambda g: g + rng.normal(size=g.shape), gradient)), ensemble()
    )


def test_ensemble_step_finds_a_norm_over_all_members() -> None:
    def clipped(gradient):
        norm = optax.tree.norm(gradient)
        return jax.tree.map(lambda g: g / jnp.maximum(1, norm), gradient)

    def step(layers, optimizers, x):
        gradient = gs.vmap(gs.grad(lambda layer: (layer(x) ** 2).sum()))(layers)
        gs.vmap(lambda layer, optimizer, g: optimizer.update(layer, g))(layers, optimizers, clipped(gradient))

    with pytest.raises(
        PropertyError, match=r"argument args\[0\]/bias: member 1 of 3, index \(0,\): all members .*, each member"
    ):
        gst.check_ensemble_step(step, ensemble(), batched=True)


def test_ensemble_step_needs_members() -> None:
    with pytest.raises(StateTypeError, match=r"`check_ensemble_step` needs members among the arguments of its case"):
        gst.check_ensemble_step(lambda x: x, CASE)
