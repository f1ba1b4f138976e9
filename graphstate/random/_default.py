"""The RandomState that functions draw from, and how its methods become functions."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import jax

from graphstate._trace import Packed, Place, settle
from graphstate.graph import State

from ._key import to_key
from ._state import RandomState

__all__ = ["DEFAULT", "Deferred", "of_default"]

P = ParamSpec("P")
R = TypeVar("R")

_SEED: Final = 0


class Deferred(Packed):
    """A value that is made when it is first read, and outside of every trace."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def checked(self) -> Any:
        """The value; the same one each time."""
        try:
            return self._value
        except AttributeError:
            with jax.ensure_compile_time_eval():
                self._value = self._make()
            return self._value

    def copied(self) -> "Deferred":
        """Itself: a key is no container."""
        return self


def _unstarted(seed: int, name: str) -> RandomState:
    """A RandomState whose key is made when it is first drawn from: no backend is started before."""
    rng = RandomState.__new__(RandomState)
    State.__init__(rng, None)
    # The import may run inside of a trace, and from the import machinery: neither is where this State belongs.
    rng._home = None
    rng._place = Place(_unstarted.__code__.replace(co_filename=name), 0)
    settle(rng, Deferred(functools.partial(to_key, seed)))
    return rng


DEFAULT: Final = _unstarted(_SEED, "graphstate.random.DEFAULT")
"""What the functions of `graphstate.random` draw from; every process starts with the same seed."""


def of_default(method: Callable[Concatenate[RandomState, P], R]) -> Callable[P, R]:
    """`method` of `DEFAULT`, as a function that is pickled by its name."""

    @functools.wraps(method)
    def function(*args: P.args, **kwargs: P.kwargs) -> R:
        return method(DEFAULT, *args, **kwargs)

    signature = inspect.signature(method)
    _, *parameters = signature.parameters.values()
    function.__module__ = __package__
    function.__qualname__ = function.__name__
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function
