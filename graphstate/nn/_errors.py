"""What a layer refuses.

GraphStateError
├── ShapeError (ValueError)     an input or a parameter has a shape that does not fit the layer
├── DtypeError (TypeError)      an input has a dtype that the layer does not compute with
└── RangeError (ValueError)     a size or rate is outside of what it can be
"""

from jax import Array

from graphstate.errors import GraphStateError

__all__ = ["DtypeError", "RangeError", "ShapeError", "describe"]


class ShapeError(GraphStateError, ValueError):
    """An input or a parameter has a shape that does not fit the layer."""


class DtypeError(GraphStateError, TypeError):
    """An input has a dtype that the layer does not compute with."""


class RangeError(GraphStateError, ValueError):
    """A size or rate of a layer is outside of what it can be."""


def describe(x: Array) -> str:
    """Dtype and shape of an array for a message, as `float32[8,3]`."""
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"
