"""What users hold of a function with a derivative of its own: the function, its rules, and which arguments are what."""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from graphstate._lift.call._arguments import function_name, gather
from graphstate._lift.call._lifted import Lifted, Wrapping
from graphstate._lift.call._static_arguments import bind_static
from graphstate._lift.programs._reuse import is_eager
from graphstate.errors import RuleError, StateTypeError, StructureError
from graphstate.filters import Filter
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._heads import StaticKey

from ._rules import RuleCall, Ruled

__all__ = ["RuledFunction"]


class RuledFunction(Lifted):
    """A function with rules.

    Args:
        function: the user's function.
        wrt: the States of Node arguments that the rules differentiate by.
        states: the States of the closure that they differentiate by.
        nondiff_argnums: positions of static arguments.
        nondiff_argnames: names of static arguments.
    """

    definition: str
    """How a user gives the rules."""

    def __init__(
        self,
        function: Callable[..., Any],
        wrt: Filter,
        states: Any,
        nondiff_argnums: int | Sequence[int],
        nondiff_argnames: str | Iterable[str],
    ) -> None:
        super().__init__(function)
        self.rules: tuple[Callable[..., Any], ...] = ()
        self._wrt = wrt
        self._states = states
        numbers = {nondiff_argnums} if isinstance(nondiff_argnums, int) else set(nondiff_argnums)
        names = [nondiff_argnames] if isinstance(nondiff_argnames, str) else list(nondiff_argnames)
        self._origin = getattr(function, "__code__", self)
        self._static = sorted(numbers | set(map(self._number, names)))

    call: type[RuleCall]
    """One call of such a function."""

    def bound_rules(self, args: tuple[Any, ...], static: Sequence[int]) -> tuple[Callable[..., Any], ...]:
        """The rules with the static arguments bound: they come first."""
        return tuple(functools.partial(rule, *(args[number] for number in static)) for rule in self.rules)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the function; where it is differentiated, its rules say the derivative."""
        if not self.rules:
            raise RuleError(f"`{function_name(self.function)}` has no rule yet. Define it: `{self.definition}`.")
        args = self._positional(args, kwargs)
        function, rest = bind_static(self.function, args, self._static, "nondiff_argnums")
        if is_eager():
            gather(rest, {}, self.transform, function)
            return function(*rest)
        static = sorted(number % len(args) for number in self._static)
        identity = (id(self), *(_key(args[number]) for number in static))
        rules = self.bound_rules(args, static)
        ruled = Ruled(function, rules, self._wrt, self._states, frozenset(static), self.watch(), identity, self._origin)
        return self.call(ruled, rest).run()

    def adopt(self, wrapping: Wrapping) -> None:
        """Has the rules of what it is a copy of.

        Raises:
            StructureError: a rule is a method of that.
        """
        super().adopt(wrapping)
        if wrapping.rules:
            rules, parts = wrapping.rules
            if any(is_graph_object(getattr(rule, "__self__", None)) for rule in (*rules, *parts)):
                raise StructureError(
                    f"`{function_name(self.function)}` is an attribute of a Node, and a rule of its "
                    f"`{self.transform}` is a method of that Node: a copy of the Node would have the rule of the "
                    f"original. Decorate the method in its class with `{self.transform}`, or let rules be functions "
                    "that take the Node."
                )
            self.define(*rules, parts=parts)

    @property
    def __graphstate_rules__(self) -> tuple[Callable[..., Any], ...]:
        """What whoever refers to the function depends on, beside the function."""
        return self.functions[1:]

    def define(self, *rules: Callable[..., Any], parts: Sequence[Callable[..., Any]] = ()) -> None:
        """Gives the rules, and the functions of the user that they call."""
        for rule in (*rules, *parts):
            if not callable(rule):
                raise RuleError(
                    f"A rule of `{function_name(self.function)}` is a function, but it is {str(rule)[:60]!r} of type "
                    f"{type(rule).__name__}."
                )
        self.rules = rules
        self._graph_wrapping.rules = rules, tuple(parts)
        self.functions = (self.function, *rules, *parts)
        self._watch = None

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """All arguments by position, those with defaults too, as the rules take them."""
        try:
            bound = inspect.signature(self.function).bind(*args, **kwargs)
        except (TypeError, ValueError) as error:
            if not kwargs:
                return args  # a function without a signature; one that does not fit says so itself
            raise StateTypeError(
                f"The rules of `{function_name(self.function)}` take its arguments by position, but those of this call "
                f"do not fit it: {error}."
            ) from None
        bound.apply_defaults()
        if bound.kwargs:
            raise StateTypeError(
                f"The rules of `{function_name(self.function)}` take its arguments by position, but it has some that "
                f"are passed by name only: {', '.join(map(repr, bound.kwargs))}."
            )
        return bound.args

    def _number(self, name: str) -> int:
        parameters = list(inspect.signature(self.function).parameters)
        if name not in parameters:
            raise StateTypeError(
                f"`nondiff_argnames` names {name!r}, but `{function_name(self.function)}` has the parameters "
                f"{parameters}."
            )
        return parameters.index(name)


def _key(value: Any) -> Any:
    """What tells a static argument from another one."""
    try:
        return StaticKey(value)
    except TypeError:
        return id(value)
