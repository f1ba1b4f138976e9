"""What all transformed functions have in common: they wrap, bind as methods, and watch what they depend on."""

import functools
import types
from collections.abc import Callable
from typing import Any

from graphstate._trace import Frame, current_frame, current_home
from graphstate.errors import StateTypeError

from ._arguments import function_name
from ._watch import Ignored, Watch

__all__ = ["Lifted", "watched"]


class Lifted:
    """A function transformed by graphstate.

    Attributes:
        transform: the name of the transform, for messages.
        function: the user's function; of several the one that gives its name and the names of the arguments.
        functions: the user's functions.
        changed_by_itself: what the function was seen to change while it was traced: no dependency of it.
    """

    transform = "transform"

    def __init__(self, function: Callable[..., Any], transform: str | None = None) -> None:
        if transform is not None:
            self.transform = transform
        if not callable(function):
            raise StateTypeError(
                f"`{self.transform}` transforms a function, but it was given {str(function)[:60]!r} of type "
                f"{type(function).__name__}. As a decorator with parameters write "
                f"`@graphstate.{self.transform}(...)`, with the parameters by name."
            )
        self.function = function
        self.functions: tuple[Callable[..., Any], ...] = (function,)
        updated = functools.WRAPPER_UPDATES if isinstance(function, types.FunctionType) else ()
        functools.update_wrapper(self, function, updated=updated)
        self._born_in_trace = current_home() is not None
        self._watch: Watch | None = None
        self.changed_by_itself: Ignored = {}

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"{self.transform}({function_name(self.function)})"

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the transformed function."""
        raise AssertionError

    def watch(self) -> Watch:
        """What the function depends on besides its arguments, as it is now."""
        watch = self._watch
        if watch is None or not watch.is_current():
            watch = self._watch = Watch(list(self.functions), self.changed_by_itself)
        frame = current_frame()
        if frame is not None and not self._born_in_trace:
            note_watch(frame, watch)
        return watch


def watched(function: Callable[..., Any], transform: str) -> Watch:
    """What a function depends on that is handed to a transform on each call, as to `scan` or `cond`."""
    return Lifted(function, transform).watch()


def note_watch(frame: Frame | None, watch: Watch) -> None:
    """The programs being traced depend on what `watch` watches."""
    while frame is not None:
        if watch not in frame.watches:
            frame.watches.append(watch)
        frame = frame.parent
