"""`custom_jvp`: a function with a tangent of its own."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from graphstate._lift.derivatives._custom_jvp import JvpCall
from graphstate._lift.derivatives._ruled import RuledFunction
from graphstate.filters import Filter
from graphstate.graph import ParamState

__all__ = ["CustomJvpFunction", "custom_jvp"]


class CustomJvpFunction(RuledFunction):
    """What `custom_jvp` returns."""

    transform = "custom_jvp"
    definition = "f.defjvp(rule)"
    call = JvpCall

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Gives the rule; usable as a decorator.

        Args:
            rule: takes (primals, tangents), static arguments before them, and returns (result, tangent of the result).
                The tangent of a Node is a GraphState of the States that `wrt` selects, that of a State a value. With
                `states`, `tangents` is the pair (tangents of these, tuple of those of the arguments). It writes the
                States that the function writes, and is linear in the tangents.

        Raises:
            RuleError: it is no function.
        """
        self.define(rule)
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """Gives a rule for each argument, all of them arrays; None for a derivative of zero.

        Args:
            *rules: each takes (tangent of its argument, result, *arguments), and returns its part of the tangent.

        Raises:
            RuleError: one of them is no function.
        """

        def rule(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
            result = self(*primals)
            parts = [
                each(tangent, result, *primals)
                for each, tangent in zip(rules, tangents, strict=True)
                if each is not None
            ]
            zero = jax.tree.map(jnp.zeros_like, result)
            return result, functools.reduce(functools.partial(jax.tree.map, jnp.add), parts, zero)

        self.define(rule, parts=[each for each in rules if each is not None])


def custom_jvp(
    function: Callable[..., Any] | None = None,
    /,
    *,
    nondiff_argnums: int | Sequence[int] = (),
    nondiff_argnames: str | Iterable[str] = (),
    wrt: Filter = ParamState,
    states: Any = None,
) -> Any:
    """Gives a function a rule for its tangent, as `jax.custom_jvp` does; it serves both modes of differentiation.

    The rule says the derivative of the result by the arguments (of a Node, by the States that `wrt` selects) and by
    `states`. Where the derivative by another State is wanted an error says so. The derivative of a State that the
    function writes is that of its own operations.

    A call is eager, or traces the function and the rule once each, whether it is differentiated or not. A rule that
    calls the function, and reads States that it does not read, is traced twice.

    Args:
        function: returns a pytree of arrays.
        nondiff_argnums: positional arguments that are static: handed on as they are.
        nondiff_argnames: names of such arguments.
        wrt: the States of Node arguments that the rule differentiates by.
        states: States of the closure that it differentiates by: a State, or a pytree or mapping of States.

    Returns:
        The function, with the methods `defjvp(rule)` and `defjvps(*rules)`.

    Raises:
        RuleError: there is no rule; rule and function return or write different things; a derivative is wanted that
            the rule does not know.
        TangentError: the tangent of the result is not like the result.

    Example:
        A step with the slope of a line:

        >>> import graphstate as gs, jax, jax.numpy as jnp
        >>> threshold = gs.ParamState(0.5)
        >>> @gs.custom_jvp(states=threshold)
        ... def spike(x):
        ...     return jnp.where(x > threshold.value, 1.0, 0.0)
        >>> @spike.defjvp
        ... def rule(primals, tangents):
        ...     of_threshold, (of_x,) = tangents
        ...     return spike(*primals), of_x - of_threshold
        >>> gs.grad(spike, 0, states=threshold)(0.7)
        (Array(-1., dtype=float32, weak_type=True), Array(1., dtype=float32, weak_type=True))
    """

    def transform(function: Callable[..., Any]) -> CustomJvpFunction:
        return CustomJvpFunction(function, wrt, states, nondiff_argnums, nondiff_argnames)

    return transform if function is None else transform(function)
