"""`modules`: random modules that can be called, made of parts that a batch, a program or a derivative can get wrong.

All layers take and return `float32[features]`, so that they follow each other in any order. A module is drawn as a
list of what its layers are, which can be pasted into a test: `module_of` makes the objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from graphstate.graph import BatchState, HiddenState, Node, ParamState
from graphstate.nn import Dropout
from graphstate.random import RandomState
from graphstate.testing._structure import choose, several

from ._arrays import arrays

__all__ = ["module_of", "modules"]

Layer = tuple[Any, ...]
_ACTIVATIONS = ("tanh", "sin", "relu", "sigmoid")
_FUNCTIONS = {"tanh": jnp.tanh, "sin": jnp.sin, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}
_DEPTH = 2


class _Bias(Node):
    def __init__(self, bias: Any) -> None:
        self.bias = ParamState(bias)

    def __call__(self, x: Any) -> Any:
        return x + self.bias.value


class _Matrix(Node):
    def __init__(self, weight: Any) -> None:
        self.weight = ParamState(weight)

    def __call__(self, x: Any) -> Any:
        return x @ self.weight.value


class _Activation(Node):
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, x: Any) -> Any:
        return _FUNCTIONS[self.name](x)


class _RunningMean(Node):
    """Subtracts a mean that moves towards each input; counts its calls, whatever the input."""

    def __init__(self, mean: Any) -> None:
        self.mean = BatchState(mean)
        self.count = BatchState(np.int32(0))

    def __call__(self, x: Any) -> Any:
        self.count.value = self.count.value + 1
        self.mean.value = 0.75 * self.mean.value + 0.25 * x
        return x - self.mean.value


class _Cell(Node):
    """Remembers what it returned."""

    def __init__(self, weight: Any) -> None:
        self.weight = ParamState(weight)
        self.hidden = HiddenState(np.zeros_like(weight[0]))

    def __call__(self, x: Any) -> Any:
        self.hidden.value = jnp.tanh(x + self.hidden.value @ self.weight.value)
        return self.hidden.value


class _Chain(Node):
    """Applies its layers one after the other; with `skip` it adds the input."""

    def __init__(self, layers: list[Any], skip: bool = False) -> None:
        self.layers = layers
        self.skip = skip

    def __call__(self, x: Any) -> Any:
        y = x
        for layer in self.layers:
            y = layer(y)
        return x + y if self.skip else y


_MAKERS: dict[str, Any] = {
    "bias": _Bias,
    "matrix": _Matrix,
    "activation": _Activation,
    "mean": _RunningMean,
    "cell": _Cell,
    "dropout": lambda rate, seed: Dropout(rate, fit=True, rng=RandomState(seed)),
}


def module_of(layers: Sequence[Layer]) -> Node:
    """The module that applies some layers one after the other to a `float32[features]`.

    Args:
        layers: for each layer its kind and values: `("bias", bias)`, `("matrix", weight)`, `("activation", name)`,
            `("mean", mean)` keeps a running mean, `("cell", weight)` remembers its last output,
            `("dropout", rate, seed)` is always active, `("skip", [layer, ...])` adds what its layers return to its
            input, `("again", number)` is the same object as a layer before it, by its number from 0.

    Example:
        >>> import graphstate.testing as gst, jax.numpy as jnp
        >>> module = gst.module_of([("bias", jnp.ones(2)), ("again", 0)])
        >>> module(jnp.zeros(2)).tolist()
        [2.0, 2.0]
    """
    return _chain(layers, [], skip=False)


def _chain(layers: Sequence[Layer], made: list[Any], skip: bool) -> _Chain:
    chain = _Chain([], skip)
    for kind, *values in layers:
        if kind == "again":
            chain.layers.append(made[values[0]])
            continue
        layer = _chain(values[0], made, skip=True) if kind == "skip" else _MAKERS[kind](*values)
        made.append(layer)
        chain.layers.append(layer)
    return chain


def modules(
    features: int = 2, *, max_layers: int = 4, statistics: bool = True, dropout: bool = True, recurrent: bool = True
) -> st.SearchStrategy[Any]:
    """Draws Nodes that are called with a `float32[features]` and return one; a single bias first.

    Args:
        features: the size of input and output.
        max_layers: the largest number of layers in a row.
        statistics: whether a layer may keep a running mean, in BatchStates.
        dropout: whether a layer may drop at random, with a RandomState of its own.
        recurrent: whether a layer may remember its last output, in a HiddenState.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst, hypothesis
        >>> module = hypothesis.find(gst.modules(), gs.shared)
        >>> module.layers[0] is module.layers[1]
        True
    """
    left_out = {"mean": not statistics, "dropout": not dropout, "cell": not recurrent}
    kinds = tuple(kind for kind in ("bias", *_MAKERS, "again", "skip") if not left_out.get(kind))
    return st.builds(module_of, _layers(features, max_layers, kinds))


@st.composite
def _layers(draw: st.DrawFn, features: int, max_layers: int, kinds: tuple[str, ...]) -> list[Layer]:
    return _Draft(draw, features, max_layers, kinds).layers(_DEPTH)


@dataclass
class _Draft:
    """Layers that are being drawn; `made` counts those that can stand in a further place."""

    draw: st.DrawFn
    features: int
    max_layers: int
    kinds: tuple[str, ...]
    made: int = 0

    def layers(self, depth: int) -> list[Layer]:
        return several(self.draw, 1, self.max_layers, lambda: self.layer(depth))

    def layer(self, depth: int) -> Layer:
        """One layer; a plain one where its kind is impossible, for a list of kinds that never changes."""
        kind = choose(self.draw, self.kinds)
        if (kind == "again" and not self.made) or (kind == "skip" and not depth):
            self.made += 1
            return ("activation", "tanh")
        if kind == "again":
            return (kind, choose(self.draw, range(self.made)))
        values = [self.layers(depth - 1)] if kind == "skip" else self.values(kind)
        self.made += 1
        return (kind, *values)

    def values(self, kind: str) -> list[Any]:
        if kind == "activation":
            return [choose(self.draw, _ACTIVATIONS)]
        if kind == "dropout":
            return [0.5, self.draw(st.integers(0, 2**16))]
        square = kind in ("matrix", "cell")
        numbers = self.draw(arrays("float32", (self.features,) * (1 + square)))
        return [numbers / np.float32(8)]
