"""`Sequential` as a function and as a list of layers."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
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


@pytest.fixture
def named() -> nn.Sequential:
    rng = RandomState(0)
    return nn.Sequential(wide=nn.Linear(3, 4, rng=rng), relu=nn.relu, narrow=nn.Linear(4, 2, rng=rng))


def test_layers_with_names_are_called_in_their_order_and_found_by_name(
    named: nn.Sequential, model: nn.Sequential
) -> None:
    x = jnp.ones((1, 3))
    assert_array_equal(named(x), model(x))
    assert named["narrow"] is named[2]
    assert next(iter(states(named))) == ("layers", "narrow", "bias")
    assert [type(layer) for layer in named] == [type(layer) for layer in model]
    part = named[1:]
    assert list(part.layers) == ["relu", "narrow"]
    with pytest.raises(KeyError):
        named["broad"]
    with pytest.raises(KeyError):
        model["wide"]


def test_a_layer_is_put_in_the_place_of_another_by_number_or_name(named: nn.Sequential, model: nn.Sequential) -> None:
    model[1], named["relu"], named[-1] = nn.tanh, nn.tanh, nn.relu
    assert [model.layers[1], named[1], named["narrow"]] == [nn.tanh, nn.tanh, nn.relu]
    assert list(named.layers) == ["wide", "relu", "narrow"]
    for part, wrong, error in (
        (model, 3, IndexError),
        (named, 3, IndexError),
        (model, "relu", KeyError),
        (named, "x", KeyError),
    ):
        with pytest.raises(error):
            part[wrong] = nn.relu
    with pytest.raises(StateTypeError, match=r"layers that can be called, but layer 0 is '3'"):
        model[0] = 3
    with pytest.raises(TypeError):
        model[:1] = nn.relu


def test_a_layer_with_a_name_is_appended_with_one(named: nn.Sequential, model: nn.Sequential) -> None:
    named.append(jnp.sum, "total")
    assert named(jnp.ones((5, 3))).shape == ()
    match = r"Sequential needs a name for each layer, each once, or none at all, but got"
    with pytest.raises(StateTypeError, match=rf"{match} None for one beside \['wide', 'relu', 'narrow', 'total'\]"):
        named.append(jnp.sum)
    with pytest.raises(StateTypeError, match=rf"{match} 'wide' for one beside"):
        named.append(jnp.sum, "wide")
    with pytest.raises(StateTypeError, match=rf"{match} 'total' for one beside 3 without one"):
        model.append(jnp.sum, "total")


def test_names_for_some_layers_only_are_an_error() -> None:
    with pytest.raises(StateTypeError, match=r"names for all layers or for none, but got 1 without and 1 with one, 'a"):
        nn.Sequential(nn.relu, a=nn.relu)


def test_further_arguments_go_to_the_first_layer_and_named_ones_to_those_that_take_them() -> None:
    x = np.ones(3, np.float32)
    model = nn.Sequential(np.add, nn.Sequential(np.negative, nn.Dropout(1.0)), len)
    assert model(x, x) == 3
    assert_array_equal(model[:2](x, x), -2 * x)
    assert not model[:2](x, x, fit=True).any()
    assert_array_equal(nn.Sequential(np.cumsum)(x, dtype=int), [1, 2, 3])
    with pytest.raises(TypeError, match=r"Sequential got an argument 'fitting', which none of its layers takes\."):
        model(x, x, fitting=True)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda make: nn.Repeat(make, 2),
        lambda make: nn.Ensemble(make, 2),
        lambda make: nn.WeightNorm(make()),
    ],
)
def test_named_arguments_reach_no_layer_that_does_not_take_them_through_one_that_passes_them_on(
    wrap: Callable[..., Any],
) -> None:
    model = nn.Sequential(wrap(lambda: nn.Linear(2, 2)), nn.Dropout(1.0))
    assert not model(np.ones(2, np.float32), fit=True).any()


def test_named_arguments_reach_a_layer_through_one_that_passes_them_on() -> None:
    model = nn.Sequential(nn.Repeat(lambda: nn.Sequential(nn.relu, nn.Dropout(1.0)), 2))
    assert not model(np.ones(2, np.float32), fit=True).any()
