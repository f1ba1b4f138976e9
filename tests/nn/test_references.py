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


def spectral_norm() -> nn.SpectralNorm:
    """With the vector that PyTorch had begun with."""
    layer = nn.SpectralNorm(nn.Linear(4, 2), fit=True)
    layer.direction.value = jnp.array([0.6, 0.8])
    return layer


LAYERS: dict[str, Callable[[], Callable[[Array], Array]]] = {
    "PReLU": lambda: nn.PReLU(4),
    "Linear": lambda: nn.Linear(4, 2),
    "attend": lambda: nn.Embedding(5, 4),
    "Embedding": lambda: nn.Embedding(5, 4),
    "LoRA": lambda: nn.LoRA(nn.Linear(4, 5), 2, alpha=3),
    "LayerNorm": lambda: nn.LayerNorm((3, 4)),
    "RMSNorm": lambda: nn.RMSNorm(5),
    "GroupNorm": lambda: nn.GroupNorm(6, 3, spatial_dims=2),
    "InstanceNorm": lambda: nn.InstanceNorm(3, spatial_dims=1),
    "BatchNorm": lambda: nn.BatchNorm(3, fit=True),
    "Bilinear": lambda: nn.Bilinear(3, 4, 2),
    "Einsum": lambda: nn.Einsum("btd,dhk->bthk", (4, 2, 3), bias_shape=(2, 3)),
    "Conv1d": lambda: nn.Conv1d(3, 2, 3, padding="SAME"),
    "Conv2d": lambda: nn.Conv2d(4, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
    "Conv3d": lambda: nn.Conv3d(2, 2, 2, stride=2, padding=1),
    "Conv2d, reflect": lambda: nn.Conv2d(2, 2, 3, padding=(1, 2), padding_mode="reflect"),
    "Conv2d, replicate": lambda: nn.Conv2d(2, 2, 3, padding=(1, 2), padding_mode="replicate"),
    "Conv2d, circular": lambda: nn.Conv2d(2, 2, 3, padding=(1, 2), padding_mode="circular"),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(4, 6, 3, stride=3, padding=1, output_padding=2, groups=2, dilation=2),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(3, 2, (3, 2), stride=(2, 1), padding=(1, 0)),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(2, 2, 2, stride=2),
    "MaxPool1d": lambda: nn.MaxPool1d(3, stride=2, padding=1),
    "MaxPool2d": lambda: nn.MaxPool2d((2, 3), stride=(2, 1)),
    "MaxPool3d": lambda: nn.MaxPool3d(2, stride=(2, 1, 2)),
    "AvgPool1d": lambda: nn.AvgPool1d(3, stride=2, padding=1),
    "AvgPool2d": lambda: nn.AvgPool2d(2, stride=1, padding=1),
    "AvgPool3d": lambda: nn.AvgPool3d(2),
    "AdaptiveMaxPool1d": lambda: nn.AdaptiveMaxPool1d(3),
    "AdaptiveMaxPool2d": lambda: nn.AdaptiveMaxPool2d((2, 3)),
    "AdaptiveMaxPool3d": lambda: nn.AdaptiveMaxPool3d(2),
    "AdaptiveAvgPool1d": lambda: nn.AdaptiveAvgPool1d(3),
    "AdaptiveAvgPool2d": lambda: nn.AdaptiveAvgPool2d((2, 3)),
    "AdaptiveAvgPool3d": lambda: nn.AdaptiveAvgPool3d(2),
    "RNN": lambda: nn.RNN(nn.RNNCell(3, 4)),
    "LSTM": lambda: nn.RNN(nn.LSTMCell(3, 2)),
    "GRU": lambda: nn.RNN(nn.GRUCell(3, 2)),
    "MGU": lambda: nn.RNN(nn.MGUCell(3, 2)),
    "attention": lambda: nn.MultiHeadAttention(4, 2),
    "attention to a memory": lambda: nn.MultiHeadAttention(4, 2, head_features=3),
    "attention in groups": lambda: nn.MultiHeadAttention(4, 4, head_features=2, kv_heads=2),
    "RotaryEmbedding": lambda: nn.RotaryEmbedding(4, base=100.0),
    "WeightNorm": lambda: nn.WeightNorm(nn.Conv1d(3, 2, 2)),
    "SpectralNorm": lambda: spectral_norm(),
    "Bidirectional": lambda: nn.Bidirectional(nn.LSTMCell(3, 2), nn.LSTMCell(3, 2)),
}

MASK = jnp.arange(2 * 3 * 5).reshape(2, 1, 3, 5) % 3 != 0
CALLS: dict[str, Callable[..., Array]] = {
    "attend": lambda layer, x: layer.attend(x),
    "Embedding": lambda layer, x: layer(jnp.array([[0, 4, 0], [1, 1, 0]])) * x,
    "Bilinear": lambda layer, x: layer(x[..., :3], x[..., 3:]),
    "attention": lambda layer, x: layer(x, is_causal=True),
    "attention to a memory": lambda layer, x: layer(x[:, :3], x[:, 3:], mask=MASK),
    "attention in groups": lambda layer, x: layer(x, is_causal=True),
    "RotaryEmbedding": lambda layer, x: layer(x, jnp.arange(3)),
    "Bidirectional": lambda layer, x: layer(x, lengths=jnp.array([4, 2])),
}


def stored(name: str, kind: str) -> dict[str, np.ndarray]:
    """The arrays of a case whose names begin alike, by the rest of their names."""
    prefix = f"{name}/{kind}/"
    return {key.removeprefix(prefix): STORED[key] for key in STORED if key.startswith(prefix)}


def assert_close(actual: Array, expected: np.ndarray, scale: float = 0.0) -> None:
    """Compares up to 1e-5 of each number and, where sums cancel, of the largest one or of `scale`."""
    assert actual.shape == expected.shape
    assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * max(scale, float(np.abs(expected).max())))


def test_every_stored_case_is_compared() -> None:
    assert {key.split("/")[0] for key in STORED} == set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_numbers_and_gradients_are_those_of_pytorch(name: str) -> None:
    layer, parameters = LAYERS[name](), stored(name, "param")
    assert {"/".join(map(str, path)) for path in gs.states(layer, gs.ParamState)} == set(parameters)
    gs.update(layer, gs.GraphState.from_dict({path: jnp.asarray(v) for path, v in parameters.items()}, like=layer))
    call = CALLS.get(name, lambda layer, x: layer(x))

    def loss(x: Array) -> tuple[Array, Array]:
        y = call(layer, x)
        return jnp.sum(y * STORED[f"{name}/cotangent"]), y

    states = gs.states(layer, gs.ParamState)
    gradient = gs.jit(gs.grad(loss, 0, states=states or None, has_aux=True))
    derivatives, y = gradient(jnp.asarray(STORED[f"{name}/x"]))
    grads, grad_x = derivatives if states else ({}, derivatives)
    assert_close(y, STORED[f"{name}/y"])
    assert_close(grad_x, STORED[f"{name}/grad_x"])
    for path, expected in stored(name, "grad").items():
        assert_close(grads[path], expected, float(np.abs(STORED[f"{name}/grad_x"]).max()))


def test_they_are_computed_in_float32() -> None:
    assert jax.dtypes.canonicalize_dtype(float) == STORED["Linear/y"].dtype
