"""`grad` and `value_and_grad`: derivatives of a scalar by States and arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from graphstate._lift.derivatives._derivative import SCALAR, Derivative, Wanted, derived
from graphstate.filters import Filter
from graphstate.graph import ParamState

__all__ = ["grad", "value_and_grad"]


def grad(
    function: Callable[..., Any] | None = None,
    /,
    argnums: int | Sequence[int] | None = None,
    *,
    wrt: Filter = ParamState,
    states: Any = None,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Any:
    """The gradient of a function that returns a scalar.

    A Node argument is differentiated in the States that `wrt` selects, and its gradient is a GraphState of these; the
    gradient of a State or an array is like its value. States that the function writes keep their values; one that
    is differentiated and written is differentiated at its old value.

    Args:
        function: returns a scalar loss, or (loss, aux).
        argnums: which positional arguments; 0 unless `states` is given.
        wrt: the States of Node arguments that are differentiated.
        states: States of the closure: a State, or a pytree or mapping of States, whose structure the gradient has; for
            `model.states(gs.ParamState)` that is a GraphState with its paths.
        has_aux: whether the function returns (loss, aux).
        holomorphic: as in `jax.grad`.
        allow_int: as in `jax.grad`: integers may be differentiated too, and their gradients have dtype float0.

    Returns:
        The function that returns the gradient, or (gradient, aux). With `states` and `argnums` the gradient is the pair
        (of the states, of the arguments).

    Raises:
        FilterError: `wrt` selects nothing.
        AliasError: a State is in two differentiated arguments.
        StateTypeError: an integer or key is differentiated, or the loss is no scalar.

    Example:
        >>> import graphstate as gs, jax, jax.numpy as jnp
        >>> layer = gs.nn.Linear(2, 1)
        >>> def loss(layer, x, y):
        ...     return jnp.sum((layer(x) - y) ** 2)
        >>> gradient = gs.grad(loss)(layer, jnp.ones(2), jnp.zeros(1))
        >>> gs.update(layer, jax.tree.map(lambda p, g: p - 0.1 * g, gs.state(layer, gs.ParamState), gradient))

        Per-example gradients:

        >>> xs, ys = jnp.ones((5, 2)), jnp.zeros((5, 1))
        >>> gs.vmap(gs.grad(loss), in_axes=(None, 0, 0))(layer, xs, ys)["weight"].shape
        (5, 2, 1)
    """
    wanted = Wanted(argnums, wrt, states, allow_int)
    options = {"holomorphic": holomorphic, "allow_int": allow_int}
    return derived(function, "grad", _grad, wanted, SCALAR, has_aux, **options)


def _grad(call: Derivative, **options: Any) -> Any:
    gradients, leaving = jax.grad(call.scalar, has_aux=True, **options)(call.values)
    return call.answer(leaving, call.form.build(gradients))


def value_and_grad(
    function: Callable[..., Any] | None = None,
    /,
    argnums: int | Sequence[int] | None = None,
    *,
    wrt: Filter = ParamState,
    states: Any = None,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Any:
    """The value of a function that returns a scalar, and its gradient.

    Args:
        function: returns a scalar loss, or (loss, aux).
        argnums: as in `grad`.
        wrt: as in `grad`.
        states: as in `grad`.
        has_aux: as in `grad`.
        holomorphic: as in `grad`.
        allow_int: as in `grad`.

    Returns:
        The function that returns (loss, gradient), or ((loss, aux), gradient).

    Raises:
        FilterError: `wrt` selects nothing.
        AliasError: a State is in two differentiated arguments.
        StateTypeError: an integer or key is differentiated, or the loss is no scalar.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> scale = gs.ParamState(3.0)
        >>> value, gradient = gs.value_and_grad(lambda x: scale.value * x**2, states=scale)(2.0)
        >>> float(value), float(gradient)
        (12.0, 4.0)
    """
    wanted = Wanted(argnums, wrt, states, allow_int)
    options = {"holomorphic": holomorphic, "allow_int": allow_int}
    return derived(function, "value_and_grad", _value_and_grad, wanted, SCALAR, has_aux, **options)


def _value_and_grad(call: Derivative, **options: Any) -> Any:
    gradients, leaving = jax.grad(call.scalar, has_aux=True, **options)(call.values)
    return call.finish(leaving), call.form.build(gradients)
