"""What a layer refuses, and how it says so: the layer by its name and path, what it takes, what came, the way out.

GraphStateError
├── ShapeError (ValueError)     an input or a parameter has a shape that does not fit the layer
├── DtypeError (TypeError)      an input has a dtype that the layer does not compute with
└── RangeError (ValueError)     a size, rate or option is outside of what it can be
"""

import contextlib
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from jax import Array

from graphstate._trace import name_in_frames
from graphstate.errors import GraphStateError
from graphstate.graph import Node, State, nodes, write_path

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
    """The class of a layer, and its path where one is known: `Linear (Model.layers/0)`.

    It is looked for in the Nodes that are being called, which takes time: for an error only. A function that a
    transform has called with the layer itself knows it by the name of its argument.
    """
    path = _path_in_callers(layer) or _path_in_frames(layer)
    kind = layer.__class__.__name__
    return kind if path in (None, kind) else f"{kind} ({path})"


def _path_in_frames(layer: Any) -> str | None:
    """The path of a layer, or of a State that it holds, by a transform in progress."""
    path = name_in_frames(layer)
    for name, value in vars(layer).items():
        if path is None and isinstance(value, State):
            found = name_in_frames(value)
            path = None if found is None else found.removesuffix(f"/{name}").removesuffix(f".{name}")
    return path


def _path_in_callers(layer: Any) -> str | None:
    """The path of a layer from the outermost of the Nodes that are being called, through those between."""
    inner, path = layer, tuple[Any, ...]()
    for caller in _iter_callers():
        way = None if caller is inner else _way(caller, inner)
        if way is not None:
            inner, path = caller, (*way, *path)
    return None if inner is layer else f"{type(inner).__name__}.{write_path(path)}"


def _iter_callers() -> Iterator[Node]:
    """The Nodes that functions in progress have as first argument, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if isinstance(first, Node):
            yield first
        frame = frame.f_back


def _way(caller: Node, inner: Any) -> tuple[Any, ...] | None:
    """The path from one Node to another, which may be a slice of a stack that the first one holds.

    A transform of a method calls it with a copy of the Node, which is the same Node for a reader.
    """
    with contextlib.suppress(GraphStateError):  # a graph that cannot be walked is another error's matter
        for path, node in nodes(caller, type(inner)).items():
            if node is inner:
                return path
    if type(caller) is type(inner) and name_in_frames(inner) == "self":
        return ()
    sliced = getattr(caller, "_sliced", None)
    return (sliced,) if isinstance(sliced, str) and type(getattr(caller, sliced)) is type(inner) else None


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
