"""How layers name themselves in errors."""

import jax.numpy as jnp
import pytest

import graphstate as gs
from graphstate import nn


class Model(gs.Node):
    def __init__(self) -> None:
        self.layers = [nn.Linear(3, 3), nn.LayerNorm(4)]

    def __call__(self, x: object) -> object:
        return self.layers[1](x)


def test_in_a_transform_the_path_of_the_layer_is_told() -> None:
    model = Model()
    with pytest.raises(nn.ShapeError, match=r"LayerNorm \(model\.layers/1\) takes"):
        gs.jit(lambda model, x: model(x))(model, jnp.ones(3))
    with pytest.raises(nn.ShapeError, match=r"LayerNorm \(Model\.layers/1\) takes"):
        gs.jit(model)(jnp.ones(3))


def test_the_path_of_a_layer_that_is_an_argument_is_its_name() -> None:
    with pytest.raises(nn.ShapeError, match=r"Linear \(layer\) takes"):
        gs.vmap(lambda layer: layer(jnp.ones(2)))(gs.vmap(lambda: nn.Linear(3, 3), axis_size=2)())


def test_elsewhere_its_class_is() -> None:
    with pytest.raises(nn.ShapeError, match=r"^LayerNorm takes"):
        Model()(jnp.ones(3))
