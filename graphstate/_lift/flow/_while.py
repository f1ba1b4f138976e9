"""A loop that runs as long as a condition holds: condition and body are traced once each, from the same carry.

States that the body writes are carried from step to step, and the condition sees them as the last step has left them.
The condition itself writes nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from graphstate._lift.call._arguments import function_name, shown, target_names
from graphstate._lift.call._capture import Program
from graphstate._lift.call._captured import CallNote, Operands, Outputs, capture, finish, read_captured
from graphstate._lift.call._lifted import watched
from graphstate._lift.call._structure import check_same_structure
from graphstate._trace import Cell, describe, outer_value, unpack
from graphstate.errors import StateTypeError, TraceContextError

from ._carry import check_carried, check_same_objects, keep_types, promoted

__all__ = ["WhileCall"]


class _Carry(NamedTuple):
    """What is carried: arrays, and the values of the States and arrays of arguments and closures that are written."""

    arrays: list[Any]
    written: list[Any]
    closed: list[Any]


class WhileCall:
    """One loop.

    Args:
        cond_fun: takes the carry, and says whether there is another step.
        body_fun: takes the carry, and returns the next.
        init: the carry before the first step.
        transform: the name of the transform, for messages.
        function: the user's function, where `body_fun` is one around it.
    """

    def __init__(
        self,
        cond_fun: Callable[..., Any],
        body_fun: Callable[..., Any],
        init: Any,
        transform: str,
        function: Callable[..., Any] | None = None,
    ) -> None:
        self.cond_fun = cond_fun
        self.body_fun = body_fun
        self.function = function or body_fun
        self.transform = transform
        self.init_treedef: Any = jax.tree.structure(init)
        self.operands = Operands((init,), {}, transform, body_fun)
        self._result_treedef: Any = None

    def run(self) -> Any:
        """Runs the loop; returns the last carry."""
        body = self._trace_body({})
        note: CallNote = body.note
        values = self.operands.values
        carry = self._initial(note, {})
        better = promoted(carry, self._after(body))
        types: dict[int, Any] = {}
        if better is not None:
            # As in `jax.lax.while_loop`: what is carried with a weak type takes the type that the step gives it.
            types = dict(zip(map(id, note.closed), better.closed, strict=True))
            self.operands.arrays = better.arrays
            for number, value in zip(note.departure.written, better.written, strict=True):
                values[number] = value
            body = self._trace_body(types)
            note, carry = body.note, self._initial(body.note, types)
        condition = self._trace_condition(types)
        self.operands.open_streams([condition, body])
        self._check(body, carry)
        captured = [read_captured(condition), read_captured(body)]

        def run(program: Program, number: int, carry: _Carry) -> Outputs:
            now = dict(zip(note.departure.written, carry.written, strict=True))
            inputs = [now.get(index, value) for index, value in enumerate(values)]
            outputs: Outputs = program.run((inputs, carry.arrays), _renewed(program, captured[number], note, carry))
            return outputs

        def cond(carry: _Carry) -> Any:
            return run(condition, 0, carry).results[0]

        def step(carry: _Carry) -> _Carry:
            outputs = run(body, 1, carry)
            return keep_types(carry, _Carry(outputs.results, outputs.written, outputs.closed))

        last: _Carry = lax.while_loop(cond, step, carry)
        return finish(note, self.operands.arguments, Outputs(last.arrays, last.written, [], last.closed))

    # Tracing

    def _trace_body(self, types: dict[int, Any]) -> Program:
        def note_structure(result: Any) -> None:
            self._result_treedef = jax.tree.structure(result)

        watch = watched(self.function, self.transform)
        program = capture(self.body_fun, self.operands, watch, self.transform, note_structure, types)
        departure, arguments = program.note.departure, self.operands.arguments
        check_same_structure(departure, arguments, self.transform, self.function, self.body_fun)
        check_same_objects(departure, arguments, self.init_treedef, self._result_treedef, self.transform, self.function)
        return program

    def _trace_condition(self, types: dict[int, Any]) -> Program:
        watch = watched(self.cond_fun, self.transform)
        program = capture(self.cond_fun, self.operands, watch, self.transform, self._check_condition, types)
        note: CallNote = program.note
        check_same_structure(note.departure, self.operands.arguments, self.transform, self.cond_fun)
        written = [f"`{self._names()[number]}`" for number in note.departure.written]
        written += [self._describe(cell, watch.name_of(cell)) for cell in note.closed]
        if written:
            raise TraceContextError(
                f"The condition of `{self.transform}` only looks at States, but `{function_name(self.cond_fun)}` wrote "
                f"{written[0]}: it runs once more than the body. Write it in the body."
            )
        return program

    def _check_condition(self, result: Any) -> None:
        if not hasattr(result, "dtype") and not isinstance(result, bool):
            came = shown(result)
        elif jnp.shape(result) != () or jnp.result_type(result) != jnp.bool_:
            came = jax.typeof(result).str_short()
        else:
            return
        raise StateTypeError(
            f"The condition of `{self.transform}` returns a boolean scalar, but `{function_name(self.cond_fun)}` "
            f"returned {came}. Compare, or reduce it with `jnp.any` or `jnp.all`."
        )

    # The carry

    def _initial(self, note: CallNote, types: dict[int, Any]) -> _Carry:
        """What the first step finds."""
        written = [self.operands.values[number] for number in note.departure.written]
        closed = [types[id(cell)] if id(cell) in types else unpack(outer_value(cell)) for cell in note.closed]
        return _Carry(self.operands.arrays, written, closed)

    def _after(self, body: Program) -> _Carry:
        """The types after a step."""
        outputs: Outputs = jax.tree.unflatten(body.treedef, body.jaxpr.out_avals)
        return _Carry(outputs.results, outputs.written, outputs.closed)

    def _check(self, body: Program, carry: _Carry) -> None:
        """Refuses what has another structure, shape or dtype after a step."""
        note: CallNote = body.note
        watch = watched(self.function, self.transform)
        names = [f"Leaf {index} of the carry" for index in self.operands.arguments.shape.rest]
        names += [f"`{self._names()[number]}`" for number in note.departure.written]
        names += [self._describe(cell, watch.name_of(cell)) for cell in note.closed]
        for name, before, now in zip(names, _parts(carry), _parts(self._after(body)), strict=True):
            check_carried(self.transform, name, before, now)

    def _names(self) -> list[str]:
        return target_names(self.operands.arguments, self.body_fun)

    def _describe(self, cell: Cell, name: str | None) -> str:
        return describe(cell) if name is None else f"`{name}`"


def _renewed(program: Program, captured: Sequence[Any], note: CallNote, carry: _Carry) -> list[Any]:
    """What a program captures, with the States that are carried as they are now."""
    now = dict(zip(map(id, note.closed), carry.closed, strict=True))
    return [now.get(id(source.cell()), value) for source, value in zip(program.sources, captured, strict=True)]


def _parts(carry: _Carry) -> list[Any]:
    return [*carry.arrays, *carry.written, *carry.closed]
