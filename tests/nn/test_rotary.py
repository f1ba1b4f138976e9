"""`RotaryEmbedding`: products depend on distances."""

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

from graphstate import nn

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

X = jax.random.normal(jax.random.key(0), (3, 2, 4))


def test_the_product_of_two_depends_on_their_distance_only() -> None:
    rotary = nn.RotaryEmbedding(4)
    products = [
        jnp.einsum("tnh,snh->nts", rotary(X, jnp.arange(3) + offset), rotary(X, jnp.arange(3) + offset))
        for offset in (0, 17)
    ]
    assert_allclose(products[0], products[1], rtol=1e-4, atol=1e-5)


def test_positions_may_differ_between_sequences() -> None:
    rotary, positions = nn.RotaryEmbedding(4), jnp.array([[0, 1, 2], [5, 6, 7]])
    together = rotary(jnp.stack([X, X]), positions)
    assert_allclose(together[1], rotary(X, positions[1]), rtol=1e-5, atol=1e-6)


def test_an_odd_size_is_an_error() -> None:
    with pytest.raises(
        nn.RangeError, match=r"RotaryEmbedding rotates pairs, .* an even number of features, but got 3\."
    ):
        nn.RotaryEmbedding(3)


@pytest.mark.parametrize("base", [0, -1.0, float("nan"), float("inf")])
def test_the_base_of_a_power_is_positive(base: float) -> None:
    with pytest.raises(nn.RangeError, match=r"RotaryEmbedding needs a positive finite number as `base`, but got "):
        nn.RotaryEmbedding(4, base=base)


def test_inputs_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(
        nn.ShapeError, match=r"RotaryEmbedding takes queries or keys of shape \(\.\.\., time, heads, 4\)"
    ):
        nn.RotaryEmbedding(4)(X[0], jnp.arange(3))
    with pytest.raises(
        nn.ShapeError, match=r"takes a position for each of the 3 steps of float32\[3,2,4\], but got int32"
    ):
        nn.RotaryEmbedding(4)(X, jnp.arange(2))
    with pytest.raises(nn.DtypeError, match=r"RotaryEmbedding takes floats, but got int32"):
        nn.RotaryEmbedding(4)(X.astype(int), jnp.arange(3))
