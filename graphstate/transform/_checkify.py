"""`checkify`: checks inside of compiled code, as values."""

import functools
from collections.abc import Callable
from typing import Any

from graphstate._lift.call._captured import Operands, capture, finish, read_captured
from graphstate._lift.call._lifted import Lifted, watched
from graphstate._lift.programs._reuse import is_eager, reused

__all__ = ["CheckedFunction", "checkify"]


class CheckedFunction(Lifted):
    """What `checkify` returns."""

    transform = "checkify"

    def __init__(self, function: Callable[..., Any], errors: Any) -> None:
        super().__init__(function)
        self._errors = errors

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the function; returns its first error, and its result."""
        run = functools.partial(_checked, self._errors)
        if is_eager():
            return reused((self.function,), self._errors, run, self.transform)(*args, **kwargs)
        return run(self.function, *args, **kwargs)


def _checked(errors: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    operands = Operands(args, kwargs, "checkify", function)
    program = capture(function, operands, watched(function, "checkify"), "checkify")
    operands.open_streams([program])

    def run(values: list[Any], arrays: list[Any], captured: list[Any]) -> Any:
        return program.run((values, arrays), captured)

    from jax.experimental import checkify as jax_checkify  # it imports Pallas: 15 ms that few programs need

    checked = jax_checkify.checkify(run, jax_checkify.user_checks if errors is None else errors)
    error, outputs = checked(operands.values, operands.arrays, read_captured(program))
    return error, finish(program.note, operands.arguments, outputs)


def checkify(function: Callable[..., Any] | None = None, /, *, errors: Any = None) -> Any:
    """Makes the checks in a function a value that it returns, as `jax.experimental.checkify.checkify` does.

    The error is looked at outside: `error.throw()` raises the first check that failed. States that the function writes
    hold what it computed, checks failed or not: JAX goes on computing.

    Args:
        function: takes Nodes, States and pytrees of arrays, and may call `jax.experimental.checkify.check`.
        errors: which checks: of `jax.experimental.checkify`, `user_checks`, `nan_checks`, `index_checks`,
            `div_checks`, `float_checks`, `all_checks`, or a union of these; None for `user_checks`.

    Returns:
        The function that returns (error, result).

    Raises:
        StateTypeError: an argument, or a leaf of the result, is neither a Node, a State nor an array.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> from jax.experimental import checkify
        >>> @gs.jit
        ... @gs.checkify
        ... def root(x):
        ...     checkify.check(x >= 0, "{x} has no root", x=x)
        ...     return jnp.sqrt(x)
        >>> error, result = root(4.0)
        >>> error.get(), float(result)
        (None, 2.0)
        >>> root(-1.0)[0].throw()
        Traceback (most recent call last):
        jax._src.checkify.JaxRuntimeError: -1.0 has no root (`check` failed)
    """

    def transform(function: Callable[..., Any]) -> CheckedFunction:
        return CheckedFunction(function, errors)

    return transform if function is None else transform(function)
