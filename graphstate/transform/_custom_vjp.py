"""`custom_vjp`: a function with a backward pass of its own."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from graphstate._lift.call._static_arguments import bind_static
from graphstate._lift.derivatives._custom_vjp import VjpCall
from graphstate._lift.derivatives._ruled import RuledFunction
from graphstate.filters import Filter
from graphstate.graph import ParamState

__all__ = ["CustomVjpFunction", "custom_vjp"]


class CustomVjpFunction(RuledFunction):
    """What `custom_vjp` returns."""

    transform = "custom_vjp"
    definition = "f.defvjp(fwd, bwd)"
    call = VjpCall

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Gives the rules.

        Args:
            fwd: takes the arguments of the function, and returns (result, residuals). Residuals are a pytree of Nodes,
                States and arrays. It writes the States that the function writes.
            bwd: takes (residuals, cotangent of the result), static arguments before them, and returns a tuple with the
                cotangent of each argument: of a Node a GraphState of the States that `wrt` selects, of a State a
                value; None for zero. With `states`, the pair (cotangents of these, that tuple). It writes nothing.

        Raises:
            RuleError: one of them is no function.
        """
        self.define(fwd, bwd)

    def bound_rules(self, args: tuple[Any, ...], static: Sequence[int]) -> tuple[Callable[..., Any], ...]:
        """The forward rule takes static arguments in their places, the backward rule takes them first."""
        forward, _ = bind_static(self.rules[0], args, static, "nondiff_argnums")
        return forward, super().bound_rules(args, static)[1]


def custom_vjp(
    function: Callable[..., Any] | None = None,
    /,
    *,
    nondiff_argnums: int | Sequence[int] = (),
    nondiff_argnames: str | Iterable[str] = (),
    wrt: Filter = ParamState,
    states: Any = None,
) -> Any:
    """Gives a function a rule for reverse-mode differentiation, as `jax.custom_vjp` does.

    The rules say the derivative of the result by the arguments (of a Node, by the States that `wrt` selects) and by
    `states`. Where the derivative by another State is wanted, or a loss depends on a State that the function writes,
    an error says so; inside of compiled code, where the second is not known in time, the gradient is NaN. What the
    backward rule reads from States is what they were at the call.

    A call is eager, or traces the function and both rules once each, whether it is differentiated or not. Rules that
    call the function, and read States that it does not read, are traced twice.

    Args:
        function: returns a pytree of arrays.
        nondiff_argnums: positional arguments that are static: handed on as they are.
        nondiff_argnames: names of such arguments.
        wrt: the States of Node arguments that the rules differentiate by.
        states: States of the closure that they differentiate by: a State, or a pytree or mapping of States.

    Returns:
        The function, with the method `defvjp(fwd, bwd)`.

    Raises:
        RuleError: there are no rules; rules and function return or write different things; the backward rule writes;
            a derivative is wanted that the rules do not know.
        TangentError: a cotangent is not like the value that it belongs to.

    Example:
        Gradients that are clipped on the way back:

        >>> import graphstate as gs, jax, jax.numpy as jnp
        >>> @gs.custom_vjp
        ... def apply(layer, x):
        ...     return layer(x)
        >>> def forward(layer, x):
        ...     result, pullback = gs.vjp(lambda layer, x: layer(x), layer, x)
        ...     return result, pullback
        >>> def backward(pullback, cotangent):
        ...     return pullback(jnp.clip(cotangent, -1.0, 1.0))
        >>> apply.defvjp(forward, backward)
        >>> layer = gs.nn.Linear(2, 3)
        >>> gs.grad(lambda layer, x: 100 * jnp.sum(apply(layer, x)))(layer, jnp.ones(2))["bias"].tolist()
        [1.0, 1.0, 1.0]
    """

    def transform(function: Callable[..., Any]) -> CustomVjpFunction:
        return CustomVjpFunction(function, wrt, states, nondiff_argnums, nondiff_argnames)

    return transform if function is None else transform(function)
