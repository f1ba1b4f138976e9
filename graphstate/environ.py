"""Settings that reach all of a program without being passed along: `fit`, and whatever a project adds.

A setting is visible through two scopes: that of the contexts which this thread has entered, and behind it one
that all threads share, written by `set`. A scope never changes: entering a context puts a new one on top, `set`
replaces the shared one. The serial numbers of the two in force, a `stamp`, therefore tell in no time whether
any setting can have changed.

A program that is being traced depends on the settings that it reads. Each read is noted in the frames between
the reader and the place where the setting was made: a context entered inside of a transform is that program's
own affair, one entered around it is what its cache is keyed by. Arrays are kept in Cells, and so become inputs
of the program instead of constants.
"""

import inspect
import itertools
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import ContextDecorator
from typing import Any, Final, NamedTuple, TypeVar

import jax
import numpy as np

from graphstate._compat import EVAL, Trace, Tracer, current_trace, enclosing_traces, is_caching
from graphstate._trace import MISSING, Cell, Frame, current_frame, user_stacklevel
from graphstate.errors import GraphStateError, StaleReadWarning, StateTypeError, TraceContextError

__all__ = ["Setting", "SettingError", "all", "context", "depend_on", "get", "lookup", "reset", "set", "stamp"]

Function = TypeVar("Function", bound=Callable[..., Any])


class SettingError(GraphStateError, KeyError):
    """A setting was read that is set nowhere, and no default was given."""

    def __str__(self) -> str:
        return str(self.args[0])


class Setting(Cell):
    """The place of a setting that is an array."""

    __slots__ = ()


class _Made(NamedTuple):
    """What a setting holds, and where it was made: process-wide, or in a context entered in a frame and a trace."""

    held: Any
    frame: Frame | None = None
    trace: Trace = EVAL


class _Scope(NamedTuple):
    """Settings by name, those of the scopes underneath included, and a number that no other scope has."""

    settings: Mapping[str, _Made]
    serial: int


_UNSET: Final = _Made(MISSING)
_UNTOUCHED: Final = _Scope({"fit": _Made(False)}, 0)
_serials: Final = itertools.count(1)


class _Shared:
    """The scope that all threads share; replaced as a whole, by one writer at a time."""

    def __init__(self) -> None:
        self.scope = _UNTOUCHED
        self.writing = threading.Lock()


class _Local(threading.local):
    """The scopes of the contexts that this thread is in, innermost last."""

    def __init__(self) -> None:
        self.scopes = [_Scope({}, 0)]


_shared: Final = _Shared()
_local: Final = _Local()


# Writing


def set(**settings: Any) -> None:
    """Makes settings for all threads; a context's value hides them.

    Args:
        settings: hashable values or arrays, by name.

    Raises:
        StateTypeError: a value is neither hashable nor an array.
        TraceContextError: a function is being traced, or a value is a tracer.

    Example:
        >>> from graphstate import environ
        >>> environ.set(precision="high")
        >>> environ.get("precision")
        'high'
        >>> environ.reset()
    """
    _check_settings("set", settings)
    if current_frame() is not None or current_trace() is not EVAL:
        raise TraceContextError(
            f"`environ.set({', '.join(f'{name}=...' for name in settings)})` was called inside of a transform, where "
            "it would happen when the function is traced, but not when it is run again. "
            "Use `with environ.context(...)` there, or call `set` outside."
        )
    for name, value in settings.items():
        if isinstance(value, Tracer):
            raise TraceContextError(
                f"`environ.set({name}=...)` was given a tracer of a trace that has ended. "
                "Return the value from the transformed function, or use `with environ.context(...)` inside of it."
            )
    made = {name: _Made(_hold(value)) for name, value in settings.items()}
    with _shared.writing:
        _shared.scope = _Scope({**_shared.scope.settings, **made}, next(_serials))


def reset() -> None:
    """Forgets what `set` has made: only `fit`, which is False, is left.

    Example:
        >>> from graphstate import environ
        >>> environ.set(fit=True)
        >>> environ.reset()
        >>> environ.all()
        {'fit': False}
    """
    with _shared.writing:
        _shared.scope = _UNTOUCHED._replace(serial=next(_serials))


def context(**settings: Any) -> "_Context":
    """Makes settings for this thread and one block, or for one function.

    Args:
        settings: hashable values or arrays, by name; arrays may be traced.

    Returns:
        A context manager, which is a decorator too and may be used again.

    Raises:
        StateTypeError: a value is neither hashable nor an array.

    Example:
        >>> from graphstate import environ
        >>> with environ.context(fit=True):
        ...     environ.get("fit")
        True
        >>> @environ.context(fit=True)
        ... def is_fitting():
        ...     return environ.get("fit")
        >>> is_fitting(), environ.get("fit")
        (True, False)
    """
    _check_settings("context", settings)
    return _Context(settings)


