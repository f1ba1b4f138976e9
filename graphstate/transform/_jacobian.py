"""Derivatives of more than a scalar: `vector_grad`, `jacrev`, `jacfwd` and `hessian`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from graphstate._lift.derivatives._derivative import FLOATS, VECTOR, Derivative, Wanted, derived
from graphstate.filters import Filter
from graphstate.graph import ParamState

__all__ = ["hessian", "jacfwd", "jacrev", "vector_grad"]


def vector_grad(
    function: Callable[..., Any] | None = None,
    /,
    argnums: int | Sequence[int] | None = None,
    *,
    wrt: Filter = ParamState,
    states: Any = None,
    has_aux: bool = False,
) -> Any:
    """The gradients of all N outputs of a function that returns a vector.

    The function runs once, forwards; its outputs are differentiated backwards, all together.

    Args:
        function: returns float[N], or (float[N], aux).
        argnums: which positional arguments; 0 unless `states` is given.
        wrt: the States of Node arguments that are differentiated.
        states: States of the closure, as in `grad`.
        has_aux: whether the function returns (vector, aux).

    Returns:
        The function that returns the gradients, or (gradients, aux): the structure of what is differentiated, as in
        `grad`, with leaves of shape (N, *leaf.shape).

    Raises:
        StateTypeError: the function returns anything else than a one-dimensional array of floats.
        FilterError: `wrt` selects nothing.
        AliasError: a State is in two differentiated arguments.

    Example:
        Per-example gradients, of one call on the whole batch:

        >>> import graphstate as gs, jax.numpy as jnp
        >>> layer = gs.nn.Linear(2, 1)
        >>> def losses(layer, x, y):
        ...     return jnp.sum((layer(x) - y) ** 2, axis=1)
        >>> gradients = gs.vector_grad(losses)(layer, jnp.ones((5, 2)), jnp.zeros((5, 1)))
        >>> gradients["weight"].shape
        (5, 2, 1)
    """
    return derived(function, "vector_grad", _vector_grad, Wanted(argnums, wrt, states), VECTOR, has_aux)


def _vector_grad(call: Derivative) -> Any:
    (row,), leaving = jax.jacrev(call, has_aux=True)(call.values)
    return call.answer(leaving, call.form.build(row))


def jacrev(
    function: Callable[..., Any] | None = None,
    /,
    argnums: int | Sequence[int] | None = None,
    *,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    wrt: Filter = ParamState,
    states: Any = None,
) -> Any:
    """The Jacobian of a function, row by row, backwards: for fewer outputs than inputs.

    The function runs once. States that it writes keep their values; one that is differentiated and written is
    differentiated at its old value.

    Args:
        function: returns a pytree of arrays, or the pair of one and aux.
        argnums: which positional arguments; 0 unless `states` is given.
        has_aux: whether the function returns (output, aux).
        holomorphic: as in `jax.jacrev`.
        allow_int: as in `jax.jacrev`.
        wrt: the States of Node arguments that are differentiated.
        states: States of the closure, as in `grad`.

    Returns:
        The function that returns the Jacobian, or (Jacobian, aux). It has the structure of the output, and in each leaf
        that of what is differentiated: a GraphState for a Node, like its value for a State. The shape of its leaves is
        that of the output followed by that of the input.

    Raises:
        StateTypeError: an integer or key is differentiated, or the output holds a Node or an integer.
        FilterError: `wrt` selects nothing.
        AliasError: a State is in two differentiated arguments.

    Example:
        A step of Gauss and Newton, for a model with one vector of weights:

        >>> import graphstate as gs, jax.numpy as jnp
        >>> class Line(gs.Node):
        ...     def __init__(self):
        ...         self.weight = gs.ParamState(jnp.zeros(2))
        ...
        ...     def __call__(self, x):
        ...         return x @ self.weight.value
        >>> model, x, y = Line(), jnp.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), jnp.array([1.0, 3.0, 5.0])
        >>> def residuals(model):
        ...     r = model(x) - y
        ...     return r, r
        >>> jacobian, r = gs.jacrev(residuals, has_aux=True)(model)
        >>> j = jacobian["weight"]
        >>> model.weight.value -= jnp.linalg.solve(j.T @ j, j.T @ r)
        >>> model.weight.value.round(4).tolist()
        [1.0, 2.0]
    """
    wanted = Wanted(argnums, wrt, states, allow_int)
    options = {"holomorphic": holomorphic, "allow_int": allow_int}
    return derived(function, "jacrev", _jacrev, wanted, FLOATS, has_aux, **options)


def _jacrev(call: Derivative, **options: Any) -> Any:
    rows, leaving = jax.jacrev(call, has_aux=True, **options)(call.values)
    return call.answer(leaving, call.jacobian(rows))


def jacfwd(
    function: Callable[..., Any] | None = None,
    /,
    argnums: int | Sequence[int] | None = None,
    *,
    has_aux: bool = False,
    holomorphic: bool = False,
    wrt: Filter = ParamState,
    states: Any = None,
) -> Any:
    """The Jacobian of a function, column by column, forwards: for fewer inputs than outputs.

    The function runs once, with one tangent for each number in what is differentiated.

    Args:
        function: returns a pytree of arrays, or the pair of one and aux.
        argnums: which positional arguments; 0 unless `states` is given.
        has_aux: whether the function returns (output, aux).
        holomorphic: as in `jax.jacfwd`.
        wrt: the States of Node arguments that are differentiated.
        states: States of the closure, as in `grad`.

    Returns:
        The function that returns the Jacobian, or (Jacobian, aux), as `jacrev` does.

    Raises:
        StateTypeError: an integer or key is differentiated, or the output holds a Node or an integer.
        FilterError: `wrt` selects nothing.
        AliasError: a State is in two differentiated arguments.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> scale = gs.ParamState(3.0)
        >>> gs.jacfwd(lambda x: {"y": scale.value * x}, states=scale)(jnp.arange(3.0))["y"].tolist()
        [0.0, 1.0, 2.0]
    """
    wanted = Wanted(argnums, wrt, states)
    return derived(function, "jacfwd", _jacfwd, wanted, FLOATS, has_aux, holomorphic=holomorphic)


def _jacfwd(call: Derivative, **options: Any) -> Any:
    rows, leaving = jax.jacfwd(call, has_aux=True, **options)(call.values)
    return call.answer(leaving, call.jacobian(rows))


def hessian(
    function: Callable[..., Any] | None = None,
    /,
    argnums: int | Sequence[int] | None = None,
    *,
    has_aux: bool = False,
    holomorphic: bool = False,
    wrt: Filter = ParamState,
    states: Any = None,
) -> Any:
    """The second derivatives of a function, as dense arrays: forwards over backwards.

    The function runs once. For products with a vector, which need no dense array, use `jvp` of `grad`.

    Args:
        function: returns a pytree of arrays, most often a scalar, or the pair of one and aux.
        argnums: which positional arguments; 0 unless `states` is given.
        has_aux: whether the function returns (output, aux).
        holomorphic: as in `jax.hessian`.
        wrt: the States of Node arguments that are differentiated.
        states: States of the closure, as in `grad`.

    Returns:
        The function that returns the Hessian, or (Hessian, aux). It has the structure of the output, in each leaf that
        of what is differentiated, and in each leaf of that the same once more: of a Node a GraphState of GraphStates.

    Raises:
        StateTypeError: an integer or key is differentiated, or the output holds a Node or an integer.
        FilterError: `wrt` selects nothing.
        AliasError: a State is in two differentiated arguments.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> layer = gs.nn.Linear(2, 1)
        >>> hessian = gs.hessian(lambda layer, x: jnp.sum(layer(x) ** 2))(layer, jnp.array([1.0, 3.0]))
        >>> hessian["weight"]["bias"].shape
        (2, 1, 1)
        >>> hessian["weight"]["weight"].reshape(2, 2).tolist()
        [[2.0, 6.0], [6.0, 18.0]]
    """
    wanted = Wanted(argnums, wrt, states)
    return derived(function, "hessian", _hessian, wanted, FLOATS, has_aux, holomorphic=holomorphic)


def _hessian(call: Derivative, **options: Any) -> Any:
    rows, leaving = jax.hessian(call, has_aux=True, **options)(call.values)
    return call.answer(leaving, call.hessian(rows))
