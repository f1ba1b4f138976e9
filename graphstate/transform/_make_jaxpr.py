"""`make_jaxpr`: the pure function that a call amounts to."""

from collections.abc import Callable, Sequence
from typing import Any

from graphstate._lift.call._captured import Operands, capture
from graphstate._lift.call._lifted import Lifted

from ._eval_shape import eval_shape
from ._jit import Parameters, parameters

__all__ = ["JaxprMaker", "make_jaxpr"]


class JaxprMaker(Lifted):
    """What `make_jaxpr` returns.

    Args:
        function: the user's function.
        static: the static arguments.
        return_shape: whether the shape of the result is returned, too.
    """

    transform = "make_jaxpr"

    def __init__(self, function: Callable[..., Any], static: Parameters, return_shape: bool) -> None:
        super().__init__(function)
        self._static = static
        self._return_shape = return_shape

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """The jaxpr for these arguments."""
        numbers = self._static.positions(len(args))
        statics = {number: args[number] for number in sorted(numbers)}
        named = {name: kwargs[name] for name in self._static.names & kwargs.keys()}

        def function(*args: Any, **kwargs: Any) -> Any:
            positional = list(args)
            for number, value in statics.items():
                positional.insert(number, value)
            return self.function(*positional, **named, **kwargs)

        args = tuple(arg for number, arg in enumerate(args) if number not in numbers)
        kwargs = {name: value for name, value in kwargs.items() if name not in named}
        operands = Operands(args, kwargs, self.transform, self.function if not (statics or named) else function)
        jaxpr = capture(function, operands, self.watch(), self.transform).jaxpr
        return (jaxpr, eval_shape(function, *args, **kwargs)) if self._return_shape else jaxpr


def make_jaxpr(
    function: Callable[..., Any] | None = None,
    /,
    static_argnums: int | Sequence[int] = (),
    return_shape: bool = False,
) -> Any:
    """Makes of a function one that returns its jaxpr: the pure function that JAX would run for these arguments.

    Nothing is computed, and no State changes, a stream of random keys neither.

    The inputs of the jaxpr are, in this order: the States and arrays of the Nodes and States among the arguments, each
    once, in the order of their paths; the arguments that are arrays; and the States that the function only refers to
    (and settings of `environ` that are arrays), in the order in which it first reads them. The outputs are the arrays
    of the result; the States and arrays of the arguments that were written, in their order; the values of new States;
    and the States of the closure that were written.

    Args:
        function: takes Nodes, States and pytrees of arrays; arrays may be `jax.ShapeDtypeStruct`.
        static_argnums: as in `jax.make_jaxpr`: positions of arguments that are part of the program.
        return_shape: True returns `(jaxpr, shape)` where the second is what `graphstate.eval_shape` gives.

    Returns:
        A function of the same arguments that returns a `jax.extend.core.ClosedJaxpr`.

    Raises:
        StateTypeError: an argument is neither a Node, a State nor a pytree of arrays.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> count = gs.State(jnp.float32(0))
        >>> def step(x):
        ...     count.value += x
        >>> gs.make_jaxpr(step)(jnp.float32(1))
        { lambda ; a:f32[] b:f32[]. let c:f32[] = add b a in (c,) }
        >>> count.value.item()
        0.0
    """

    def transform(function: Callable[..., Any]) -> JaxprMaker:
        return JaxprMaker(function, parameters(function, static_argnums, None, "static"), return_shape)

    return transform if function is None else transform(function)
