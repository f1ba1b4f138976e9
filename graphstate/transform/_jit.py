"""`jit`: a function of objects, compiled."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from graphstate._lift._arguments import function_name
from graphstate._lift._cached import CachedFunction
from graphstate.errors import StateTypeError
from graphstate.graph._heads import StaticKey

from ._eval_shape import eval_shape

__all__ = ["JitFunction", "jit"]


class JitFunction(CachedFunction):
    """What `jit` returns."""

    transform = "jit"

    def __init__(
        self,
        function: Callable[..., Any],
        static_argnums: int | Sequence[int] | None = None,
        static_argnames: str | Iterable[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(function, **options)
        self._static_numbers, self._static_names = _static_parameters(function, static_argnums, static_argnames)
        self.takes_static = bool(self._static_numbers or self._static_names)

    def take_static(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """Splits off the static arguments."""
        numbers = {number % len(args) for number in self._static_numbers if -len(args) <= number < len(args)}
        statics = tuple((number, self._key(number, args[number])) for number in sorted(numbers))
        named = tuple((name, self._key(name, kwargs[name])) for name in sorted(self._static_names & kwargs.keys()))
        rest = tuple(arg for number, arg in enumerate(args) if number not in numbers)
        return (statics, named), rest, {name: value for name, value in kwargs.items() if name not in self._static_names}

    def run_user(self, statics: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the user's function, the static arguments in their places."""
        if not statics:
            return self.function(*args, **kwargs)
        positional, named = list(args), dict(kwargs)
        for number, key in statics[0]:
            positional.insert(number, key.value)
        named.update((name, key.value) for name, key in statics[1])
        return self.function(*positional, **named)

    def _key(self, where: int | str, value: Any) -> StaticKey:
        try:
            return StaticKey(value)
        except TypeError:
            raise StateTypeError(
                f"A static argument of `jit` must be hashable, but argument {where!r} of "
                f"`{function_name(self.function)}` is {str(value)[:60]!r} of type {type(value).__name__}. Pass a "
                "tuple for a list, or wrap it in `graph.Static`."
            ) from None

    def lower(self, /, *args: Any, **kwargs: Any) -> Any:
        """The lowered program for these arguments, as `jax.jit(f).lower` gives it; no State changes."""
        return self.staged("lower", args, kwargs)

    def eval_shape(self, /, *args: Any, **kwargs: Any) -> Any:
        """What the function would return for these arguments, as `graphstate.eval_shape` gives it; no State changes."""
        statics, args, kwargs = self.take_static(args, kwargs) if self.takes_static else ((), args, kwargs)
        return eval_shape(lambda *args, **kwargs: self.run_user(statics, args, kwargs), *args, **kwargs)

    def trace(self, /, *args: Any, **kwargs: Any) -> Any:
        """The traced program for these arguments, as `jax.jit(f).trace` gives it; no State changes."""
        return self.staged("trace", args, kwargs)


def _static_parameters(
    function: Callable[..., Any],
    static_argnums: int | Sequence[int] | None,
    static_argnames: str | Iterable[str] | None,
) -> tuple[tuple[int, ...], frozenset[str]]:
    """Positions and names of the static parameters, each of which implies the other where the signature tells."""
    numbers = {static_argnums} if isinstance(static_argnums, int) else set(static_argnums or ())
    names = {static_argnames} if isinstance(static_argnames, str) else set(static_argnames or ())
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return tuple(sorted(numbers)), frozenset(names)
    positional = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    known = {each.name for each in parameters}
    variadic = any(each.kind is each.VAR_KEYWORD for each in parameters)
    unknown = names - known
    if unknown and not variadic:
        raise StateTypeError(
            f"`static_argnames` names {sorted(unknown)}, but `{function_name(function)}` has the parameters "
            f"{sorted(known)}."
        )
    implied_names = {positional[number] for number in numbers if -len(positional) <= number < len(positional)}
    implied_numbers = {positional.index(name) for name in names if name in positional}
    return tuple(sorted(numbers | implied_numbers)), frozenset(names | implied_names)


def jit(
    function: Callable[..., Any] | None = None,
    /,
    *,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Iterable[str] | None = None,
    keep_unused: bool = False,
    inline: bool = False,
) -> Any:
    """Compiles a function of Nodes, States and arrays, and of those that it only refers to.

    The function is traced once for each structure of its arguments and of what it refers to, and runs as one
    compiled program from then on. It is traced anew when a static attribute, a submodule, a list or dict, a value
    that it refers to, or a setting of `environ` that it read has changed. States that it writes are written when
    the call has succeeded; a call that fails changes nothing.

    Args:
        function: the function; a Node that can be called will do.
        static_argnums: positions of arguments that are static: hashable, and part of the program.
        static_argnames: names of such arguments.
        keep_unused: as in `jax.jit`.
        inline: as in `jax.jit`.

    Returns:
        The compiled function.

    Raises:
        StateTypeError: an argument is neither a Node, a State nor a pytree of arrays.
        TraceContextError: the structure of a Node that the function only refers to was changed inside.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> layer = gs.nn.Linear(2, 3)
        >>> @gs.jit
        ... def double(layer):
        ...     layer.bias.value = 2 * (layer.bias.value + 1)
        >>> double(layer)
        >>> layer.bias.value.tolist()
        [2.0, 2.0, 2.0]
    """

    def transform(function: Callable[..., Any]) -> JitFunction:
        return JitFunction(function, static_argnums, static_argnames, keep_unused=keep_unused, inline=inline)

    return transform if function is None else transform(function)
