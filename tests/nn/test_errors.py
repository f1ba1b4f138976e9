"""The path of a layer in its errors."""

from collections.abc import Callable

import jax.numpy as jnp
import pytest
from jax import Array

import graphstate as gs
from graphstate import nn


class Model(gs.Node):
    def __init__(self) -> None:
        self.layers = [nn.Linear(3, 3), nn.LayerNorm(4)]
        self.parts = {
            "rnn": nn.RNN(nn.GRUCell(4, 4)),
            "deep": nn.Repeat(lambda: nn.Sequential(nn.Linear(4, 4)), 2),
            "many": nn.Ensemble(lambda: nn.Linear(4, 4), 2),
        }

    def __call__(self, x: Array, part: str | None = None) -> Array:
        return self.layers[1](x) if part is None else self.parts[part](x)


@pytest.mark.parametrize(
    "call",
    [
        Model(),
        lambda x: (lambda model, x: model(x))(Model(), x),
        lambda x: gs.jit(lambda model, x: model(x))(Model(), x),
        lambda x: gs.jit(Model())(x),
        lambda x: gs.grad(lambda model: model(x).sum())(Model()),
    ],
    ids=["eager", "in a function", "argument", "function", "gradient"],
)
def test_it_begins_at_the_outermost_node_that_is_called(call: Callable[[Array], Array]) -> None:
    with pytest.raises(nn.ShapeError, match=r"^LayerNorm \(Model\.layers/1\) takes"):
        call(jnp.ones(3))


@pytest.mark.parametrize(
    ("part", "path"), [("rnn", "rnn/cell"), ("deep", "deep/layers/layers/0"), ("many", "many/members")]
)
def test_it_goes_on_in_the_steps_of_a_loop_and_in_the_members_of_a_stack(part: str, path: str) -> None:
    with pytest.raises(nn.ShapeError, match=rf"^\w+ \(Model\.parts/{path}\) takes"):
        Model()(jnp.ones((2, 5)), part)


def test_a_layer_that_a_transform_was_given_has_the_name_of_the_argument() -> None:
    with pytest.raises(nn.ShapeError, match=r"^Linear \(layer\) takes"):
        gs.vmap(lambda layer: layer(jnp.ones(2)))(gs.vmap(lambda: nn.Linear(3, 3), axis_size=2)())


def test_a_layer_that_is_called_by_itself_has_its_class() -> None:
    with pytest.raises(nn.ShapeError, match=r"^LayerNorm takes"):
        nn.LayerNorm(4)(jnp.ones(3))


def test_in_a_graph_that_cannot_be_walked_there_are_no_paths() -> None:
    model = Model()
    model.broken = {1, 2}
    with pytest.raises(nn.ShapeError, match=r"^LayerNorm takes"):
        model(jnp.ones(3))
