"""`Einsum` against `jnp.einsum`."""

import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

from graphstate import nn
from graphstate.random import RandomState

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")


def test_it_is_the_einsum_of_input_and_weight() -> None:
    layer = nn.Einsum("b d, d h -> b h", (3, 2), rng=RandomState(0))
    x = jnp.ones((4, 3))
    assert layer.bias is None
    assert_allclose(layer(x), x @ layer.weight.value, rtol=1e-5, atol=1e-6)


def test_the_variance_of_the_weight_is_one_over_what_is_summed() -> None:
    weight = nn.Einsum("...hk,hkd->...d", (10, 5, 400), rng=RandomState(0)).weight.value
    assert float(weight.var()) == pytest.approx(1 / 50, rel=0.05)


@pytest.mark.parametrize("equation", ["...d,dh", "d->d", "...d,dhk->...hk", "...d,d...->...", "ab,bc,cd->ad"])
def test_an_equation_that_does_not_fit_is_an_error(equation: str) -> None:
    with pytest.raises(nn.RangeError, match=r"Einsum needs an equation .*, with one letter for each axis of"):
        nn.Einsum(equation, (3, 2))


@pytest.mark.parametrize("shape", [(4,), (), (3, 4)])
def test_an_input_that_does_not_fit_is_an_error(shape: tuple[int, ...]) -> None:
    layer = nn.Einsum("...d,dh->...h", (3, 2))
    with pytest.raises(nn.ShapeError, match=r"Einsum takes an input that fits '\.\.\.d,dh->\.\.\.h' with a weight of"):
        layer(jnp.ones(shape))


def test_without_an_ellipsis_the_rank_is_fixed() -> None:
    with pytest.raises(nn.ShapeError, match=r"Einsum takes an input that fits 'bd,dh->bh' .* float32\[2,2,3\]"):
        nn.Einsum("bd,dh->bh", (3, 2))(jnp.ones((2, 2, 3)))


@pytest.mark.parametrize("bias_shape", [(3,), (1,), (1, 2)])
def test_a_bias_has_the_last_axes_of_the_result(bias_shape: tuple[int, ...]) -> None:
    with pytest.raises(nn.RangeError, match=r"Einsum adds a bias along the last axes of '\.\.\.hk', .* as `bias_sh"):
        nn.Einsum("...d,dhk->...hk", (4, 3, 2), bias_shape=bias_shape)
