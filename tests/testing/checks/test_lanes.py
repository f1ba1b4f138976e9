"""The check that nothing of one lane reaches another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
import graphstate.testing as gst
from graphstate.errors import PropertyError

pytestmark = pytest.mark.no_leak_check(reason="runs many eager operations")

CASE = gst.BatchCase(3, (np.float32([[0, 1], [2, 4], [5, 7]]),))


@jax.custom_vjp
def ruled(x):
    return 2 * x


ruled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.sqrt(x - x[:, :1]),  # its slope at 0 is infinite
        lambda x: jax.vmap(lambda row: jax.lax.while_loop(lambda y: y.sum() < 50, lambda y: 2 * y + 1, row))(x),
        ruled,
        lambda x: x + 0 * x.sum(0, keepdims=True),  # as XLA computes some products: only NaN comes through
        lambda x: (x.sum(-1) > 3, jnp.float32(1)),
    ],
)
def test_it_passes_functions_whose_lanes_are_apart(function) -> None:
    axes = (0, None) if isinstance(function(jnp.ones((1, 2))), tuple) else 0
    gst.check_lane_isolation(function, gst.BatchCase(3, CASE.args, out_axes=axes), batched=True)


@pytest.mark.parametrize("sign", [-1, 1])
def test_it_finds_what_shows_with_large_values_of_one_sign_only(sign) -> None:
    with pytest.raises(PropertyError, match="with NaN in all other lanes"):
        gst.check_lane_isolation(
            lambda x: x + sign * jax.nn.relu(sign * x.sum(0, keepdims=True) - 1e9), CASE, batched=True
        )


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: x + 1e-30 * x.mean(0, keepdims=True), "output: lane 0, index .*with NaN in all other lanes nan"),
        (lambda x: jnp.where(jnp.isnan(x).any(), x, jnp.flip(x, 0)), "tangent|lane 0"),
        (lambda x: x + jnp.nan_to_num(x).max() * 0 + jnp.nansum(x) * 1e-3, "lane 0"),
    ],
)
def test_it_finds_what_leaks(function, text) -> None:
    with pytest.raises(PropertyError, match=text):
        gst.check_lane_isolation(function, CASE, batched=True)


def test_it_finds_by_tangents_what_masks_nan() -> None:
    def masked(x):
        return x + 0.1 * jnp.where(jnp.isnan(x).any(), 0, x.sum() - 19)

    with pytest.raises(
        PropertyError, match=r"the tangent of output .*: lane 1, index .*with a tangent in another lane 0.2"
    ):
        gst.check_lane_isolation(masked, CASE, batched=True)


def test_it_finds_what_reaches_a_state_that_all_lanes_share() -> None:
    mean = gs.BatchState(jnp.zeros(2))

    def layer(x):
        mean.value = x.mean(0)
        return x

    with pytest.raises(PropertyError, match=r"state mean: what all lanes share, index"):
        gst.check_lane_isolation(layer, CASE, batched=True)
    np.testing.assert_array_equal(mean.value, np.zeros(2))


def test_it_finds_what_leaks_through_integers() -> None:
    case = gst.BatchCase(2, (np.int32([3, 5]),))
    gst.check_lane_isolation(lambda x: x * 2, case, batched=True)
    with pytest.raises(PropertyError, match=r"output: lane 0, with NaN in all other lanes 6, without 8"):
        gst.check_lane_isolation(lambda x: x + jnp.broadcast_to(x.max(), x.shape), case, batched=True)


def test_a_mapped_state_is_poisoned_too() -> None:
    hidden = gs.HiddenState(jnp.ones((3, 2)))
    case = gst.BatchCase(3, CASE.args, state_in_axes=gs.HiddenState)
    gst.check_lane_isolation(lambda x: x + hidden.value, case)
    with pytest.raises(PropertyError, match=r"output: lane 0, index"):
        gst.check_lane_isolation(lambda x: x + jnp.flip(hidden.value, 0), case, batched=True)
