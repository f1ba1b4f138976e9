"""Arguments of a transformed call that are handed to the function as they are."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from graphstate.errors import AxisError

from ._arguments import function_name

__all__ = ["bind_static"]


def bind_static(
    function: Callable[..., Any], args: tuple[Any, ...], numbers: Sequence[int], name: str
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """`function` with some positional arguments bound, and the arguments with None, an empty pytree, in their places.

    Args:
        function: the user's function.
        args: its positional arguments.
        numbers: which of them are bound.
        name: how the parameter is called that said so.

    Raises:
        AxisError: there is no such argument.
    """
    if not numbers:
        return function, args
    bound = {}
    for number in numbers:
        if not -len(args) <= number < len(args):
            raise AxisError(
                f"`{name}` has {number}, but `{function_name(function)}` was called with {len(args)} positional "
                "arguments. Pass that argument by position."
            )
        bound[number % len(args)] = args[number]

    @functools.wraps(function)
    def call(*rest: Any, **kwargs: Any) -> Any:
        return function(*(bound.get(number, each) for number, each in enumerate(rest)), **kwargs)

    return call, tuple(None if number in bound else each for number, each in enumerate(args))
