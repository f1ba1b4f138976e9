"""`Sequential` as a function and as a list of layers."""

import jax.numpy as jnp
import pytest
from numpy.testing import assert_array_equal

from graphstate import nn
from graphstate.errors import StateTypeError
from graphstate.graph import states
from graphstate.random import RandomState


@pytest.fixture
def model() -> nn.Sequential:
    rng = RandomState(0)
    return nn.Sequential(nn.Linear(3, 4, rng=rng), nn.relu, nn.Linear(4, 2, rng=rng))


def test_each_layer_gets_what_the_one_before_returned(model: nn.Sequential) -> None:
    x = jnp.array([[1.0, -2.0, 3.0]])
    first, _, last = model.layers
    assert_array_equal(model(x), last(nn.relu(first(x))))


def test_the_path_of_a_layer_is_its_number(model: nn.Sequential) -> None:
    assert list(states(model)) == [("layers", i, name) for i in (0, 2) for name in ("bias", "weight")]


def test_without_layers_the_input_is_the_output() -> None:
    x = jnp.ones(3)
    assert nn.Sequential()(x) is x
    assert len(nn.Sequential()) == 0


def test_it_is_indexed_counted_and_iterated_as_its_layers_are(model: nn.Sequential) -> None:
    assert model[0] is model.layers[0]
    assert model[-1] is model.layers[2]
    assert len(model) == 3
    assert list(model) == model.layers
    with pytest.raises(IndexError):
        model[3]


def test_a_slice_is_a_sequential_of_the_same_layers(model: nn.Sequential) -> None:
    part = model[1:]
    assert isinstance(part, nn.Sequential)
    assert part[1] is model[2]


def test_append_puts_a_layer_at_the_end(model: nn.Sequential) -> None:
    model.append(jnp.sum)
    assert model(jnp.ones((5, 3))).shape == ()


def test_the_list_of_layers_may_be_changed(model: nn.Sequential) -> None:
    model.layers[1] = nn.tanh
    x = jnp.ones((1, 3))
    assert_array_equal(model(x), model[2](jnp.tanh(model[0](x))))


@pytest.mark.parametrize("wrong", [3, None, [nn.relu], "relu"])
def test_a_layer_that_cannot_be_called_is_an_error_with_its_number(wrong: object, model: nn.Sequential) -> None:
    match = rf"Sequential needs layers that can be called, but layer {{}} is .*, a {type(wrong).__name__}\."
    with pytest.raises(StateTypeError, match=match.format(1)):
        nn.Sequential(nn.relu, wrong)
    with pytest.raises(StateTypeError, match=match.format(3)):
        model.append(wrong)
    assert len(model) == 3
