"""The table of layers that `test_laws.py` holds to the laws: a new layer is a new row."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from graphstate import nn
from graphstate.random import RandomState

__all__ = ["ROWS", "Row"]


class Row(NamedTuple):
    """A layer and what one example of its input is.

    Attributes:
        make: takes options (`rng` and `param_dtype`) and gives the layer.
        shape: of one example.
        batches: whether leading axes are batch axes.
        kwargs: further arguments of the call.
        integers: whether the input is of whole numbers, below 4.
        options: the options that the layer takes.
    """

    make: Callable[..., Any]
    shape: tuple[int, ...]
    batches: bool = True
    kwargs: Mapping[str, Any] = {}
    integers: bool = False
    options: tuple[str, ...] = ("rng", "param_dtype")

    def layer(self, seed: Any = 0, param_dtype: DTypeLike = jnp.float32) -> Any:
        """The layer of a seed."""
        given = {"rng": RandomState(seed), "param_dtype": param_dtype}
        return self.make(**{name: given[name] for name in self.options})

    def input(self, *leading: int) -> Array:
        """A random input with leading axes."""
        shape = (*leading, *self.shape)
        key = jax.random.key(1)
        return jax.random.randint(key, shape, 0, 4) if self.integers else jax.random.normal(key, shape)

    def call(self, layer: Any, x: Array) -> Any:
        """What the layer makes of an input."""
        return layer(x, **self.kwargs)


class Attend(nn.Embedding):
    """An `Embedding`, called in the other direction."""

    def __call__(self, x: Array) -> Array:
        return self.attend(x)


class Square(nn.Bilinear):
    """A `Bilinear` of an input and itself."""

    def __call__(self, x: Array) -> Array:
        return super().__call__(x, x)


class Decoding(nn.MultiHeadAttention):
    """An attention that is given its input in two parts."""

    def __call__(self, x: Array) -> Array:
        self.cache.reset_state(x.shape[:-2])
        parts = [super(Decoding, self).__call__(part, decode=True) for part in jnp.split(x, [1], -2)]
        self.cache.reset_state()
        return jnp.concatenate(parts, -2)


class Turned(nn.RotaryEmbedding):
    """A `RotaryEmbedding` for steps one after the other."""

    def __call__(self, x: Array) -> Array:
        return super().__call__(x, jnp.arange(x.shape[-3]))


class Mean(nn.Ensemble):
    """The mean of the members of an `Ensemble`."""

    def __call__(self, x: Array) -> Array:
        return super().__call__(x).mean(0)


ROWS: dict[str, Row] = {
    "Identity": Row(nn.Identity, (3,), options=()),
    "PReLU": Row(lambda **o: nn.PReLU(3, **o), (3,)),
    "PReLU, one slope": Row(nn.PReLU, (3,)),
    "Linear": Row(lambda **o: nn.Linear(3, 2, **o), (3,)),
    "Embedding": Row(lambda **o: nn.Embedding(4, 3, **o), (2,), integers=True),
    "Embedding.attend": Row(lambda **o: Attend(4, 3, **o), (3,)),
    "LayerNorm": Row(lambda **o: nn.LayerNorm((2, 3), **o), (2, 3)),
    "RMSNorm": Row(lambda **o: nn.RMSNorm(3, **o), (3,)),
    "GroupNorm": Row(lambda **o: nn.GroupNorm(4, 2, spatial_dims=1, **o), (3, 4)),
    "InstanceNorm": Row(lambda **o: nn.InstanceNorm(2, spatial_dims=2, **o), (3, 2, 2)),
    "BatchNorm": Row(lambda **o: nn.BatchNorm(3, **o), (3,)),
    "Bilinear": Row(lambda **o: Square(3, 3, 2, **o), (3,)),
    "Einsum": Row(lambda **o: nn.Einsum("...d,dhk->...hk", (3, 2, 2), bias_shape=(2,), **o), (3,)),
    "Conv1d": Row(lambda **o: nn.Conv1d(2, 3, 3, padding="SAME", **o), (4, 2)),
    "Conv2d": Row(lambda **o: nn.Conv2d(2, 2, 2, groups=2, padding_mode="circular", padding=1, **o), (3, 3, 2)),
    "Conv3d": Row(lambda **o: nn.Conv3d(1, 2, 2, **o), (2, 3, 2, 1)),
    "ConvTranspose1d": Row(lambda **o: nn.ConvTranspose1d(2, 3, 3, stride=2, padding="SAME", **o), (3, 2)),
    "ConvTranspose2d": Row(lambda **o: nn.ConvTranspose2d(2, 2, 2, **o), (2, 3, 2)),
    "ConvTranspose3d": Row(lambda **o: nn.ConvTranspose3d(1, 1, 2, **o), (2, 2, 2, 1)),
    "MaxPool1d": Row(lambda: nn.MaxPool1d(2), (4, 2), options=()),
    "MaxPool2d": Row(lambda: nn.MaxPool2d(2, stride=1, padding="SAME"), (3, 3, 2), options=()),
    "MaxPool3d": Row(lambda: nn.MaxPool3d(2), (2, 2, 2, 1), options=()),
    "AvgPool1d": Row(lambda: nn.AvgPool1d(2), (4, 2), options=()),
    "AvgPool2d": Row(lambda: nn.AvgPool2d(2), (2, 4, 2), options=()),
    "AvgPool3d": Row(lambda: nn.AvgPool3d(2), (2, 2, 2, 1), options=()),
    "AdaptiveMaxPool1d": Row(lambda: nn.AdaptiveMaxPool1d(2), (3, 2), options=()),
    "AdaptiveMaxPool2d": Row(lambda: nn.AdaptiveMaxPool2d(1), (3, 2, 2), options=()),
    "AdaptiveMaxPool3d": Row(lambda: nn.AdaptiveMaxPool3d(1), (2, 2, 2, 1), options=()),
    "AdaptiveAvgPool1d": Row(lambda: nn.AdaptiveAvgPool1d(2), (3, 2), options=()),
    "AdaptiveAvgPool2d": Row(lambda: nn.AdaptiveAvgPool2d(1), (3, 2, 2), options=()),
    "AdaptiveAvgPool3d": Row(lambda: nn.AdaptiveAvgPool3d(1), (2, 2, 2, 1), options=()),
    "RNNCell": Row(lambda **o: nn.RNN(nn.RNNCell(2, 3, **o)), (2, 2)),
    "LSTMCell": Row(lambda **o: nn.RNN(nn.LSTMCell(2, 3, **o), unroll=2), (2, 2)),
    "GRUCell": Row(lambda **o: nn.RNN(nn.GRUCell(2, 3, **o), reverse=True), (2, 2)),
    "MGUCell": Row(lambda **o: nn.RNN(nn.MGUCell(2, 3, **o)), (2, 2)),
    "Bidirectional": Row(lambda **o: nn.Bidirectional(nn.RNNCell(2, 3, **o), nn.RNNCell(2, 1, **o)), (2, 2)),
    "MultiHeadAttention": Row(
        lambda **o: nn.MultiHeadAttention(4, 2, kv_heads=1, rotary=nn.RotaryEmbedding(2), **o),
        (3, 4),
        kwargs={"is_causal": True},
    ),
    "MultiHeadAttention, decoding": Row(lambda **o: Decoding(4, 2, cache_length=3, **o), (3, 4)),
    "RotaryEmbedding": Row(lambda: Turned(4), (3, 2, 4), options=()),
    "Dropout": Row(lambda **o: nn.Dropout(0.5, **o), (3,), options=("rng",)),
    "AlphaDropout": Row(lambda **o: nn.AlphaDropout(0.5, **o), (3,), options=("rng",)),
    "WeightNorm": Row(lambda **o: nn.WeightNorm(nn.Linear(3, 2, **o)), (3,)),
    "SpectralNorm": Row(lambda **o: nn.SpectralNorm(nn.Conv1d(3, 2, 2, **o), rng=o["rng"]), (3, 3)),
    "LoRA": Row(lambda **o: nn.LoRA(nn.Linear(3, 2, **o), 2, rng=o["rng"]), (3,)),
    "Repeat": Row(lambda **o: nn.Repeat(lambda: nn.Linear(3, 3, **o), 2, checkpoint=True), (3,)),
    "Ensemble": Row(lambda **o: Mean(lambda: nn.Linear(3, 2, **o), 3), (3,)),
    "Sequential, with names": Row(lambda **o: nn.Sequential(a=nn.Linear(3, 2, **o), b=nn.tanh), (3,)),
    "Sequential": Row(lambda **o: nn.Sequential(nn.Linear(3, 4, **o), nn.relu, nn.Linear(4, 2, **o)), (3,)),
}
