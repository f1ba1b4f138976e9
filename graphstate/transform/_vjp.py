"""`vjp`: the derivative of one combination of the outputs, backwards."""

from collections.abc import Callable
from typing import Any

import jax

from graphstate._lift.derivatives._derivative import differentiated
from graphstate._lift.derivatives._tangent import LinearMap
from graphstate.filters import Filter
from graphstate.graph import ParamState

__all__ = ["vjp"]


def vjp(
    function: Callable[..., Any],
    *primals: Any,
    has_aux: bool = False,
    wrt: Filter = ParamState,
    states: Any = None,
) -> Any:
    """The value of a function, and the function that takes a cotangent of it back to the arguments.

    The function runs once, here. What `vjp` returns belongs to the values that the States have now: it may be called
    any number of times, also after they were changed, and inside of `jit`; it reads and writes no State, and runs no
    user code. It is a pytree, which transformed functions take and return.

    Args:
        function: returns a pytree of arrays, or the pair of one and aux.
        *primals: its positional arguments: Nodes, States and pytrees of arrays. All are differentiated; of integers,
            bools and keys the cotangent has dtype float0, as in JAX.
        has_aux: whether the function returns (output, aux).
        wrt: the States of Node arguments that are differentiated.
        states: States of the closure that are differentiated too, as in `grad`.

    Returns:
        (output, vjp function), or (output, vjp function, aux). The vjp function takes a cotangent like the output, and
        returns the tuple of the cotangents of the arguments: a GraphState for a Node, like its value for a State. With
        `states` it returns the pair (of the states, that tuple), which is empty where there are no arguments.

    Raises:
        StateTypeError: an integer or key State is differentiated, or the output holds a Node.
        FilterError: `wrt` selects nothing.
        AliasError: a State is in two arguments, and selected in both.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> layer, x = gs.nn.Linear(2, 1), jnp.array([1.0, 3.0])
        >>> y, pull_back = gs.vjp(lambda layer, x: layer(x), layer, x)
        >>> of_layer, of_x = pull_back(jnp.ones_like(y))
        >>> of_layer["weight"].tolist(), of_x.shape
        ([[1.0], [3.0]], (2,))

        By States of the closure:

        >>> y, pull_back = gs.vjp(lambda: layer(x), states=layer.states(gs.ParamState))
        >>> of_states, _ = pull_back(jnp.ones_like(y))
        >>> of_states["bias"].tolist()
        [1.0]
    """
    with differentiated(function, primals, "vjp", wrt, states, has_aux) as call:
        outputs, pullback, leaving = jax.vjp(call, call.values, has_aux=True)
        takes = call.cotangents(outputs, "The function that `vjp` returned")
        linear = LinearMap(jax.tree_util.Partial(_of_values, pullback), takes, call.form, f"vjp of {call.name}")
        return call.answer(leaving, call.output.build(outputs), linear)


def _of_values(pullback: Any, cotangents: list[Any]) -> Any:
    (of_values,) = pullback(cotangents)
    return of_values
