"""`checkpoint`: intermediate values are computed again in the backward pass instead of being kept."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from graphstate._lift.call._arguments import gather
from graphstate._lift.call._captured import Operands, call_captured
from graphstate._lift.call._lifted import Lifted
from graphstate._lift.call._progress import quiet
from graphstate._lift.call._static_arguments import bind_static
from graphstate._lift.programs._reuse import is_eager

__all__ = ["CheckpointedFunction", "checkpoint", "remat"]


class CheckpointedFunction(Lifted):
    """What `checkpoint` returns."""

    transform = "checkpoint"

    def __init__(
        self,
        function: Callable[..., Any],
        prevent_cse: bool,
        policy: Callable[..., bool] | None,
        static_argnums: int | Sequence[int],
        static_argnames: str | Iterable[str],
    ) -> None:
        super().__init__(function)
        self._wrap = functools.partial(jax.checkpoint, prevent_cse=prevent_cse, policy=policy)
        self._static_numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
        self._static_names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the function; what it computes is not kept for a backward pass around the call."""
        function, args = bind_static(self.function, args, self._static_numbers, "static_argnums")
        named = {name: kwargs.pop(name) for name in self._static_names if name in kwargs}
        if named:
            function = functools.partial(function, **named)
        if is_eager():
            gather(args, kwargs, self.transform, function)
            return function(*args, **kwargs)
        operands = Operands(args, kwargs, self.transform, function)
        with quiet(True):  # what is computed twice would show its loops twice
            return call_captured(function, operands, self.watch(), self.transform, self._wrap)


def checkpoint(
    function: Callable[..., Any] | None = None,
    /,
    *,
    prevent_cse: bool = True,
    policy: Callable[..., bool] | None = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
) -> Any:
    """Computes the intermediate values of a function again in the backward pass, as `jax.checkpoint` does.

    States that the function writes are written once, and it draws once: the second computation gives the same values.
    Where nothing is differentiated or compiled around it, it is the function itself.

    Args:
        function: takes Nodes, States and pytrees of arrays.
        prevent_cse: as in `jax.checkpoint`; False inside of `scan`, where it is not needed.
        policy: which intermediate values are kept all the same, as in `jax.checkpoint_policies`.
        static_argnums: positional arguments that are handed on as they are.
        static_argnames: arguments passed by name that are.

    Returns:
        The function.

    Raises:
        StateTypeError: an argument is neither a Node, a State nor a pytree of arrays.

    Example:
        A deep model whose layers keep nothing but their inputs:

        >>> import graphstate as gs, jax.numpy as jnp
        >>> layers = [gs.nn.Linear(2, 2) for _ in range(3)]
        >>> @gs.checkpoint
        ... def apply(layer, x):
        ...     return jnp.sin(layer(x))
        >>> def loss(layers):
        ...     x = jnp.ones(2)
        ...     for layer in layers:
        ...         x = apply(layer, x)
        ...     return jnp.sum(x)
        >>> gs.grad(loss)(layers)[0]["weight"].shape
        (2, 2)
    """

    def transform(function: Callable[..., Any]) -> CheckpointedFunction:
        return CheckpointedFunction(function, prevent_cse, policy, static_argnums, static_argnames)

    return transform if function is None else transform(function)


remat = checkpoint
