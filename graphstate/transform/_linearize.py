"""`linearize`: the derivative in any direction, forwards, from one run."""

from collections.abc import Callable
from typing import Any

import jax

from graphstate._lift.derivatives._derivative import differentiated
from graphstate._lift.derivatives._tangent import LinearMap
from graphstate.filters import Filter
from graphstate.graph import ParamState

__all__ = ["linearize"]


def linearize(
    function: Callable[..., Any],
    *primals: Any,
    has_aux: bool = False,
    wrt: Filter = ParamState,
    states: Any = None,
) -> Any:
    """The value of a function, and the linear function that is its derivative there.

    The function runs once, here. What `linearize` returns belongs to the values that the States have now: it may be
    called any number of times, also after they were changed, and inside of `jit`; it reads and writes no State, and
    runs no user code. It is a pytree, which transformed functions take and return.

    Args:
        function: returns a pytree of arrays, or the pair of one and aux.
        *primals: its positional arguments: Nodes, States and pytrees of arrays.
        has_aux: whether the function returns (output, aux).
        wrt: the States of Node arguments that are differentiated.
        states: States of the closure that are differentiated too, as in `grad`.

    Returns:
        (output, linear function), or (output, linear function, aux). The linear function takes a tangent for each
        argument, as `jvp` does, and returns the tangent of the output; with `states` it takes two arguments, the
        tangents of the states and the tuple of those of the arguments: `linear(*tangents)` is what
        `jvp(function, primals, tangents)` gives.

    Raises:
        StateTypeError: an integer or key State is differentiated, or the output holds a Node.
        FilterError: `wrt` selects nothing.
        AliasError: a State is in two arguments, and selected in both.

    Example:
        >>> import graphstate as gs, jax, jax.numpy as jnp
        >>> layer, x = gs.nn.Linear(2, 1), jnp.array([1.0, 3.0])
        >>> y, push_forward = gs.linearize(lambda layer: layer(x), layer)
        >>> direction = jax.tree.map(jnp.ones_like, gs.state(layer, gs.ParamState))
        >>> push_forward(direction).tolist()
        [5.0]

        Many directions at once:

        >>> directions = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), direction)
        >>> jax.vmap(push_forward)(directions).tolist()
        [[5.0], [10.0]]
    """
    with differentiated(function, primals, "linearize", wrt, states, has_aux) as call:
        outputs, pushforward, leaving = jax.linearize(call, call.values, has_aux=True)
        takes = call.tangents("The function that `linearize` returned")
        linear = LinearMap(pushforward, takes, call.output, f"linearize of {call.name}")
        return call.answer(leaving, call.output.build(outputs), linear)
