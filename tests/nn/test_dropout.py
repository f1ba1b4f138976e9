"""`Dropout`: what it drops, when it drops, what it draws from."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import graphstate as gs
from graphstate import environ, nn, random
from graphstate.graph import states
from graphstate.random import RandomState


def test_rate_is_the_probability_of_dropping_and_the_rest_is_scaled() -> None:
    y = nn.Dropout(0.3, fit=True, rng=RandomState(0))(jnp.ones(20_000))
    dropped = float((y == 0).mean())
    assert abs(dropped - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 20_000)
    assert_allclose(sorted(set(y.tolist())), [0, 1 / (1 - 0.3)], rtol=1e-6)


def test_the_mask_is_the_bernoulli_draw_of_its_rng() -> None:
    x = jax.random.normal(jax.random.key(1), (4, 5))
    kept = RandomState(0).bernoulli(1 - 0.4, size=(4, 5))
    y = nn.Dropout(0.4, fit=True, rng=RandomState(0))(x)
    assert_allclose(y, jnp.where(kept, x / (1 - 0.4), 0.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "layer", "setting", "active"),
    [
        (None, None, None, False),
        (None, None, False, False),
        (None, None, True, True),
        (None, False, True, False),
        (None, True, False, True),
        (False, True, True, False),
        (True, False, False, True),
    ],
)
def test_the_calls_fit_comes_before_the_layers_and_that_before_the_setting(
    call: bool | None, layer: bool | None, setting: bool | None, active: bool
) -> None:
    dropout = nn.Dropout(0.5, fit=layer, rng=RandomState(0))
    x = jnp.ones(100)
    with environ.context(**({} if setting is None else {"fit": setting})):
        y = dropout(x, fit=call)
    assert bool((y == 0).any()) is active


def test_inactive_it_returns_its_input_and_draws_nothing() -> None:
    rng = RandomState(0)
    key = rng.value
    x = jnp.ones(3)
    assert nn.Dropout(0.5, rng=rng)(x) is x
    assert nn.Dropout(0.0, fit=True, rng=rng)(x) is x
    assert rng.value is key


def test_rate_one_gives_zeros_even_for_infinities() -> None:
    assert_array_equal(nn.Dropout(1, fit=True)(jnp.array([1.0, jnp.inf, jnp.nan])), jnp.zeros(3))


def test_a_dropped_infinity_is_zero() -> None:
    y = nn.Dropout(0.5, fit=True, rng=RandomState(0))(jnp.full(50, jnp.inf))
    assert set(y.tolist()) == {0.0, math.inf}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.complex64])
def test_shape_and_dtype_stay(dtype: object) -> None:
    y = nn.Dropout(0.5, fit=True, rng=RandomState(0))(jnp.ones((2, 3), dtype))
    assert (y.shape, y.dtype) == ((2, 3), dtype)


def test_a_given_rng_is_a_state_of_the_layer_and_the_default_one_is_not() -> None:
    own = RandomState(0)
    assert states(nn.Dropout(0.5, rng=own))["rng"] is own
    assert len(states(nn.Dropout(0.5))) == 0


def test_without_an_rng_it_draws_from_the_default_one_when_called() -> None:
    dropout, x = nn.Dropout(0.5, fit=True), jnp.ones(100)
    with random.seed_context(3):
        first = dropout(x)
        second = dropout(x)
    with random.seed_context(3):
        assert_array_equal(dropout(x), first)
    assert (first != second).any()


def test_every_draw_differs_from_the_one_before() -> None:
    dropout, x = nn.Dropout(0.5, fit=True, rng=RandomState(0)), jnp.ones(100)
    assert (dropout(x) != dropout(x)).any()


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan, math.inf, "0.5", None, 1j])
def test_a_rate_outside_of_zero_and_one_is_an_error(rate: object) -> None:
    with pytest.raises(
        nn.RangeError,
        match=r"Dropout needs a `rate` from 0 to 1, the probability of dropping .*not of keeping.* but got ",
    ):
        nn.Dropout(rate)


@pytest.mark.parametrize("rate", [0, 1, np.float32(0.5), np.float64(0.25)])
def test_numbers_of_numpy_and_whole_ones_are_rates(rate: object) -> None:
    assert nn.Dropout(rate).rate == float(rate)


@pytest.mark.parametrize("fit", [True, False])
def test_whole_numbers_are_refused_whether_it_is_active_or_not(fit: bool) -> None:
    with pytest.raises(
        nn.DtypeError, match=r"Dropout scales what it keeps, so it takes floats, but got int32\[3\]\. Convert first"
    ):
        nn.Dropout(0.5)(jnp.ones(3, jnp.int32), fit=fit)


def test_a_compiled_call_follows_the_setting() -> None:
    dropout, x = nn.Dropout(0.5), jnp.ones(100)
    call = gs.jit(dropout)
    for fit in (False, True, False, True):
        with environ.context(fit=fit):
            assert bool((call(x) == 0).any()) is fit


def test_compiled_calls_drop_as_eager_ones_do() -> None:
    compiled, eager = (nn.Dropout(0.5, fit=True, rng=RandomState(0)) for _ in range(2))
    x, call = jnp.ones(100), gs.jit(compiled)
    for _ in range(3):
        assert_array_equal(call(x), eager(x))


def test_each_lane_drops_as_the_stream_of_its_lane_says() -> None:
    x = jnp.ones(20)
    layer = nn.Dropout(0.5, fit=True, rng=RandomState(7))
    y = gs.vmap(layer, in_axes=None, axis_size=3)(x)
    after, base = random.lane_keys(RandomState(7).value)
    for lane in range(3):
        alone = nn.Dropout(0.5, fit=True, rng=RandomState(random.lane_key(base, lane)))
        assert_array_equal(y[lane], alone(x))
    assert layer.rng.value == after


def test_along_broadcast_axes_all_is_dropped_or_kept_together() -> None:
    dropout = nn.Dropout(0.5, broadcast_dims=(-2, 0), fit=True, rng=RandomState(0))
    y = dropout(jnp.ones((2, 3, 5, 50)))
    assert bool((y == y[:1, :, :1]).all())
    assert bool((y[:, 0] != y[:, 1]).any())
    kept = RandomState(0).bernoulli(0.5, size=(1, 3, 1, 50))
    assert_array_equal(y[:1, :, :1], jnp.where(kept, 2.0, 0.0))


def test_an_axis_that_is_not_there_is_an_error() -> None:
    match = r"Dropout takes activations with an axis -2, along which all is dropped together, but got float32\[3\]\. Co"
    with pytest.raises(nn.ShapeError, match=match):
        nn.Dropout(0.5, broadcast_dims=-2, fit=True)(jnp.ones(3))
    with pytest.raises(nn.RangeError, match=r"Dropout needs whole numbers as `broadcast_dims`, axes, but got 'x'"):
        nn.Dropout(0.5, broadcast_dims=["x"])


def test_alpha_dropout_saturates_and_keeps_mean_and_variance() -> None:
    x = RandomState(1).normal(size=20_000)
    y = nn.AlphaDropout(0.4, fit=True, rng=RandomState(0))(x)
    assert abs(float(y.mean())) < 0.05
    assert abs(float(y.std()) - 1) < 0.05
    kept = RandomState(0).bernoulli(0.6, size=20_000)
    saturated = nn.selu(jnp.array(-100.0))
    scale = (0.6 + saturated**2 * 0.6 * 0.4) ** -0.5
    assert_allclose(y, scale * (jnp.where(kept, x, saturated) - 0.4 * saturated), rtol=1e-4, atol=1e-5)
    with pytest.raises(nn.RangeError, match=r"AlphaDropout needs a `rate` from 0 to 1"):
        nn.AlphaDropout(2)
