"""Functions with a derivative of their own: what `custom_jvp` and `custom_vjp` have in common.

A function and its rules are traced where the function is called, so that a State that a rule reads is an input like
any other, whenever JAX comes to run the rule. A rule that calls the function itself would be traced for ever: the
call inside belongs to the call outside, and takes the programs that are made for that. Where the rules read States
that the function does not read, this is known too late for the calls inside, and the rules are traced twice.

A rule may also call the function with other static arguments or shapes, and the rule of that call do so, too, without
an end (the derivative of a Bessel function is that of the next order). The rules of such calls are traced where JAX
needs them.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import jax

from graphstate import environ
from graphstate._compat import differentiable_outputs
from graphstate._lift.call._arguments import Arguments, argument_names, function_name, target_names
from graphstate._lift.call._capture import Program
from graphstate._lift.call._captured import (
    CallNote,
    Operands,
    Outputs,
    capture,
    finish,
    part_of_writes,
    part_with_results,
)
from graphstate._lift.call._structure import check_same_structure
from graphstate._lift.call._types import common_type, convert, same_tree
from graphstate._lift.watch._watch import Watch
from graphstate._trace import MISSING, Cell, current_frame, describe, pack
from graphstate.errors import RuleError
from graphstate.filters import Filter
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._flatten import unflatten
from graphstate.graph._heads import StateHead, StaticKey

from ._gradient import Selection, Wanted
from ._rule_inputs import ARRAYS, CAPTURED, VALUES, Others, Place, RoutedProgram, RuleInputs, lasting
from ._tangent import types_of

__all__ = ["RuleCall", "Ruled", "is_of_rules"]

_RULES: Final = "rules being traced "
"""How the settings are called that tell from each other what is traced for the rules of different calls."""


def is_of_rules(setting: str) -> bool:
    """Whether a setting only tells apart what is traced for rules: none of the user's."""
    return setting.startswith(_RULES)


class Ruled(NamedTuple):
    """A function with rules, as one call takes them.

    Attributes:
        function: the user's function; static arguments are bound.
        rules: its rules; static arguments are bound.
        wrt: the States of Node arguments that the rules differentiate by.
        states: the States of the closure that they differentiate by.
        static: which arguments are static; None stands in their places.
        watch: what all of them depend on.
        identity: equal for two calls of one function with the same static arguments.
        origin: the same object for all functions that were made in one place, whatever they have closed over.
    """

    function: Callable[..., Any]
    rules: tuple[Callable[..., Any], ...]
    wrt: Filter
    states: Any
    static: frozenset[int]
    watch: Watch
    identity: Any
    origin: Any


class _Calls(threading.local):
    """The calls of this thread whose rules are being traced."""

    def __init__(self) -> None:
        self.stack: list[RuleCall] = []


