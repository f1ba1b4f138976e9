"""`grad` and `value_and_grad`: derivatives by States and arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from graphstate._lift._arguments import function_name, gather, shown
from graphstate._lift._gradient import Selection
from graphstate._lift._lifted import Lifted
from graphstate._lift._streams import Hold
from graphstate._lift._traced import TracedCall
from graphstate.errors import StateTypeError
from graphstate.filters import Filter
from graphstate.graph import ParamState

__all__ = ["GradFunction", "grad", "value_and_grad"]


class GradFunction(Lifted):
    """What `grad` and `value_and_grad` return."""

    def __init__(
        self,
        function: Callable[..., Any],
        transform: str,
        argnums: int | Sequence[int] | None,
        wrt: Filter,
        states: Any,
        has_aux: bool,
        options: dict[str, Any],
    ) -> None:
        self.transform = transform
        super().__init__(function)
        self._argnums = argnums
        self._wrt = wrt
        self._states = states
        self._has_aux = has_aux
        self._options = options

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the function, and differentiates it there."""
        with Hold() as hold:
            return self._differentiate(args, kwargs, hold)

    def _differentiate(self, args: tuple[Any, ...], kwargs: dict[str, Any], hold: Hold) -> Any:
        arguments = gather(args, kwargs, self.transform, self.function)
        call = TracedCall(self.function, arguments, self.watch(), self.transform, hold)
        selection = Selection(self.function, arguments, self._argnums, self._wrt, self._states, self.transform)

        def loss(values: list[Any]) -> tuple[Any, Any]:
            targets, arrays = selection.place(values)
            result, outputs = call.run(targets, arrays, lambda frame: selection.install(frame, values), self._check)
            return (result[0] if self._has_aux else result), outputs

        (_, outputs), gradients = jax.value_and_grad(loss, has_aux=True, **self._options)(selection.values)
        result = call.finish(outputs)
        return self._returned(result, selection.build(gradients))

    def _check(self, result: Any) -> None:
        loss = result
        if self._has_aux:
            if not isinstance(result, tuple) or len(result) != 2:
                raise StateTypeError(
                    f"With has_aux=True `{function_name(self.function)}` returns the pair (loss, aux), but it "
                    f"returned {shown(result)}."
                )
            loss = result[0]
        if not hasattr(loss, "shape") and not isinstance(loss, int | float | complex):
            raise StateTypeError(
                f"`{self.transform}` differentiates a scalar, but `{function_name(self.function)}` returned "
                f"{shown(loss)}. Return the loss alone, or (loss, aux) with has_aux=True."
            )
        if jnp.ndim(loss) != 0:
            raise StateTypeError(
                f"`{self.transform}` differentiates a scalar, but `{function_name(self.function)}` returned an array "
                f"of shape {jnp.shape(loss)}. Reduce it (`jnp.mean`), or map the gradient over examples with `vmap`."
            )

    def _returned(self, result: Any, gradient: Any) -> Any:
        if self.transform == "value_and_grad":
            return result, gradient
        return (gradient, result[1]) if self._has_aux else gradient


def grad(
    function: Callable[..., Any] | None = None,
    /,
    argnums: int | Sequence[int] | None = None,
    *,
    wrt: Filter = ParamState,
    states: Any = None,
    has_aux: bool = False,
    holomorphic: bool = False,
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

    def transform(function: Callable[..., Any]) -> GradFunction:
        return GradFunction(function, "grad", argnums, wrt, states, has_aux, {"holomorphic": holomorphic})

    return transform if function is None else transform(function)


def value_and_grad(
    function: Callable[..., Any] | None = None,
    /,
    argnums: int | Sequence[int] | None = None,
    *,
    wrt: Filter = ParamState,
    states: Any = None,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Any:
    """The value of a function that returns a scalar, and its gradient.

    Args:
        function: returns a scalar loss, or (loss, aux).
        argnums: as in `grad`.
        wrt: as in `grad`.
        states: as in `grad`.
        has_aux: as in `grad`.
        holomorphic: as in `grad`.

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

    def transform(function: Callable[..., Any]) -> GradFunction:
        return GradFunction(function, "value_and_grad", argnums, wrt, states, has_aux, {"holomorphic": holomorphic})

    return transform if function is None else transform(function)
