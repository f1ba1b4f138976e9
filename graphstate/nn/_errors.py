"""What a layer refuses, and how it says so: the layer by its name and path, what it takes, what came, the way out.

GraphStateError
├── ShapeError (ValueError)     an input or a parameter has a shape that does not fit the layer
├── DtypeError (TypeError)      an input has a dtype that the layer does not compute with
└── RangeError (ValueError)     a size, rate or option is outside of what it can be
"""

from typing import Any

from jax import Array

from graphstate._trace import name_in_frames
from graphstate.errors import GraphStateError
from graphstate.graph import State

__all__ = ["DtypeError", "RangeError", "ShapeError", "check_parameter", "describe", "name_of", "wrong_shape"]


class ShapeError(GraphStateError, ValueError):
    """An input or a parameter has a shape that does not fit the layer."""


class DtypeError(GraphStateError, TypeError):
    """An input has a dtype that the layer does not compute with."""


class RangeError(GraphStateError, ValueError):
    """A size, rate or option of a layer is outside of what it can be."""


def describe(x: Array) -> str:
    """Dtype and shape of an array for a message, as `float32[8,3]`."""
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"


def name_of(layer: Any) -> str:
    """The class of a layer, and its path where a transform in progress knows it: `Linear (model.layers/0)`."""
    path = name_in_frames(layer)
    for name, value in vars(layer).items():
        if path is None and isinstance(value, State):
            found = name_in_frames(value)
            path = None if found is None else found.removesuffix(f"/{name}").removesuffix(f".{name}")
    kind = layer.__class__.__name__
    return kind if path in (None, kind) else f"{kind} ({path})"


def wrong_shape(layer: Any, needed: str, x: Array, way_out: str) -> ShapeError:
    """The error for an input `x` that has not the shape `needed`.

    Args:
        layer: who takes it.
        needed: shape and meaning, as `activations of shape (..., 3)`.
        x: what came.
        way_out: a sentence.
    """
    return ShapeError(f"{name_of(layer)} takes {needed}, but got {describe(x)}. {way_out}")


def check_parameter(layer: Any, name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Refuses a parameter of another shape than it was made with: that of a stack of layers.

    Raises:
        ShapeError: saying where a stack can be called.
    """
    if array.shape != shape:
        raise ShapeError(
            f"{name_of(layer)} needs a {name} of shape {shape}, but it is {describe(array)}. "
            "Call a stack of layers inside of `graphstate.vmap`, or take one member with `graphstate.take`."
        )