class RuleCall(ABC):
    """One call of a function with rules.

    JAX keeps the rules as long as a program in which the function was called; so what holds values, or objects of the
    trace, is let go at the end of the call.

    Args:
        ruled: the function and its rules.
        args: the arguments.

    Attributes:
        transform: the name of the transform, for messages.
        name: what messages call the function.
        inputs: where the inputs of the programs come from.
        form: where derivatives by the values that are differentiated go.
        avals: for each of these values, the types of its leaves.
        types: the same as `types_of` tells them.
        note: what the outputs of the function mean.
        outputs: the types of its outputs.
        inner: the part of it that the rules speak of: the result, and what is written and has a derivative.
        moving: what is written and has a derivative, alone.
        written: how messages call what the function writes, by what tells it.
    """

    transform: ClassVar[str]
    _calls: ClassVar[_Calls] = _Calls()

    def __init__(self, ruled: Ruled, args: tuple[Any, ...]) -> None:
        self.ruled = ruled
        self.name = function_name(ruled.function)
        self.operands = Operands(args, {}, self.transform, ruled.function)
        self._selection: Selection | None = self._select(self.operands.arguments)
        self._values: list[Any] = self._selection.values
        self.inputs = RuleInputs(self._selection, self.operands)
        self.form = self._selection.form
        self.avals: list[Any] = jax.tree.map(jax.typeof, self._values)
        self.types = types_of(self._values)
        self._signature = self._signed()
        self._settings: dict[str, Any] = {}
        self._is_entered = False
        self._is_traced = False
        self._moving: set[Any] = set()
        self._names: dict[Place, str] = {}
        self.note: CallNote
        self.outputs: Outputs
        self.inner: RoutedProgram
        self.moving: RoutedProgram
        self._primal: RoutedProgram
        self._outer: RoutedProgram
        self.written: dict[Any, str]
        self._applied: Callable[..., Outputs]
        self._setting: str

    def run(self) -> Any:
        """Calls the function."""
        around = [call for call in self._calls.stack if call.ruled.origin is self.ruled.origin]
        for call in reversed(around):
            if call._covers(self):
                return call._run_inside(self)
        self._trace_primal()
        self._applied = self.rule(self._run_inner)
        if not around:
            self._trace_rules()
        self.operands.open_streams([routed.program for routed in (self._primal, *self.programs())])
        result = self._finish(self)
        self._let_go()
        return result

    def _finish(self, call: "RuleCall") -> Any:
        """Runs the function with its rules; what has no derivative runs beside it, as what it is."""
        values, others = call._values, self.inputs.read(call.operands)
        inner, outer = self._applied(values, others), self.run_program(self._outer, values, others)
        outputs = Outputs(inner.results, _either(inner.written, outer.written), [], _either(inner.closed, outer.closed))
        return finish(self.note, call.operands.arguments, outputs)

    # Calls by the rules

    def _covers(self, call: "RuleCall") -> bool:
        """Whether another call of the function takes the same programs."""
        return self._signature == call._signature and all(
            _is_same_setting(environ.depend_on(name), value) for name, value in self._settings.items()
        )

    def _run_inside(self, inner: "RuleCall") -> Any:
        """A call of the function by one of its rules, with arguments of the same structure and types."""
        self._is_entered = True
        environ.depend_on(self._setting)
        inner.operands.open_streams([self._primal.program])
        return self._finish(inner)

    def _let_go(self) -> None:
        """Drops what belongs to the trace in progress; the rules that are still to be traced need its types."""
        self.note = self.note._replace(closed=tuple(map(lasting, self.note.closed)))
        self._selection, self._values = None, []
        if self._is_traced:
            self._drop_types()
        else:
            self.operands = _without_values(self.operands, self.transform, self.ruled.function)

    def _drop_types(self) -> None:
        """Drops what rules are traced with, too; so the program does not keep the States that it writes."""
        self.note = self.note._replace(closed=())
        del self.operands, self.ruled

    # What differs

    @abstractmethod
    def trace_rules(self) -> None:
        """Traces the rules into programs."""

    @abstractmethod
    def programs(self) -> Sequence[RoutedProgram]:
        """The programs of the rules, if they are traced."""

    @abstractmethod
    def rule(self, primal: Callable[..., Outputs]) -> Callable[..., Outputs]:
        """`primal` with the derivative that the programs say, once they are there."""

    # Inputs

    def _select(self, arguments: Arguments) -> Selection:
        wanted = Wanted(..., self.ruled.wrt, self.ruled.states, allow_none=True)
        return Selection(self.ruled.function, arguments, wanted, self.transform)

    def _signed(self) -> Any:
        arguments = self.operands.arguments
        leaves, treedef = jax.tree.flatten((self.operands.values, self.operands.arrays))
        types = tuple(map(jax.typeof, leaves))
        return self.ruled.identity, arguments.graphdef, arguments.shape.treedef, arguments.shape.spots, treedef, types

    def routed(self, program: Program) -> RoutedProgram:
        """A program with the places where its inputs come from."""
        selection = self._selection
        return self.inputs.routed(program, lambda cell: None if selection is None else selection.closed(cell))

    def _run_inner(self, values: Sequence[Any], others: Others) -> Outputs:
        return self.run_program(self.inner, values, others)

    def run_program(self, routed: RoutedProgram, values: Sequence[Any], others: Others) -> Outputs:
        """Runs a program of the function."""
        *given, captured = self.inputs.of(routed, values, others)
        outputs: Outputs = routed.program.run(given, captured)
        return outputs

    def check_declared(self, perturbed: Others) -> None:
        """Refuses to lose the derivative by a value that the rules know nothing of.

        Args:
            perturbed: for each value whether it is differentiated.

        Raises:
            RuleError: naming the State.
        """
        lost = self.inputs.lost(perturbed)
        if lost is not None:
            raise RuleError(
                f"The derivative of `{self.name}` by {self._names[lost]} is wanted, but its rules do not know it. "
                f"Select it with `wrt` of `{self.transform}` if it is part of an argument, name it in `states` if the "
                "function reads it from its closure, or use `jax.lax.stop_gradient`."
            )

    def _note_names(self) -> None:
        """Keeps how messages call the inputs that JAX gets with a rule."""
        arguments, function = self.operands.arguments, self.ruled.function
        kinds = {kind for kind, _ in self.inputs.needed}
        targets = target_names(arguments, function) if VALUES in kinds else []
        arrays = argument_names(arguments.shape.treedef, function) if ARRAYS in kinds else []
        for place in self.inputs.needed - self._names.keys():
            kind, number = place
            if kind == CAPTURED:
                self._names[place] = self._describe_source(number)
            else:
                self._names[place] = f"`{targets[number] if kind == VALUES else arrays[arguments.shape.rest[number]]}`"

    def _describe_source(self, number: int) -> str:
        source = self.inputs.source(number)
        cell = source.cell()
        if source.setting is not None:
            return f"the setting {source.setting!r}"
        return "a State that is gone" if cell is None else self._describe(cell)

    def _describe(self, cell: Cell) -> str:
        name = self.ruled.watch.name_of(cell)
        return describe(cell) if name is None else f"`{name}`"

    # Tracing the function

    def _trace_primal(self) -> None:
        program = self._capture(self.ruled.function, self._check_result)
        self.note = program.note
        self.outputs = jax.tree.unflatten(program.treedef, program.jaxpr.out_avals)
        self.written = self._written(program.note)
        self._primal = self.routed(program)
        moving = self._moving_writes(program)
        self._moving = {key for key, moves in zip(self.written, moving, strict=True) if moves}
        self.inner = self.moving_part(program)
        self.inputs.note_needed(self._primal, self.operands, part_with_results(program, [False] * len(moving))[1])
        self.moving = self.routed(part_of_writes(program, moving)[0])
        self._outer = self.routed(part_of_writes(program, [not moves for moves in moving])[0])
        self._note_names()

    def _moving_writes(self, program: Program) -> list[bool]:
        """For each value that the function writes, whether it has a derivative, or comes with other effects."""
        values, others = self._values, self.inputs.read(self.operands)
        differentiated, fixed = jax.tree.map(lambda _: True, values), jax.tree.map(lambda _: False, others)
        marked = jax.tree.leaves(self.inputs.of(self._primal, differentiated, fixed))
        found: Outputs = jax.tree.unflatten(program.treedef, differentiable_outputs(program.jaxpr, marked))
        moving = [any(jax.tree.leaves(each)) for each in (*found.written, *found.closed)]
        for number in range(len(moving)):
            _, has_effects = part_of_writes(program, [number == each for each in range(len(moving))])
            moving[number] = moving[number] or has_effects
        return moving

    def moving_part(self, program: Program) -> RoutedProgram:
        """The part of a program that JAX gets with a rule; what only the rest looks at is no input of it."""
        part, _ = part_with_results(program, [key in self._moving for key in self._keys(program.note)])
        return self.routed(part)

    def _capture(
        self, function: Callable[..., Any], check: Callable[[Any], None] = lambda _: None, extra: Any = None
    ) -> Program:
        def checked(result: Any) -> None:
            frame = current_frame()
            assert frame is not None
            own = {name: value for name, value in frame.settings.items() if not is_of_rules(name)}
            self._settings.update(own)
            check(result)

        program = capture(function, self.operands, self.ruled.watch, self.transform, checked, extra=extra)
        check_same_structure(program.note.departure, self.operands.arguments, self.transform, function)
        return program

    def _check_result(self, result: Any) -> None:
        for leaf in jax.tree.leaves(result):
            if is_graph_object(leaf):
                raise RuleError(
                    f"A function of `{self.transform}` returns arrays, but `{self.name}` returned a "
                    f"{type(leaf).__name__}. Return its values (`graphstate.state(node)`)."
                )

    # Tracing the rules

    def _trace_rules(self) -> None:
        """Traces the rules; again, if they call the function, and it was not known yet what all of them capture.

        One that fails does so again where JAX needs it: as in JAX, a call that nobody differentiates is right.
        """
        captured = len(self.inputs)
        try:
            self._trace_all()
            if self._is_entered and len(self.inputs) > captured:
                self._trace_all()
        except Exception:
            self._is_traced = False

    def _trace_all(self) -> None:
        self._setting = _RULES + str(len(self._calls.stack))
        self._calls.stack.append(self)
        try:
            # A cache must not hand on what was traced with the programs of this call: these end with it.
            with environ.context(**{self._setting: object()}):
                self.trace_rules()
        finally:
            self._calls.stack.pop()
        self._is_traced = True

    def complete(self) -> None:
        """Traces the rules of a call that a rule made, now that it is differentiated.

        Raises:
            RuleError: this is what the rules are being traced for, or they read what the function does not read.
        """
        if self._is_traced:
            return
        if self in self._calls.stack:
            raise RuleError(
                f"A rule of `{self.name}` differentiates `{self.name}` itself, for which it would need that rule. "
                "Differentiate the function without its rules instead."
            )
        captured, settings = len(self.inputs), dict(self._settings)
        with environ.context(**{name: value for name, value in settings.items() if value is not MISSING}):
            self._trace_all()
        if len(self.inputs) > captured:
            raise self._unknown(self._describe_source(captured))
        for name, value in self._settings.items():
            if name not in settings or not _is_same_setting(value, settings[name]):
                raise self._unknown(f"the setting {name!r}")
        if self._selection is None:
            self._drop_types()

    def _unknown(self, what: str) -> RuleError:
        return RuleError(
            f"A rule of `{self.name}` calls it with other arguments, and is differentiated: the rule of that call "
            f"reads {what}, which the function does not read, so that its value at the call is not known any more. "
            "Read it in the function, too, or pass it as an argument."
        )

    def check_writes(self, rule: Program, word: str) -> None:
        """Refuses a rule that writes other States than the function.

        Raises:
            RuleError: naming the State.
        """
        first, second = self.written, self._written(rule.note)
        for names, others, who in ((first, second, "the function"), (second, first, f"its {word}")):
            for key, name in names.items():
                if key not in others:
                    raise RuleError(
                        f"`{self.name}` and its {word} must write the same States, but only {who} writes {name}: which "
                        "value it has would depend on whether somebody differentiates."
                    )

    def _written(self, note: CallNote) -> dict[Any, str]:
        names = target_names(self.operands.arguments, self.ruled.function) if note.departure.written else []
        told = [*(f"`{names[number]}`" for number in note.departure.written), *map(self._describe, note.closed)]
        return dict(zip(self._keys(note), told, strict=True))

    @staticmethod
    def _keys(note: CallNote) -> list[Any]:
        """What tells the values that a call writes."""
        return [*note.departure.written, *(("closed", id(lasting(cell))) for cell in note.closed)]

    def order(self, note: CallNote) -> list[int]:
        """For each value of the closure that the function writes, its number among those that a rule writes."""
        keys, count = self._keys(note), len(note.departure.written)
        return [keys.index(key) - count for key in self._keys(self.note)[count:]]

    def check_alike(self, rule: Program, treedef: Any, word: str) -> None:
        """Refuses a rule that returns another result, or writes other values, than the function.

        Args:
            rule: its program, whose results begin with the result of the function.
            treedef: the structure of that result.
            word: how messages call the rule.

        Raises:
            RuleError: naming what differs.
        """
        wanted_treedef = self.note.departure.treedef
        if treedef != wanted_treedef:
            raise RuleError(
                f"The {word} of `{self.name}` gives the result of the function, {wanted_treedef}, but it gave "
                f"{treedef}."
            )
        given = self._ordered(self.order(rule.note), jax.tree.unflatten(rule.treedef, rule.jaxpr.out_avals))
        labels = ["the result"] * len(self.outputs.results)
        labels += [f"the value written to {label}" for label in self.written.values()]
        for label, first, second in zip(labels, _parts(self.outputs), _parts(given), strict=True):
            pairs = list(zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=False))
            if not same_tree(first, second) or any(common_type(pair) is None for pair in pairs):
                raise RuleError(
                    f"The {word} of `{self.name}` gives what the function gives, but {label} is {_told(first)} in the "
                    f"function and {_told(second)} in its {word}."
                )

    def like_primal(self, order: Sequence[int], outputs: Outputs) -> Outputs:
        """The outputs of a rule in the order and with the types of those of the function."""
        program = self.inner.program
        wanted = jax.tree.unflatten(program.treedef, program.jaxpr.out_avals)
        converted: Outputs = jax.tree.map(convert, self._ordered(order, outputs), wanted)
        return converted

    def _ordered(self, order: Sequence[int], outputs: Outputs) -> Outputs:
        count = self.note.departure.treedef.num_leaves
        return Outputs(outputs.results[:count], outputs.written, [], [outputs.closed[number] for number in order])


