"""How every check begins: the point that is looked at, and what cannot be looked at."""

from typing import Any

from graphstate._lift.call._arguments import function_name
from graphstate.errors import StateTypeError
from graphstate.testing._case import BatchCase
from graphstate.testing._outcome import Outcome
from graphstate.testing._point import Point
from graphstate.testing._tolerance import Tol

__all__ = ["point_of", "refuse_draws"]


def point_of(check: str, claim: str, function: Any, case: Any, tol: Tol | None, batched: bool) -> Point:
    """The point that a check looks at.

    Raises:
        StateTypeError: there is nothing to call, the case is none, or `tol` no `Tol`.
    """
    if not callable(function):
        raise StateTypeError(
            f"`{check}` calls what it checks, but got {str(function)[:60]!r} of type {type(function).__name__}. Give a "
            "function, a method, or a Node with a `__call__`."
        )
    if not isinstance(case, BatchCase):
        raise StateTypeError(
            f"`{check}` needs a `BatchCase` with the arguments of all lanes, but got a {type(case).__name__}. Write "
            f"`{check}({function_name(function)}, BatchCase(axis_size, args))`."
        )
    if tol is not None and not isinstance(tol, Tol):
        raise StateTypeError(f"`tol` is a `Tol`, as `Tol(k=64)`, but `{check}` got {tol!r}.")
    return Point(check, claim, function, case, tol or Tol(), batched)


def refuse_draws(point: Point, outcome: Outcome) -> None:
    """Says where a batched function cannot be judged.

    Raises:
        StateTypeError: it draws for the batch as a whole, so that other batches have other numbers by right.
    """
    if point.batched and outcome.drew:
        raise StateTypeError(
            f"`{point.check}` compares batches, but `{point.name}` draws random numbers for a batch as a whole, which "
            "differ from those of any other batch by right. Switch that off (dropout by `fit=False`), give keys as an "
            "argument with a lane axis, check the function of one lane without `batched=True`, or use `check_rng`."
        )
