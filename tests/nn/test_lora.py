"""`LoRA` against the formula of its paper."""

import jax
import jax.numpy as jnp
import pytest
from jax import Array
from numpy.testing import assert_allclose, assert_array_equal

import graphstate as gs
from graphstate import nn
from graphstate.errors import StateTypeError
from graphstate.graph import ParamState
from graphstate.random import RandomState

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

X = jax.random.normal(jax.random.key(0), (4, 3))


@pytest.fixture
def lora() -> nn.LoRA:
    layer = nn.LoRA(nn.Linear(3, 2, rng=RandomState(0)), 2, alpha=8, rng=RandomState(1))
    layer.up.value = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    return layer


def test_at_first_it_changes_nothing() -> None:
    linear = nn.Linear(3, 2)
    assert_array_equal(nn.LoRA(linear, 2)(X), linear(X))


def test_the_scaled_product_is_added(lora: nn.LoRA) -> None:
    expected = lora.linear(X) + 8 / 2 * (X @ lora.down.value @ lora.up.value)
    assert_allclose(lora(X), expected, rtol=1e-5, atol=1e-6)


def test_merged_it_is_a_linear_layer_that_does_the_same(lora: nn.LoRA) -> None:
    merged, before = lora.merged(), lora.linear.weight.value
    assert type(merged) is nn.Linear
    assert_allclose(merged(X), lora(X), rtol=1e-5, atol=1e-5)
    assert lora.linear.weight.value is before


def test_a_merged_layer_shares_no_state_and_keeps_what_is_said_of_them() -> None:
    linear = nn.Linear(3, 2)
    linear.weight = ParamState(linear.weight.value, tags=("frozen",), axes=("in", "out"))
    merged = nn.LoRA(linear, 2).merged()
    assert merged.bias is not linear.bias
    assert (merged.weight.tags, merged.weight.metadata) == ({"frozen"}, {"axes": ("in", "out")})


def test_it_takes_the_place_of_a_layer_and_is_trained_alone() -> None:
    model = nn.MultiHeadAttention(4, 2)
    for name in ("query", "value"):
        setattr(model, name, nn.LoRA(getattr(model, name), 1))

    def loss(model: nn.MultiHeadAttention) -> Array:
        return jnp.sum(model(jnp.ones((5, 4))) ** 2)

    grads = gs.grad(loss, wrt=nn.LoRAState)(model)
    assert [path for path, _ in grads] == ["query", "query", "value", "value"]
    assert len(gs.states(model, ParamState)) == 8 + 4
    assert (model.query.in_features, model.key.out_features) == (4, 4)


def test_only_linear_layers_are_tuned() -> None:
    with pytest.raises(StateTypeError, match=r"LoRA tunes a `Linear`, but got a Identity\. Give the layer itself\."):
        nn.LoRA(nn.Identity(), 2)
    with pytest.raises(nn.RangeError, match=r"LoRA needs a positive whole number as `rank`, but got 0"):
        nn.LoRA(nn.Linear(3, 2), 0)
