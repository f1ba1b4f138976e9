"""Transformed methods as attributes: `self.step = jit(self._step)` is structure, as a bound method is.

What a transform returns belongs to a floor above this one. It says by the attributes of `Wrapper` how it was made, so
that the copy of a Node gets a wrapper of the method of that copy.
"""

import functools
import types
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from ._attributes import is_graph_object

__all__ = ["Wrapper", "Wrapping", "innermost", "wraps_graph"]


class Wrapping(Hashable, Protocol):
    """How functions are wrapped; equal for two wrappers that do the same."""

    def wrap(self, function: Callable[..., Any]) -> Any:
        """The wrapper of another function."""


class Wrapper(Protocol):
    """What wraps a function.

    Attributes:
        _graph_wrapping: how.
        __wrapped__: the function.
    """

    _graph_wrapping: Wrapping
    __wrapped__: Any


def wraps_graph(value: Any) -> bool:
    """Whether `value` is a `Wrapper` of a method of a Node, of a partial of Nodes, or of a Node itself."""
    if not hasattr(type(value), "_graph_wrapping"):
        return False
    inner = innermost(value)
    if isinstance(inner, functools.partial):
        parts = (inner.func, *inner.args, *inner.keywords.values())
        return any(map(_is_of_graph, parts))
    return _is_of_graph(inner)


def innermost(value: Any) -> Any:
    """What one or more `Wrapper` wrap; of anything else itself."""
    while hasattr(type(value), "_graph_wrapping"):
        value = value.__wrapped__
    return value


def _is_of_graph(value: Any) -> bool:
    return is_graph_object(value.__self__ if isinstance(value, types.MethodType) else value)
