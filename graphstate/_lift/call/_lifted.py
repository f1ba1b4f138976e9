"""What all transformed functions have in common: they wrap, bind as methods, and watch what they depend on."""

import functools
import sys
import types
from collections.abc import Callable
from typing import Any, Final, Self

from graphstate._lift.watch._watch import Ignored, Watch
from graphstate._trace import Frame, current_frame, current_home
from graphstate.errors import StateTypeError

from ._arguments import function_name

__all__ = ["CALLABLE", "Lifted", "Wrapping", "note_watch", "watched"]


CALLABLE: Final = "Give it a function, a method, or a Node that can be called."


class Wrapping:
    """How a function was transformed: into what, and with which parameters.

    Attributes:
        transform: the name of the transform, for messages.
        rules: the functions that were given later, and belong to what it does.
        shared: what all that are wrapped so have together, and what no two of them are told apart by.
    """

    __slots__ = ("_args", "_class", "_kwargs", "rules", "shared", "transform")

    def __init__(
        self, cls: "type[Lifted]", args: tuple[Any, ...], kwargs: dict[str, Any], rules: tuple[Any, ...] = ()
    ) -> None:
        self._class = cls
        self._args = args
        self._kwargs = kwargs
        self.rules = rules
        self.shared: Any = None
        self.transform = cls.transform

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wrapping) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._class)

    def __repr__(self) -> str:
        return self.transform

    def __reduce__(self) -> tuple[Any, ...]:
        return Wrapping, self._content()

    def _content(self) -> tuple[Any, ...]:
        return self._class, self._args, self._kwargs, self.rules

    def wrap(self, function: Callable[..., Any]) -> "Lifted":
        """Transforms another function in the same way."""
        wrapped = self._class(function, *self._args, **self._kwargs)
        wrapped.adopt(self)
        return wrapped


class Lifted:
    """A function transformed by graphstate.

    Attributes:
        transform: the name of the transform, for messages.
        function: the user's function; of several the one that gives its name and the names of the arguments.
        functions: the user's functions.
        changed_by_itself: what the function was seen to change while it was traced: no dependency of it.
    """

    transform = "transform"

    _graph_wrapping: Any = None
    """How the function was transformed: the graph asks this of attributes, to make the like of a method of a copy."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        lifted = super().__new__(cls)
        lifted._graph_wrapping = Wrapping(cls, args[1:], kwargs)
        return lifted

    def __init__(self, function: Callable[..., Any], transform: str | None = None) -> None:
        if transform is not None:
            self.transform = self._graph_wrapping.transform = transform
        if not callable(function):
            raise StateTypeError(
                f"`{self.transform}` transforms a function, but it was given {str(function)[:60]!r} of type "
                f"{type(function).__name__}. {self.way_out() if transform is None else CALLABLE}"
            )
        self.function = function
        self.functions: tuple[Callable[..., Any], ...] = (function,)
        updated = functools.WRAPPER_UPDATES if isinstance(function, types.FunctionType) else ()
        functools.update_wrapper(self, function, updated=updated)
        self._born_in_trace = current_home() is not None
        self._watch: Watch | None = None
        self.changed_by_itself: Ignored = {}

    def adopt(self, wrapping: Wrapping) -> None:
        """Is wrapped in this way from now on, with what came to it later."""
        self._graph_wrapping = wrapping

    def way_out(self) -> str:
        """What messages advise where there is no function."""
        return f"As a decorator with parameters write `@graphstate.{self.transform}(...)`, with the parameters by name."

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"{self.transform}({function_name(self.function)})"

    def __reduce__(self) -> Any:
        """Pickled by its name, if it is found under that, as a decorated function is; else by what it was made of."""
        found: Any = sys.modules.get(getattr(self, "__module__", ""))
        for name in getattr(self, "__qualname__", "").split("."):
            found = getattr(found, name, None)
        return self.__qualname__ if found is self else (self._graph_wrapping.wrap, (self.function,))

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
