"""`jvp`: the derivative in one direction, forwards."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from graphstate._lift.call._arguments import shown
from graphstate._lift.derivatives._derivative import differentiated
from graphstate.errors import TangentError
from graphstate.filters import Filter
from graphstate.graph import ParamState

__all__ = ["jvp"]


def jvp(
    function: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    has_aux: bool = False,
    wrt: Filter = ParamState,
    states: Any = None,
) -> Any:
    """The value of a function, and its derivative in the direction of `tangents`, in one run.

    The tangent of a Node is a GraphState of the States that `wrt` selects, that of a State is like its value, that of
    an array an array; that of an integer, bool or key has dtype float0, as in JAX. States that the function writes
    keep their values; one that is differentiated and written is differentiated at its old value.

    Args:
        function: returns a pytree of arrays, or the pair of one and aux.
        primals: its positional arguments, a tuple or list: Nodes, States and pytrees of arrays.
        tangents: a tangent for each of them; with `states` the pair (of the states, of the arguments).
        has_aux: whether the function returns (output, aux).
        wrt: the States of Node arguments that are differentiated.
        states: States of the closure that are differentiated too, as in `grad`.

    Returns:
        (output, its tangent), or (output, its tangent, aux).

    Raises:
        TangentError: a tangent has another structure, shape or dtype than what it belongs to.
        StateTypeError: an integer or key State is differentiated, or the output holds a Node.
        FilterError: `wrt` selects nothing.
        AliasError: a State is in two arguments, and selected in both.

    Example:
        The product of the Hessian with a vector, without the Hessian:

        >>> import graphstate as gs, jax, jax.numpy as jnp
        >>> layer, x = gs.nn.Linear(2, 1), jnp.array([1.0, 3.0])
        >>> def loss(layer):
        ...     return jnp.sum(layer(x) ** 2)
        >>> direction = jax.tree.map(jnp.ones_like, gs.state(layer, gs.ParamState))
        >>> gradient, product = gs.jvp(gs.grad(loss), (layer,), (direction,))
        >>> product["weight"].tolist()
        [[10.0], [30.0]]

        By States of the closure:

        >>> scale = gs.ParamState(3.0)
        >>> value, tangent = gs.jvp(lambda x: scale.value * x, (2.0,), (1.0, (0.0,)), states=scale)
        >>> float(value), float(tangent)
        (6.0, 2.0)
    """
    if type(primals) not in (tuple, list):
        raise TangentError(
            "`jvp` takes primals and tangents as tuples or lists with an entry for each positional argument, but the "
            f"primals are {shown(primals)}. Write `jvp(function, (x,), (tangent,))`."
        )
    with differentiated(function, primals, "jvp", wrt, states, has_aux) as call:
        given = call.tangents("`jvp`").take(_as_tuples(tangents, states))
        outputs, derivatives, leaving = jax.jvp(call, (call.values,), (given,), has_aux=True)
        return call.answer(leaving, call.output.build(outputs), call.output.build(derivatives))


def _as_tuples(tangents: Any, states: Any) -> Any:
    """The tangents, with a tuple of those of the arguments where they are a list."""
    if isinstance(tangents, list):
        tangents = tuple(tangents)
    if states is not None and type(tangents) is tuple and len(tangents) == 2 and isinstance(tangents[1], list):
        return tangents[0], tuple(tangents[1])
    return tangents
