"""`jit`: a function of objects, compiled."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax

from graphstate._lift.call._arguments import Shape, function_name
from graphstate._lift.programs._build import Options
from graphstate._lift.programs._cached import CachedFunction
from graphstate.errors import StateTypeError
from graphstate.graph._heads import StaticKey

from ._eval_shape import eval_shape

__all__ = ["JitFunction", "Parameters", "jit", "parameters"]


class Parameters(NamedTuple):
    """Some parameters of a function; each number implies its name and each name its number, where a signature tells.

    Attributes:
        numbers: their positions, from either end.
        names: their names.
    """

    numbers: tuple[int, ...] = ()
    names: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.numbers or self.names)

    def positions(self, count: int) -> set[int]:
        """Which of `count` positional arguments they are."""
        return {number % count for number in self.numbers if -count <= number < count}


class JitFunction(CachedFunction):
    """What `jit` returns.

    Args:
        function: the user's function.
        static: the static arguments.
        donated: the donated arguments.
        options: what else is asked of the compiled programs.
        jit_options: further parameters of `jax.jit`.
    """

    transform = "jit"

    def __init__(
        self,
        function: Callable[..., Any],
        static: Parameters | None = None,
        donated: Parameters | None = None,
        options: Options | None = None,
        **jit_options: Any,
    ) -> None:
        super().__init__(function, **jit_options)
        self._static = static or Parameters()
        self._donated = donated or Parameters()
        self._options = options or Options()
        self._asks = bool(self._donated) or self._options != Options()
        self.takes_static = bool(self._static)

    def build_options(self, statics: Any, shape: Shape) -> Options | None:
        """What is asked of the compiled programs, counting arguments without the static ones."""
        if not self._asks:
            return None
        taken = [number for number, _ in statics[0]] if statics else []
        positional, _ = jax.tree_util.treedef_children(shape.treedef)
        count = len(jax.tree_util.treedef_children(positional)) + len(taken)
        numbers = self._donated.positions(count).difference(taken)
        numbers = {number - sum(each < number for each in taken) for number in numbers}
        return dataclasses.replace(self._options, donate_numbers=frozenset(numbers), donate_names=self._donated.names)

    def take_static(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """Splits off the static arguments."""
        numbers, names = self._static.positions(len(args)), self._static.names
        statics = tuple((number, self._key(number, args[number])) for number in sorted(numbers))
        named = tuple((name, self._key(name, kwargs[name])) for name in sorted(names & kwargs.keys()))
        rest = tuple(arg for number, arg in enumerate(args) if number not in numbers)
        return (statics, named), rest, {name: value for name, value in kwargs.items() if name not in names}

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


def parameters(
    function: Callable[..., Any],
    numbers: int | Sequence[int] | None,
    names: str | Iterable[str] | None,
    kind: str,
) -> Parameters:
    """The parameters of a function that are given by number and by name.

    Args:
        function: the function.
        numbers: what `static_argnums`, say, was.
        names: what `static_argnames` was.
        kind: "static", for messages.

    Raises:
        StateTypeError: the function has no such parameters.
    """
    given = {numbers} if isinstance(numbers, int) else set(numbers or ())
    named = {names} if isinstance(names, str) else set(names or ())
    try:
        known = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return Parameters(tuple(sorted(given)), frozenset(named))
    kinds = {each.kind for each in known}
    unknown = named - {each.name for each in known}
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        raise StateTypeError(
            f"`{kind}_argnames` names {sorted(unknown)}, but `{function_name(function)}` has the parameters "
            f"{sorted(each.name for each in known)}."
        )
    positional = [each.name for each in known if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    count = len(positional)
    beyond = sorted(number for number in given if not -count <= number < count)
    if beyond and kind != "static" and inspect.Parameter.VAR_POSITIONAL not in kinds:
        raise StateTypeError(
            f"`{kind}_argnums` has {beyond[0]}, but `{function_name(function)}` takes {count} positional arguments."
        )
    implied_names = {positional[number] for number in given if -count <= number < count}
    implied_numbers = {positional.index(name) for name in named if name in positional}
    return Parameters(tuple(sorted(given | implied_numbers)), frozenset(named | implied_names))


def jit(
    function: Callable[..., Any] | None = None,
    /,
    *,
    in_shardings: Any = None,
    out_shardings: Any = None,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Iterable[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Iterable[str] | None = None,
    donate_states: bool = False,
    keep_unused: bool = False,
    inline: bool = False,
    compiler_options: dict[str, Any] | None = None,
) -> Any:
    """Compiles a function of Nodes, States and arrays, and of those that it only refers to.

    The function is traced once for each structure of its arguments and of what it refers to, and runs as one
    compiled program from then on. It is traced anew when a static attribute, a submodule, a list or dict, a value
    that it refers to, or a setting of `environ` that it read has changed. States that it writes are written when
    the call has succeeded; a call that fails changes nothing.

    A program that is given the buffers of the States that it writes works in place, and needs less memory. What else
    holds the array keeps it: then a copy is donated instead. If the call fails all the same when it runs, those
    States have lost their values, and raise `DonatedError` until they are written. Inside of another transform
    nothing is donated.

    Args:
        function: the function; a Node that can be called will do.
        in_shardings: as in `jax.jit`, a prefix tree over the positional arguments without the static ones. For a Node
            a sharding or None holds for all its States, and `{filter: sharding}` chooses for each, by path, type or
            tag; None, and what no filter matches, is taken as it lies. A State that is written keeps the sharding that
            is given here.
        out_shardings: as in `jax.jit`, a prefix tree over the result; for a Node in it as above.
        static_argnums: positions of arguments that are static: hashable, and part of the program.
        static_argnames: names of such arguments.
        donate_argnums: positions of arguments that are donated: arrays as in `jax.jit`, and of Nodes and States
            the States that the program writes, where the new value has the shape and dtype of the old.
        donate_argnames: names of such arguments.
        donate_states: True donates all States that the program writes, also those that it only refers to.
        keep_unused: as in `jax.jit`.
        inline: as in `jax.jit`.
        compiler_options: as in `jax.jit`.

    Returns:
        The compiled function.

    Raises:
        StateTypeError: an argument is neither a Node, a State nor a pytree of arrays; or a parameter that is named as
            static or donated is none of the function.
        TraceContextError: the structure of a Node that the function only refers to was changed inside.
        AliasError: a Node is restructured that is an argument, and that the function refers to as well; or a State
            has two shardings.
        ShardingError: shardings do not fit the arguments or the result.
        DonatedError: a State was donated to another call.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> layer = gs.nn.Linear(2, 3)
        >>> @gs.jit(donate_states=True)
        ... def double(layer):
        ...     layer.bias.value = 2 * (layer.bias.value + 1)
        >>> double(layer)
        >>> layer.bias.value.tolist()
        [2.0, 2.0, 2.0]
    """

    def transform(function: Callable[..., Any]) -> JitFunction:
        static = parameters(function, static_argnums, static_argnames, "static")
        donated = parameters(function, donate_argnums, donate_argnames, "donate")
        both = static.names & donated.names or set(static.numbers) & set(donated.numbers)
        if both:
            raise StateTypeError(
                f"An argument of `jit` is static or donated, but {sorted(both)} of `{function_name(function)}` is both."
            )
        options = Options(donate_states, in_shardings=in_shardings, out_shardings=out_shardings)
        jit_options = {"keep_unused": keep_unused, "inline": inline, "compiler_options": compiler_options}
        return JitFunction(function, static, donated, options, **jit_options)

    return transform if function is None else transform(function)
