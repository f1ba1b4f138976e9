"""The norms of single examples, beside their numbers in `test_references.py`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

from graphstate import nn
from graphstate.graph import states

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

MAKE: dict[str, Callable[..., nn.LayerNorm]] = {
    "LayerNorm": lambda **options: nn.LayerNorm(4, **options),
    "RMSNorm": lambda **options: nn.RMSNorm(4, **options),
    "GroupNorm": lambda **options: nn.GroupNorm(4, 2, spatial_dims=1, **options),
    "InstanceNorm": lambda **options: nn.InstanceNorm(4, spatial_dims=1, **options),
}


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_gain_and_shift_can_be_left_out(make: Callable[..., nn.LayerNorm]) -> None:
    bare = make(use_weight=False, **({} if make is MAKE["RMSNorm"] else {"use_bias": False}))
    assert not states(bare)
    x = jax.random.normal(jax.random.key(0), (3, 4))
    assert_allclose(bare(x), make()(x), rtol=1e-5, atol=1e-6)


def test_groups_of_one_channel_are_an_instance_norm_and_one_group_a_layer_norm() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 3, 4))
    expected = nn.InstanceNorm(4, spatial_dims=1)(x)
    assert_allclose(nn.GroupNorm(4, 4, spatial_dims=1)(x), expected, rtol=1e-5, atol=1e-6)
    assert_allclose(nn.GroupNorm(4, 1, spatial_dims=1)(x), nn.LayerNorm((3, 4))(x), rtol=1e-4, atol=1e-6)


def test_without_spatial_axes_each_vector_is_normalised_by_itself() -> None:
    x = jax.random.normal(jax.random.key(0), (3, 4))
    assert_allclose(nn.GroupNorm(4, 1, spatial_dims=0)(x), nn.LayerNorm(4)(x), rtol=1e-5, atol=1e-6)


def test_statistics_of_narrow_floats_are_computed_in_float32() -> None:
    x = jnp.full(2048, 100.0, jnp.float16).at[0].set(101)  # the sum would overflow
    y = nn.LayerNorm(2048, param_dtype=jnp.float16)(x)
    assert y.dtype == jnp.float16
    assert float(y[0]) == pytest.approx(45.25, rel=0.02)


def test_a_large_mean_costs_no_digits() -> None:
    x = jnp.array([1.0, 2.0, 3.0])
    assert_allclose(nn.LayerNorm(3)(x + 4096), nn.LayerNorm(3)(x), rtol=1e-4)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_whole_numbers_are_refused(make: Callable[..., nn.LayerNorm]) -> None:
    name = type(make()).__name__
    with pytest.raises(nn.DtypeError, match=rf"{name} takes floats, but got int32\[3,4\]\. Convert first"):
        make()(jnp.ones((3, 4), int))


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_another_number_of_features_is_an_error(make: Callable[..., nn.LayerNorm]) -> None:
    name = type(make()).__name__
    with pytest.raises(nn.ShapeError, match=rf"{name} takes activations of shape \(.*4\), but got float32\[3,5\]\. "):
        make()(jnp.ones((3, 5)))
    with pytest.raises(nn.ShapeError, match=rf"{name} takes activations of shape \(.*4\), but got float32\[\]\. "):
        make()(jnp.ones(()))


def test_too_few_axes_are_an_error() -> None:
    match = (
        r"GroupNorm takes activations of shape \(\.\.\., 2 spatial axes, 4\), but got float32\[3,4\]\. Channels come"
    )
    with pytest.raises(nn.ShapeError, match=match):
        nn.GroupNorm(4, 2, spatial_dims=2)(jnp.ones((3, 4)))


def test_groups_divide_the_features() -> None:
    match = r"GroupNorm splits features=6 into equal parts, but groups=4 does not divide it\. Choose a divisor of 6"
    with pytest.raises(nn.RangeError, match=match):
        nn.GroupNorm(6, 4, spatial_dims=0)


def test_an_instance_has_spatial_axes() -> None:
    with pytest.raises(nn.RangeError, match=r"InstanceNorm needs a positive whole number as `spatial_dims`, but got 0"):
        nn.InstanceNorm(3, spatial_dims=0)
    with pytest.raises(nn.RangeError, match=r"GroupNorm needs a whole number from 0 on as `spatial_dims`, but got -1"):
        nn.GroupNorm(3, 1, spatial_dims=-1)


@pytest.mark.parametrize("epsilon", [-1e-6, float("nan"), "1e-5", None, True])
def test_what_is_added_to_the_variance_is_not_negative(epsilon: object) -> None:
    with pytest.raises(nn.RangeError, match=r"RMSNorm needs a finite number from 0 on as `epsilon`, but got "):
        nn.RMSNorm(3, epsilon=epsilon)
    with pytest.raises(nn.RangeError, match=r"BatchNorm needs a finite number from 0 on as `epsilon`, but got "):
        nn.BatchNorm(3, epsilon=epsilon)
    with pytest.raises(nn.RangeError, match=r"SpectralNorm needs a finite number from 0 on as `epsilon`, but got "):
        nn.SpectralNorm(nn.Linear(3, 2), epsilon=epsilon)


def test_a_stack_of_norms_is_called_in_a_map() -> None:
    layer = nn.LayerNorm(4)
    layer.bias.value = jnp.zeros((2, 4))
    with pytest.raises(
        nn.ShapeError, match=r"LayerNorm needs a bias of shape \(4,\), but it is float32\[2,4\]\. Call a"
    ):
        layer(jnp.ones(4))
