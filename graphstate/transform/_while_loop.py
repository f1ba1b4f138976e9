"""`while_loop` and `fori_loop`: loops whose number of steps a value decides."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._lift.call._lifted import watched
from graphstate._lift.call._types import convert
from graphstate._lift.flow._loop import LoopCall
from graphstate._lift.flow._while import WhileCall
from graphstate._lift.programs._reuse import is_eager, reused
from graphstate.errors import StateTypeError

__all__ = ["fori_loop", "while_loop"]


def while_loop(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any) -> Any:
    """Calls `body_fun` as long as `cond_fun` is true, as `jax.lax.while_loop` does.

    States that the body writes are carried from step to step, and the condition sees them. A Node in the carry comes
    back as the same Node. Every step draws afresh. As in JAX, such a loop has no gradient in reverse mode.

    Args:
        cond_fun: takes the carry, and returns a bool[]; it writes no State and draws nothing.
        body_fun: takes the carry, and returns the next.
        init_val: the carry before the first step: a pytree of Nodes, States and arrays.

    Returns:
        The last carry.

    Raises:
        CarryError: the carry, or a State that is written, changes its structure, shape or dtype.
        StructureError: the structure of a Node is changed inside.
        StateTypeError: the condition is no boolean scalar.
        TraceContextError: the condition writes a State.

    Example:
        >>> import graphstate as gs
        >>> steps = gs.State(0)
        >>> def halve(x):
        ...     steps.value += 1
        ...     return x / 2
        >>> float(gs.while_loop(lambda x: x > 1, halve, 20.0)), int(steps.value)
        (0.625, 5)
    """
    if is_eager():
        return reused((body_fun, cond_fun), (), _while_loop, "while_loop")(init_val)
    return _while_loop(body_fun, cond_fun, init_val)


def _while_loop(body_fun: Callable[[Any], Any], cond_fun: Callable[[Any], Any], init_val: Any) -> Any:
    return WhileCall(cond_fun, body_fun, init_val, "while_loop").run()


def fori_loop(
    lower: Any,
    upper: Any,
    body_fun: Callable[[Any, Any], Any],
    init_val: Any,
    *,
    unroll: int | bool | None = None,
) -> Any:
    """Calls `body_fun` for each index from `lower` up to `upper`, as `jax.lax.fori_loop` does.

    States that the body writes are carried from step to step, as in `scan`. Where both bounds are known when the loop
    is traced it has a gradient in reverse mode; Python ints are part of the program, arrays are not.

    Args:
        lower: the first index, an integer.
        upper: the index to stop before, an integer.
        body_fun: takes (index, carry), and returns the next carry.
        init_val: the carry before the first step: a pytree of Nodes, States and arrays.
        unroll: as in `jax.lax.scan`; only where both bounds are known.

    Returns:
        The last carry.

    Raises:
        CarryError: the carry, or a State that is written, changes its structure, shape or dtype.
        StructureError: the structure of a Node is changed inside.
        StateTypeError: a bound is no integer scalar, the bounds have no common type, or `unroll` is given and a bound
            is not known.

    Example:
        >>> import graphstate as gs
        >>> gs.fori_loop(0, 5, lambda i, total: total + i, 0).item()
        10
    """
    first, stop = _bound("lower", lower), _bound("upper", upper)
    if not is_eager():
        return _fori_loop(body_fun, first, stop, init_val, unroll=unroll)
    if any(isinstance(bound, jax.Array) for bound in (lower, upper)):
        run = functools.partial(_fori_loop, unroll=unroll)
        return reused((body_fun,), (unroll,), run, "fori_loop")(first, stop, init_val)
    run = functools.partial(_counted, lower=first, upper=stop, unroll=unroll)
    return reused((body_fun,), (first, stop, unroll), run, "fori_loop")(None, init_val)


def _bound(name: str, value: Any) -> Any:
    """A bound, as an int if its value is known: as in JAX, its dtype is not that of the index then."""
    is_array = isinstance(value, int | np.integer | jax.Array | np.ndarray)
    if is_array and np.shape(value) == () and jnp.issubdtype(jnp.result_type(value), jnp.integer):
        return value if isinstance(value, jax.core.Tracer) else int(value)
    raise StateTypeError(
        f"`{name}` of `fori_loop` is an integer, but it is {str(value)[:60]!r} of type {type(value).__name__}. "
        "Convert it, as with `int(...)` or `.astype(int)`."
    )


def _fori_loop(body_fun: Callable[..., Any], lower: Any, upper: Any, init: Any, *, unroll: int | bool | None) -> Any:
    if isinstance(lower, int) and isinstance(upper, int):
        return _counted(body_fun, None, init, lower=lower, upper=upper, unroll=unroll)
    if unroll is not None:
        raise StateTypeError(
            "`unroll` of `fori_loop` needs bounds that are known when the loop is traced, but one of them is an array "
            "of the trace. Leave `unroll` out, or pass ints."
        )
    first, stop = _alike(lower, upper)

    def step(carry: tuple[Any, Any]) -> tuple[Any, Any]:
        value, index = carry
        return body_fun(index, value), index + 1

    carry = init, first
    return WhileCall(lambda carry: carry[1] < stop, step, carry, "fori_loop", body_fun).run()[0]


def _alike(lower: Any, upper: Any) -> list[Any]:
    """The bounds, of which one is an array of the trace, with one type.

    Raises:
        StateTypeError: they have none; nothing is cut off to make one.
    """
    types = [jax.typeof(bound) for bound in (lower, upper) if not isinstance(bound, int)]
    wanted = types[0]
    told = [str(bound) if isinstance(bound, int) else jax.typeof(bound).str_short() for bound in (lower, upper)]
    limits = jnp.iinfo(wanted.dtype)  # type: ignore[no-untyped-call]
    if any(each.dtype != wanted.dtype for each in types) or any(
        isinstance(bound, int) and not limits.min <= bound <= limits.max for bound in (lower, upper)
    ):
        raise StateTypeError(
            f"`lower` and `upper` of `fori_loop` are integers of one type, but they are {told[0]} and {told[1]}. "
            "Convert one of them."
        )
    strong = [each for each in types if not each.weak_type]
    return [convert(bound, (strong or types)[0]) for bound in (lower, upper)]


def _counted(
    body_fun: Callable[..., Any], _: None, init: Any, *, lower: int, upper: int, unroll: int | bool | None
) -> Any:
    def step(carry: tuple[Any, Any], x: None) -> tuple[tuple[Any, Any], None]:
        value, index = carry
        return (body_fun(index, value), index + 1), None

    loop = LoopCall(body_fun, step, (init, lower), None, watched(body_fun, "fori_loop"), "fori_loop")
    (last, _), _ = loop.run(max(0, upper - lower), reverse=False, unroll=1 if unroll is None else unroll)
    return last
