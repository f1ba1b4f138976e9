"""`Bilinear` against its formula."""

import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

from graphstate import nn
from graphstate.random import RandomState

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")


def test_each_output_is_a_form_of_both_inputs() -> None:
    layer = nn.Bilinear(2, 3, 1, use_bias=False, rng=RandomState(0))
    x, y = jnp.array([1.0, 2.0]), jnp.array([0.5, 0.0, -1.0])
    assert_allclose(layer(x, y), [x @ layer.weight.value[:, :, 0] @ y], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("first", "second"), [((2, 3), (2, 3)), ((4, 2), (5, 3)), ((2,), (4, 3))])
def test_inputs_of_other_shapes_are_an_error(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    match = r"Bilinear takes activations of shapes \(\.\.\., 2\) and \(\.\.\., 3\) with the same leading axes, but got"
    with pytest.raises(nn.ShapeError, match=match):
        nn.Bilinear(2, 3, 1)(jnp.ones(first), jnp.ones(second))


def test_sizes_are_positive() -> None:
    with pytest.raises(nn.RangeError, match=r"Bilinear needs a positive whole number as `second_features`, but got 0"):
        nn.Bilinear(2, 0, 1)
