"""`Embedding` against indexing and a product."""

import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from graphstate import nn
from graphstate.random import RandomState

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")


@pytest.fixture
def layer() -> nn.Embedding:
    return nn.Embedding(5, 3, rng=RandomState(0))


def test_numbers_of_any_shape_are_looked_up(layer: nn.Embedding) -> None:
    ids = jnp.array([[0, 4], [1, 1]])
    assert_array_equal(layer(ids), layer.weight.value[ids])
    assert_array_equal(layer(3), layer.weight.value[3])


@pytest.mark.parametrize("outside", [5, -1, -6])
def test_a_number_that_is_none_of_those_with_a_vector_gives_nan(layer: nn.Embedding, outside: int) -> None:
    assert jnp.isnan(layer(jnp.array([outside]))).all()
    assert jnp.isnan(layer(jnp.array([outside], jnp.int8))).all()


def test_small_integers_look_up_in_a_large_table() -> None:
    layer = nn.Embedding(300, 1, rng=RandomState(0))
    assert_array_equal(layer(jnp.array([255], jnp.uint8)), layer.weight.value[255:256])
    assert_array_equal(layer(jnp.array([127], jnp.int8)), layer.weight.value[127:128])


def test_attend_is_the_product_with_every_vector(layer: nn.Embedding) -> None:
    x = jnp.ones((2, 3))
    assert_allclose(layer.attend(x), x @ layer.weight.value.T, rtol=1e-5, atol=1e-6)


def test_vectors_have_length_one_on_average() -> None:
    weight = nn.Embedding(300, 50, rng=RandomState(0)).weight.value
    assert float(jnp.mean(jnp.sum(weight**2, -1))) == pytest.approx(1, abs=0.05)


def test_the_dtype_of_the_result_can_be_given() -> None:
    layer = nn.Embedding(5, 3, dtype=jnp.bfloat16)
    assert (layer.weight.value.dtype, layer(jnp.array([1])).dtype) == (jnp.float32, jnp.bfloat16)


def test_floats_are_no_numbers_to_look_up(layer: nn.Embedding) -> None:
    with pytest.raises(nn.DtypeError, match=r"Embedding looks up whole numbers, but got float32\[2\]\. Convert first"):
        layer(jnp.ones(2))


def test_attend_takes_vectors_of_its_size(layer: nn.Embedding) -> None:
    match = r"Embedding takes activations of shape \(\.\.\., 3\) in `attend`, but got float32\[4\]\. They"
    with pytest.raises(nn.ShapeError, match=match):
        layer.attend(jnp.ones(4))


def test_a_stack_of_embeddings_is_called_in_a_map(layer: nn.Embedding) -> None:
    layer.weight.value = jnp.stack([layer.weight.value] * 2)
    with pytest.raises(nn.ShapeError, match=r"Embedding needs a weight of shape \(5, 3\), but it is float32\[2,5,3\]"):
        layer(jnp.array([1]))
