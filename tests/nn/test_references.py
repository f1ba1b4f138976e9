"""Outputs and gradients against those of PyTorch, which `references/make.py` has stored."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from numpy.testing import assert_allclose

import graphstate as gs
from graphstate import nn


def load() -> dict[str, np.ndarray]:
    """The stored arrays by name."""
    with np.load(Path(__file__).with_name("references") / "references.npz") as file:
        shapes, values = json.loads(str(file["index"])), file["values"]
    parts = np.split(values, np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


STORED = load()

LAYERS: dict[str, Callable[[], Callable[[Array], Array]]] = {
    "PReLU": lambda: nn.PReLU(4),
    "Linear": lambda: nn.Linear(4, 2),
    "attend": lambda: nn.Embedding(5, 4),
    "LayerNorm": lambda: nn.LayerNorm((3, 4)),
    "RMSNorm": lambda: nn.RMSNorm(5),
    "GroupNorm": lambda: nn.GroupNorm(6, 3, spatial_dims=2),
    "InstanceNorm": lambda: nn.InstanceNorm(3, spatial_dims=1),
}

CALLS: dict[str, Callable[..., Array]] = {
    "attend": lambda layer, x: layer.attend(x),
}


def stored(name: str, kind: str) -> dict[str, np.ndarray]:
    """The arrays of a case whose names begin alike, by the rest of their names."""
    prefix = f"{name}/{kind}/"
    return {key.removeprefix(prefix): STORED[key] for key in STORED if key.startswith(prefix)}


def assert_close(actual: Array, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * float(np.abs(expected).max()))


def test_every_stored_case_is_compared() -> None:
    assert {key.split("/")[0] for key in STORED} == set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_numbers_and_gradients_are_those_of_pytorch(name: str) -> None:
    layer, parameters = LAYERS[name](), stored(name, "param")
    assert {"/".join(map(str, path)) for path in gs.states(layer, gs.ParamState)} == set(parameters)
    gs.update(layer, gs.GraphState.from_dict({path: jnp.asarray(v) for path, v in parameters.items()}, like=layer))
    call = CALLS.get(name, lambda layer, x: layer(x))

    def loss(layer: object, x: Array) -> tuple[Array, Array]:
        y = call(layer, x)
        return jnp.sum(y * STORED[f"{name}/cotangent"]), y

    (_, y), (grads, grad_x) = gs.jit(gs.value_and_grad(loss, (0, 1), has_aux=True))(
        layer, jnp.asarray(STORED[f"{name}/x"])
    )
    assert_close(y, STORED[f"{name}/y"])
    assert_close(grad_x, STORED[f"{name}/grad_x"])
    for path, expected in stored(name, "grad").items():
        assert_close(grads[path], expected)


def test_they_are_computed_in_float32() -> None:
    assert jax.dtypes.canonicalize_dtype(float) == STORED["Linear/y"].dtype
