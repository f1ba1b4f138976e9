"""Programs of functions that are handed to a transform anew on each call, as to `scan` and `for_loop`.

An eager loop compiles; called again with the same function it must not compile again. Its program is kept with the
function itself, so that it lives as long as the function does.
"""

import functools
import types
import weakref
from collections.abc import Callable, Hashable
from typing import Any

from graphstate._compat import EVAL, current_trace
from graphstate._trace import current_frame
from graphstate.graph._attributes import is_graph_object

from ._cached import CachedFunction

__all__ = ["ReusedFunction", "is_eager", "reused"]

_NAME = "__graphstate_programs__"


class ReusedFunction(CachedFunction):
    """A function compiled together with the loop around it.

    Args:
        function: the user's function.
        run: takes it and the arguments of the transform, and runs the loop in the trace in progress.
        transform: the name of the transform, for messages.
        takes_self: whether the first argument is the Node that the function is a method of.
    """

    def __init__(self, function: Callable[..., Any], run: Callable[..., Any], transform: str, takes_self: bool) -> None:
        super().__init__(function)
        self.transform = transform
        self._run_loop = run
        self._takes_self = takes_self

    def run_user(self, statics: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the loop."""
        if self._takes_self:
            return self._run_loop(types.MethodType(self.function, args[0]), *args[1:], **kwargs)
        return self._run_loop(self.function, *args, **kwargs)


def is_eager() -> bool:
    """Whether nothing is being traced."""
    return current_frame() is None and current_trace() is EVAL


def reused(function: Any, key: Hashable, run: Callable[..., Any], transform: str) -> Callable[..., Any]:
    """The compiled loop over `function`, the same one for the same function and `key`."""
    if isinstance(function, types.MethodType) and is_graph_object(function.__self__):
        return functools.partial(_kept(function.__func__, key, run, transform, True), function.__self__)
    if is_graph_object(function) and callable(function):
        method: Any = type(function).__call__
        return functools.partial(_kept(method, key, run, transform, True), function)
    return _kept(function, key, run, transform, False)


def _kept(function: Any, key: Hashable, run: Callable[..., Any], transform: str, takes_self: bool) -> ReusedFunction:
    table = getattr(function, "__dict__", None)
    if table is None or isinstance(function, type | types.MethodType):
        return ReusedFunction(function, run, transform, takes_self)
    programs = table.get(_NAME)
    if programs is None or programs.owner() is not function:
        programs = table[_NAME] = _Programs(function)
    kept: ReusedFunction | None = programs.table.get((transform, takes_self, key))
    if kept is None:
        kept = ReusedFunction(function, run, transform, takes_self)
        programs.table[transform, takes_self, key] = kept
    return kept


class _Programs:
    """The programs of one function, which it is told by: `functools.wraps` copies what stands in a `__dict__`."""

    def __init__(self, owner: Any) -> None:
        self.owner = weakref.ref(owner)
        self.table: dict[Hashable, ReusedFunction] = {}
