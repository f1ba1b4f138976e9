"""`PReLU` against `jax.nn.leaky_relu`."""

import jax.numpy as jnp
import pytest
from numpy.testing import assert_array_equal

from graphstate import nn

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")


def test_with_one_slope_it_is_a_leaky_relu() -> None:
    x = jnp.array([[-2.0, 0.0, 3.0]])
    assert_array_equal(nn.PReLU()(x), nn.leaky_relu(x, 0.25))


def test_each_feature_may_have_its_slope() -> None:
    layer = nn.PReLU(2)
    layer.weight.value = jnp.array([0.5, -1.0])
    assert_array_equal(layer(jnp.array([[-2.0, -2.0], [1.0, 1.0]])), jnp.array([[-1.0, 2.0], [1.0, 1.0]]))


def test_another_number_of_features_is_an_error() -> None:
    with pytest.raises(
        nn.ShapeError, match=r"PReLU takes activations of shape \(\.\.\., 2\), but got float32\[3\]\. Ea"
    ):
        nn.PReLU(2)(jnp.ones(3))
    with pytest.raises(nn.RangeError, match=r"PReLU needs a positive whole number as `features`, but got 0"):
        nn.PReLU(0)
