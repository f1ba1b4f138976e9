"""One call of a function, captured as a program: for transforms that take a whole call and run it in their own way.

A branch of `cond`, the body of a `while_loop`, a checkpointed or checked function: each is traced once, where the
transform is called, into a program whose inputs are the values of its arguments and of the States that it reads.
What it returns are values only; `finish` writes them back when the transform has run it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax

from graphstate import environ
from graphstate._compat import bare_part_of, part_of
from graphstate._lift.watch._watch import Watch
from graphstate._trace import Cell, commit, pack, unpack

from ._arguments import Arguments, gather
from ._boundary import Departure, arrive, enter, leave
from ._capture import CaptureFrame, Program, read_source, trace_program, unread_inputs
from ._lane_stream import read_lazily
from ._traced import name_cells

__all__ = [
    "CallNote",
    "Operands",
    "Outputs",
    "call_captured",
    "capture",
    "finish",
    "part_of_writes",
    "part_with_results",
    "read_captured",
]


class Outputs(NamedTuple):
    """What a captured call returns.

    Attributes:
        results: the arrays of the result.
        written: the values of the arguments' States and arrays that were replaced.
        fresh: the values of new States and arrays.
        closed: the values of the States of the closure that were written.
    """

    results: list[Any]
    written: list[Any]
    fresh: list[Any]
    closed: list[Any]


class CallNote(NamedTuple):
    """What the outputs of a captured call mean.

    Attributes:
        departure: what comes out of the arguments' graph.
        closed: the States of the closure that were written.
    """

    departure: Departure
    closed: tuple[Cell, ...]


class Operands:
    """The arguments of a call as the inputs of programs; a stream of random keys is read once a program reads it.

    Attributes:
        arguments: the arguments.
        values: the values of their States and arrays.
        arrays: the leaves that are no graph objects.
    """

    def __init__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], transform: str, function: Callable[..., Any]
    ) -> None:
        self.arguments: Arguments = gather(args, kwargs, transform, function)
        read = [read_lazily(held) for held in self.arguments.held()]
        self.values = [value for value, _ in read]
        self.arrays = self.arguments.arrays()
        self._streams = [stream for _, stream in read]

    def open_streams(self, programs: Iterable[Program]) -> None:
        """Reads the streams that one of the programs looks at; all others stay as they are."""
        if all(stream is None for stream in self._streams):
            return
        for program in programs:
            unread = unread_inputs(program.jaxpr, self.values, carried=False)
            for stream, is_unread in zip(self._streams, unread, strict=True):
                if stream is not None and not is_unread:
                    stream.checked()


def capture(
    function: Callable[..., Any],
    operands: Operands,
    watch: Watch,
    transform: str,
    check: Callable[[Any], None] | None = None,
    types: dict[int, Any] | None = None,
    extra: Any = None,
) -> Program:
    """Traces one call of `function`; the program returns `Outputs`, its note is a `CallNote`.

    Args:
        function: the user's function.
        operands: its arguments.
        watch: what it depends on.
        transform: the name of the transform, for messages.
        check: looks at the result before anything else does.
        types: values whose types some States have as inputs, by id, where these are not the types of their values.
        extra: a pytree of further inputs, or of their types, that `function` takes first; None for none.
    """
    arguments, frame = operands.arguments, CaptureFrame(types)

    def body(values: list[Any], arrays: list[Any], *further: Any) -> tuple[Outputs, CallNote]:
        inside, args, kwargs = enter(frame, arguments, values, arrays)
        name_cells(frame, inside, arguments, function, watch)
        with watch.guarded():
            result = function(*further, *args, **kwargs)
        if check is not None:
            check(result)
        leaving = leave(frame, inside, result, transform)
        watch.check_one_way(arguments.objects(), not leaving.departure.is_same, transform)
        slots = frame.written()
        closed = [unpack(slot.value) for slot in slots]
        note = CallNote(leaving.departure, tuple(slot.cell for slot in slots))
        return Outputs(leaving.results, leaving.written, leaving.fresh, closed), note

    further = () if extra is None else (extra,)
    return trace_program(frame, body, operands.values, operands.arrays, *further)


def part_with_results(program: Program, written: Sequence[bool]) -> tuple[Program, list[bool]]:
    """A captured call without some of the values that it writes; None stands for them.

    Args:
        program: returns `Outputs`.
        written: for each value that is written, of arguments, then of the closure, whether it is given.

    Returns:
        The program, which takes the same inputs, and which leaves of these it depends on.
    """
    used, treedef = _part(program, True, written)
    jaxpr, needed = part_of(program.jaxpr, used)
    return program._replace(jaxpr=jaxpr, treedef=treedef), needed


def part_of_writes(program: Program, written: Sequence[bool]) -> tuple[Program, bool]:
    """A captured call that gives some of the values that it writes and nothing else; whether it has effects."""
    used, treedef = _part(program, False, written)
    jaxpr, has_effects = bare_part_of(program.jaxpr, used)
    return program._replace(jaxpr=jaxpr, treedef=treedef), has_effects


def _part(program: Program, has_results: bool, written: Sequence[bool]) -> tuple[list[bool], Any]:
    count = program.treedef.num_leaves
    numbers: Outputs = jax.tree.unflatten(program.treedef, list(range(count)))
    wanted = iter(written)
    part = Outputs(
        [each if has_results else None for each in numbers.results],
        [each if next(wanted) else None for each in numbers.written],
        numbers.fresh,
        [each if next(wanted) else None for each in numbers.closed],
    )
    given = set(jax.tree.leaves(part))
    return [number in given for number in range(count)], jax.tree.structure(part)


def read_captured(program: Program) -> list[Any]:
    """What a program captures, as it is where the caller runs."""
    return [read_source(source, environ.depend_on) for source in program.sources]


def finish(note: CallNote, arguments: Arguments, outputs: Outputs) -> Any:
    """Writes back what a captured call has written, and returns its result."""
    commit([(cell, pack(value)) for cell, value in zip(note.closed, outputs.closed, strict=True)])
    return arrive(note.departure, arguments, outputs.results, outputs.written, outputs.fresh)


def call_captured(
    function: Callable[..., Any],
    operands: Operands,
    watch: Watch,
    transform: str,
    around: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> Any:
    """Calls `function` as one program, inside of what `around` makes of it (`jax.checkpoint`, say)."""
    program = capture(function, operands, watch, transform)
    operands.open_streams([program])
    captured = read_captured(program)

    def run(values: list[Any], arrays: list[Any], captured: Sequence[Any]) -> Any:
        return program.run((values, arrays), captured)

    outputs: Outputs = around(run)(operands.values, operands.arrays, captured)
    return finish(program.note, operands.arguments, outputs)
