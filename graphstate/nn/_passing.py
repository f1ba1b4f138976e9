"""`Passing`: layers that pass arguments on to others, and who takes an argument in the end."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from graphstate.graph import Node

__all__ = ["Passing", "takes"]


class Passing(Node):
    """A Node whose call passes what it is given by name on to other layers."""

    def _passes_to(self) -> Iterable[Callable[..., Any]]:
        """These layers."""
        raise AssertionError(type(self))


def takes(layer: Callable[..., Any], name: str) -> bool:
    """Whether a layer, or one that it passes arguments on to, can be called with an argument of that name."""
    try:
        parameters = inspect.signature(layer).parameters.values()
    except ValueError:  # a builtin that does not tell
        return False
    if any(each.name == name and each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters):
        return True
    if isinstance(layer, Passing):
        return any(takes(other, name) for other in layer._passes_to())
    return any(each.kind is each.VAR_KEYWORD for each in parameters)
