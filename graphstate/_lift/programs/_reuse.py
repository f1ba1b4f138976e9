"""Programs of functions that are handed to a transform anew on each call, as to `scan`, `cond` and `while_loop`.

Eager control flow compiles; called again with the same functions it must not compile again. The program is kept with
the first of the functions, so that it lives as long as that one does.
"""

import functools
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

from graphstate._compat import EVAL, current_trace
from graphstate._lift.call._lifted import CALLABLE
from graphstate._trace import current_frame
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._heads import StaticKey

from ._cached import CachedFunction

__all__ = ["ReusedFunction", "is_eager", "reused"]

_NAME: Final = "__graphstate_programs__"
_KEPT: Final = 64


class ReusedFunction(CachedFunction):
    """Functions compiled together with the control flow around them.

    Args:
        functions: the user's functions.
        run: takes them and the arguments of the transform, and runs the control flow in the trace in progress.
        transform: the name of the transform, for messages.
        are_bound: which of the functions are methods, whose Nodes come first among the arguments.
    """

    def __init__(
        self,
        functions: Sequence[Callable[..., Any]],
        run: Callable[..., Any],
        transform: str,
        are_bound: Sequence[bool],
    ) -> None:
        self.transform = transform
        super().__init__(functions[0])
        self.functions = tuple(functions)
        self._run_flow = run
        self._are_bound = tuple(are_bound)

    def way_out(self) -> str:
        """What messages advise where there is no function."""
        return CALLABLE

    def run_user(self, statics: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the control flow."""
        owners = iter(args)
        functions = [
            types.MethodType(function, next(owners)) if is_bound else function
            for function, is_bound in zip(self.functions, self._are_bound, strict=True)
        ]
        return self._run_flow(*functions, *owners, **kwargs)


def is_eager() -> bool:
    """Whether nothing is being traced."""
    return current_frame() is None and current_trace() is EVAL


def reused(functions: Sequence[Any], key: Hashable, run: Callable[..., Any], transform: str) -> Callable[..., Any]:
    """The compiled control flow over `functions`, the same one for the same functions and `key`."""
    parts = [_unbound(function) for function in functions]
    owners = [owner for _, owner in parts if owner is not None]
    kept = _kept([function for function, _ in parts], [owner is not None for _, owner in parts], key, run, transform)
    return functools.partial(kept, *owners)


def _unbound(function: Any) -> tuple[Any, Any]:
    """A function, and the Node that it is a method of; None where it is none."""
    if isinstance(function, types.MethodType) and is_graph_object(function.__self__):
        return function.__func__, function.__self__
    if is_graph_object(function) and callable(function):
        method: Any = type(function).__call__
        return method, function
    return function, None


def _kept(
    functions: list[Any], are_bound: list[bool], key: Hashable, run: Callable[..., Any], transform: str
) -> ReusedFunction:
    programs = _programs_of(functions[0])
    if programs is None:
        return ReusedFunction(functions, run, transform, are_bound)
    found_key = (transform, *are_bound, StaticKey(key), *map(_identity, functions))
    return programs.find(found_key, functions, are_bound, run, transform)


def _identity(function: Any) -> Hashable:
    """What tells a function from all others, for as long as it is held; a bound method is made anew at each look."""
    if isinstance(function, types.MethodType):
        return id(function.__self__), id(function.__func__)
    return id(function)


def _programs_of(function: Any) -> "_Programs | None":
    """The programs that are kept with a function: on itself, or on the object that it is a method of.

    None where nothing can be kept on that, as on an object with slots.
    """
    if isinstance(function, types.BuiltinFunctionType):
        return _builtins
    holder = function.__self__ if isinstance(function, types.MethodType) else function
    programs = vars(holder).get(_NAME) if hasattr(holder, "__dict__") else None
    if isinstance(programs, _Programs) and programs.owner() is holder:
        return programs
    try:
        programs = _Programs(holder)
        _attach(holder, programs)
    except (AttributeError, TypeError):
        return None
    return programs


def _attach(holder: Any, programs: "_Programs") -> None:
    if isinstance(holder, type):
        setattr(holder, _NAME, programs)
    else:
        vars(holder)[_NAME] = programs  # past what a class does when an attribute is set


def _no_owner() -> None:
    """The owner of no programs."""


class _Programs:
    """The programs of one function, which it is told by: `functools.wraps` copies what stands in a `__dict__`."""

    def __init__(self, owner: Any) -> None:
        self.owner = weakref.ref(owner)
        self._table: OrderedDict[Hashable, ReusedFunction] = OrderedDict()

    def __reduce__(self) -> Any:
        # A copy of the function, or what a pickle makes of it, is another function, with programs of its own.
        return _Programs, (_no_owner,)

    def find(
        self,
        key: Hashable,
        functions: list[Any],
        are_bound: list[bool],
        run: Callable[..., Any],
        transform: str,
    ) -> ReusedFunction:
        """The compiled control flow that is kept under `key`; the ids in that are of functions which it holds."""
        kept = self._table.get(key)
        if kept is None:
            kept = self._table[key] = ReusedFunction(functions, run, transform, are_bound)
            while len(self._table) > _KEPT:
                self._table.popitem(last=False)
        return kept


_builtins: Final = _Programs(_no_owner)
"""Builtin functions, as `operator.add`, live as long as this module does."""