def _is_same_setting(value: Any, before: Any) -> bool:
    return not isinstance(value, Cell) and StaticKey(value) == StaticKey(before)


def _without_values(operands: Operands, transform: str, function: Callable[..., Any]) -> Operands:
    """Operands of the same structure and types that belong to no trace."""
    arguments, graphdef = operands.arguments, operands.arguments.graphdef
    values, arrays = jax.tree.map(jax.typeof, (operands.values, operands.arrays))
    leaves: list[Any] = [None] * len(arguments.leaves)
    for spot, array in zip(arguments.shape.rest, arrays, strict=True):
        leaves[spot] = array
    if arguments.roots:
        packed = [
            pack(value) if isinstance(graphdef.heads[place], StateHead) else value
            for place, value in zip(graphdef.leaves, values, strict=True)
        ]
        root = unflatten(graphdef, packed)[0]
        for spot, each in zip(arguments.shape.spots, [root] if len(arguments.roots) == 1 else root, strict=True):
            leaves[spot] = each
    args, _ = jax.tree.unflatten(arguments.shape.treedef, leaves)
    return Operands(args, {}, transform, function)


def _either(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    return [given if kept is None else kept for kept, given in zip(first, second, strict=True)]


def _parts(outputs: Outputs) -> list[Any]:
    return [*outputs.results, *outputs.written, *outputs.closed]


def _told(value: Any) -> str:
    return str(jax.tree.map(lambda aval: aval.str_short(), value)).replace("'", "")