class _Context(ContextDecorator):
    """Holds nothing of the block that it is used for, so that one may serve many threads and nest in itself."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings

    def __call__(self, func: Function) -> Function:
        if inspect.isgeneratorfunction(func) or inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func):
            raise StateTypeError(
                f"`environ.context` decorates plain functions, but {func.__qualname__} is a generator or coroutine: "
                "its body runs after the call has returned. Use `with environ.context(...)` inside of it."
            )
        return super().__call__(func)

    def __enter__(self) -> None:
        frame, trace = current_frame(), current_trace()
        made = {name: _Made(_hold(value), frame, trace) for name, value in self._settings.items()}
        _local.scopes.append(_Scope({**_local.scopes[-1].settings, **made}, next(_serials)))
        _part_caches(frame)

    def __exit__(self, *_: object) -> None:
        _local.scopes.pop()
        _part_caches(current_frame())


# Reading


def get(name: str, default: Any = MISSING) -> Any:
    """The value of a setting: that of the innermost context of this thread, else the one made by `set`.

    A graphstate transform that reads a setting is traced anew when it has changed; an array is an input instead.

    Args:
        name: which setting.
        default: what to return where it is not set.

    Raises:
        SettingError: the setting is not set and there is no default; a `KeyError`.

    Example:
        >>> from graphstate import environ
        >>> environ.get("fit")
        False
        >>> environ.get("precision", default="low")
        'low'
    """
    held = depend_on(name)
    if held is not MISSING:
        return held.value if type(held) is Setting else held
    if default is not MISSING:
        return default
    raise SettingError(
        f"`environ.get({name!r})` found no such setting; those set here are: {', '.join(sorted(_visible()))}. "
        f"Set it with `environ.context({name}=...)` or `environ.set({name}=...)`, or give a default: "
        f"`environ.get({name!r}, default=...)`."
    )


def all() -> dict[str, Any]:
    """Every setting that this thread sees, by name.

    Raises:
        TraceContextError: a function is being traced.

    Example:
        >>> from graphstate import environ
        >>> with environ.context(depth=3):
        ...     environ.all()
        {'fit': False, 'depth': 3}
    """
    if current_frame() is not None or current_trace() is not EVAL:
        raise TraceContextError(
            "`environ.all()` was called inside of a transform, which would then depend on every setting, "
            "those not made yet included. "
            "Read the settings that it needs one by one, with `environ.get(name)`, or call `all` outside."
        )
    return {name: get(name) for name in _visible()}


def lookup(name: str) -> Any:
    """What a setting holds for this thread, noted nowhere: a static value, a `Setting` (a Cell) or `MISSING`."""
    return _find(name).held


def lookup_all() -> dict[str, Any]:
    """As `lookup`, of every setting that this thread sees, by name."""
    return {name: made.held for name, made in _visible().items()}


def depend_on(name: str) -> Any:
    """As `lookup`, noted in the frames that the setting reaches into, as if the traced functions had read it."""
    made = _find(name)
    if current_frame() is not None or current_trace() is not EVAL:
        _note_read(name, made)
    return made.held


def stamp() -> object:
    """Equal to an earlier stamp of this thread where no setting that it sees can have changed since."""
    return _shared.scope.serial, _local.scopes[-1].serial


def _find(name: str) -> _Made:
    return _local.scopes[-1].settings.get(name) or _shared.scope.settings.get(name, _UNSET)


def _visible() -> dict[str, _Made]:
    return {**_shared.scope.settings, **_local.scopes[-1].settings}


# What a traced program depends on


def _note_read(name: str, made: _Made) -> None:
    """Notes a read in every frame from the reader out to where the setting was made.

    Where plain JAX is tracing a program of its own on the way, what it caches has to be told apart. The search for
    such ends at a frame that builds a program: what lies around that depends on where the program is called, and
    the transform says so there, by `depend_on`.
    """
    frame, trace = current_frame(), current_trace()
    searching = True
    while True:
        if searching and _is_cached(trace, frame, made):
            _note_cached_read(name, made, frame, trace)
        if frame is None or frame is made.frame:
            return
        if type(made.held) is Setting:
            frame.setting_cells[id(made.held)] = name
        else:
            frame.settings.setdefault(name, made.held)
        searching = searching and not frame.builds_program
        trace = frame.outer
        frame = frame.parent


def _is_cached(trace: Trace, frame: Frame | None, made: _Made) -> bool:
    """Whether plain JAX caches a program that is being traced inside of `frame` and of where the setting was made."""
    for each in enclosing_traces(trace):
        if each is made.trace or (frame is not None and each is frame.trace):
            return False
        if is_caching(each):
            return True
    return False


_reads: Final = object()
"""Stands for all settings among the foreign reads of a frame."""


def _note_cached_read(name: str, made: _Made, frame: Frame | None, trace: Trace) -> None:
    if frame is not None and frame.compiled:
        frame.note_foreign_read(_reads, trace, None)
    elif type(made.held) is not Setting:  # reading a Cell warns by itself
        worth = "its absence" if made.held is MISSING else f"its present value, {str(made.held)[:40]},"
        warnings.warn(
            "Plain JAX (`jax.jit`, `jax.lax.scan`, ...) is tracing a program that it will cache, and the setting "
            f"{name!r} was read in it: {worth} becomes a constant of that program, and later changes are not seen. "
            "Use `graphstate.jit` (or `graphstate.scan`, `graphstate.cond`, ...) instead, "
            f"or `environ.context({name}=...)` inside.",
            StaleReadWarning,
            stacklevel=user_stacklevel(),
        )


def _part_caches(frame: Frame | None) -> None:
    """Keeps what plain JAX cached in `frame` before the settings changed from being found after it."""
    if frame is not None and id(_reads) in frame.foreign_reads:
        frame.renew_token()


# Values


_ARRAYS: Final = (np.ndarray, jax.Array)


def _hold(value: Any) -> Any:
    return Setting(value) if isinstance(value, _ARRAYS) else value


def _check_settings(call: str, settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if isinstance(value, _ARRAYS):
            continue
        if isinstance(value, Cell):
            raise StateTypeError(
                f"A setting is a hashable value or an array, but `environ.{call}({name}=...)` got a "
                f"{type(value).__name__}. Give its `.value`, or let the function reach the State itself, "
                "through its closure or an argument."
            )
        try:
            hash(value)
        except TypeError:
            raise StateTypeError(
                f"A setting is a hashable value or an array, but `environ.{call}({name}=...)` got "
                f"{str(value)[:60]!r}, a {type(value).__name__}. Use a tuple for a list, a frozenset for a set, "
                "and one setting for each array."
            ) from None
