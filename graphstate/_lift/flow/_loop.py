"""A loop whose body is traced once: what each step carries, and what it leaves behind.

States that the body writes are carried from step to step, whether they came as arguments or were found on the way;
States of a Node in the scanned inputs are sliced, and what is written to them is stacked. Streams of random keys
have no axis: they are carried, and every step draws afresh.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from graphstate import environ
from graphstate._lift.call._arguments import function_name, gather, shown, target_names
from graphstate._lift.call._boundary import (
    Departure,
    FromArgument,
    FromGraph,
    FromOutside,
    Inside,
    arrive,
    enter,
    leave,
)
from graphstate._lift.call._capture import CaptureFrame, Program, read_source, trace_program, unread_inputs
from graphstate._lift.call._lane_stream import is_stream, read_lazily
from graphstate._lift.call._progress import Bar, NoBar, loop_bar
from graphstate._lift.call._structure import check_same_structure
from graphstate._lift.call._traced import name_cells
from graphstate._lift.lanes._axes import lane_count, slice_type
from graphstate._lift.watch._watch import Watch
from graphstate._trace import Cell, commit, describe, outer_value, pack, unpack
from graphstate.errors import AliasError, AxisError, CarryError
from graphstate.graph._state import State

from ._carry import check_carried, check_same_objects, keep_types, promoted

__all__ = ["LoopCall"]


class _Note(NamedTuple):
    """The static half of what one step leaves behind."""

    departure: Departure
    sliced: tuple[int, ...]
    written: tuple[Cell, ...]


class _Carry(NamedTuple):
    """What is carried: values of arguments, arrays among them, and States that were found on the way."""

    values: list[Any]
    arrays: list[Any]
    found: list[Any]


class LoopCall:
    """One loop.

    Args:
        function: the user's function, for messages.
        step: takes (carry, x), calls the function, and returns (carry, output).
        init: the carry before the first step.
        xs: what is scanned.
        watch: what the function depends on.
        transform: the name of the transform, for messages.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        step: Callable[[Any, Any], Any],
        init: Any,
        xs: Any,
        watch: Watch,
        transform: str,
    ) -> None:
        self.function = function
        self.step = step
        self.watch = watch
        self.transform = transform
        self._init, self._xs = init, xs
        self.arguments = gather((init, xs), {}, transform, step)
        self.found_types: dict[int, Any] = {}
        self.init_treedef: Any = jax.tree.structure(init)
        held = self.arguments.held()
        self.values = [value for value, _ in map(read_lazily, held)]
        self._streams = [stream for _, stream in map(read_lazily, held)]
        treedef: Any = self.init_treedef
        carried = treedef.num_leaves
        shape = self.arguments.shape
        self._carry_roots = sum(spot < carried for spot in shape.spots)
        self._carry_arrays = sum(spot < carried for spot in shape.rest)
        owned = self._targets_of_carry()
        self.is_sliced = [
            number not in owned and not is_stream(target, value)
            for number, (target, value) in enumerate(zip(self.arguments.targets, self.values, strict=True))
        ]
        self._axes = [0 if sliced else None for sliced in self.is_sliced]

    def _targets_of_carry(self) -> set[int]:
        """The numbers of the targets that the carry reaches; none of them may be scanned too."""
        arguments = self.arguments
        carried = {
            id(leaf) for plan in arguments.plans[: self._carry_roots] for leaf in plan.leaves if isinstance(leaf, State)
        }
        for plan in arguments.plans[self._carry_roots :]:
            for leaf in plan.leaves:
                if id(leaf) in carried:
                    raise AliasError(
                        f"{describe(leaf)} is reached from the carry of `{self.transform}` and from what it scans: "
                        "it cannot be carried whole "
                        "and sliced. Clone one of the two, or read it from the closure."
                    )
        count = 0
        for plan, pick in zip(arguments.plans[: self._carry_roots], arguments.joint.picks, strict=False):
            count += len(plan.leaves) if pick is None else len(pick)
        return set(range(count))

    # The call

    def run(
        self, length: int | None, reverse: bool, unroll: int | bool, progress: bool | str = False
    ) -> tuple[Any, Any]:
        """Runs the loop; returns the last carry and the stacked outputs."""
        carried = [value for value, sliced in zip(self.values, self.is_sliced, strict=True) if not sliced]
        scanned = [value for value, sliced in zip(self.values, self.is_sliced, strict=True) if sliced]
        arrays = self.arguments.arrays()
        init_arrays, xs_arrays = arrays[: self._carry_arrays], arrays[self._carry_arrays :]
        steps = self._length(scanned, xs_arrays, length)
        bar = loop_bar(progress, steps)
        if jax.config.jax_disable_jit and not self.arguments.roots and steps > 0:  # type: ignore[attr-defined]
            return self._run_in_python(range(steps)[::-1] if reverse else range(steps), bar)
        program = self._trace(carried, init_arrays, scanned, xs_arrays)
        init = self._initial(program, carried, init_arrays)
        better = promoted(init, self._after(program))
        if better is not None:
            # As in `jax.lax.scan`: what is carried with a weak type takes the type that the step gives it, and the step
            # is traced again.
            self.found_types = dict(zip(map(id, program.note.written), better.found, strict=True))
            program = self._trace(better.values, better.arrays, scanned, xs_arrays)
            init = self._initial(program, better.values, better.arrays)
        self._open_streams(program, carried)
        note: _Note = program.note
        captured = [read_source(source, environ.depend_on) for source in program.sources]
        self._check(program, init)
        numbers = {id(cell): number for number, cell in enumerate(note.written)}

        def body(carry: _Carry, x: tuple[list[Any], list[Any]]) -> tuple[_Carry, Any]:
            inputs = [
                carry.found[numbers[id(source.cell())]] if id(source.cell()) in numbers else value
                for source, value in zip(program.sources, captured, strict=True)
            ]
            after, outputs = program.run((carry.values, carry.arrays, *x), inputs)
            return keep_types(carry, after), outputs

        reads = captured, program.jaxpr.consts
        last, stacked = bar.scan(body, init, (scanned, xs_arrays), reads, length=steps, reverse=reverse, unroll=unroll)
        return self._arrive(note, last, stacked)

    def _run_in_python(self, order: range, bar: Bar | NoBar) -> tuple[Any, Any]:
        """The loop itself, where JAX was told not to compile: every step sees concrete values."""
        carry, xs = self._init, self._xs
        outputs = []
        with closing(bar.follow(order)) as indices:
            for index in indices:
                x = jax.tree.map(lambda leaf: leaf[index], xs)  # noqa: B023, called at once
                carry, output = self.step(carry, x)
                outputs.append(output)
        return carry, jax.tree.map(lambda *parts: jnp.stack(parts), *(outputs if order.step > 0 else outputs[::-1]))

    def _open_streams(self, program: Program, carried: list[Any]) -> None:
        """The streams that the steps draw from are read; all others stay as they are."""
        if any(stream is not None for stream in self._streams):
            unread = iter(unread_inputs(program.jaxpr, carried, carried=True))
            for stream, sliced in zip(self._streams, self.is_sliced, strict=True):
                if not sliced and not next(unread) and stream is not None:
                    stream.checked()

    def _initial(self, program: Program, values: list[Any], arrays: list[Any]) -> _Carry:
        """What the first step finds."""
        found = [unpack(outer_value(cell)) for cell in program.note.written]
        return _Carry(
            values,
            arrays,
            [self.found_types.get(id(cell), value) for cell, value in zip(program.note.written, found, strict=True)],
        )

    def _length(self, scanned: list[Any], arrays: list[Any], length: int | None) -> int:
        if length is not None and length < 0:
            raise AxisError(f"`length` of `{self.transform}` is a number of steps, but it is {length}.")
        names = target_names(self.arguments, self.step)
        mapped = [
            (name, value, 0) for name, value, sliced in zip(names, self.values, self.is_sliced, strict=True) if sliced
        ]
        mapped += [(f"an array of {self.transform}'s inputs", value, 0) for value in arrays]
        if not mapped and length is None:
            raise AxisError(f"`{self.transform}` needs something to scan, or `length`; it was given neither.")
        return lane_count(mapped, length, self.transform, size_name="length")

    # Tracing one step

    def _trace(self, carried: list[Any], init_arrays: list[Any], scanned: list[Any], xs_arrays: list[Any]) -> Program:
        frame = CaptureFrame(self.found_types)

        def step(values: list[Any], arrays: list[Any], slices: list[Any], x_arrays: list[Any]) -> tuple[Any, _Note]:
            whole, part = iter(values), iter(slices)
            targets = [next(part) if sliced else next(whole) for sliced in self.is_sliced]
            inside, args, kwargs = enter(frame, self.arguments, targets, [*arrays, *x_arrays], self._axes)
            name_cells(frame, inside, self.arguments, self.step, self.watch)
            with self.watch.guarded():
                result = self.step(*args, **kwargs)
            self._check_pair(result)
            leaving = leave(frame, inside, result, self.transform)
            departure = leaving.departure
            self._check_structure(departure, inside, result[0])
            self._check_aliases(frame)
            written = frame.written()
            changed = dict(zip(departure.written, leaving.written, strict=True))
            after = [changed.get(number, targets[number]) for number, sliced in enumerate(self.is_sliced) if not sliced]
            sliced_written = tuple(number for number in departure.written if self.is_sliced[number])
            found = [unpack(slot.value) for slot in written]
            outputs = (leaving.results[len(arrays) :], [changed[number] for number in sliced_written], leaving.fresh)
            note = _Note(_stacked(departure, len(leaving.fresh)), sliced_written, tuple(slot.cell for slot in written))
            return (_Carry(after, leaving.results[: len(arrays)], found), outputs), note

        avals = jax.tree.map(slice_type, (scanned, xs_arrays))
        return trace_program(frame, step, carried, init_arrays, *avals)

    def _check_pair(self, result: Any) -> None:
        if not isinstance(result, tuple) or len(result) != 2:
            raise CarryError(
                f"The function of `{self.transform}` returns the pair (carry, output), but "
                f"`{function_name(self.function)}` returned {shown(result)}. Return (carry, None) where there is no "
                "output."
            )

    def _check_structure(self, departure: Departure, inside: Inside, carry: Any) -> None:
        check_same_structure(departure, self.arguments, self.transform, self.function, self.step, inside)
        treedef: Any = jax.tree.structure(carry)
        check_same_objects(departure, self.arguments, self.init_treedef, treedef, self.transform, self.function)
        for source in departure.sources[treedef.num_leaves :]:
            if isinstance(source, FromArgument | FromOutside) or (
                isinstance(source, FromGraph)
                and departure.restructuring is not None
                and departure.restructuring.is_known(source.place)
            ):
                raise AliasError(
                    f"A Node that was made outside of `{self.transform}` is among its outputs, which are stacked "
                    "over the steps, but it is the same "
                    "object in all of them. Return its values (`graphstate.state(node)`), or make the Node inside."
                )

    def _check_aliases(self, frame: CaptureFrame) -> None:
        for target, sliced in zip(self.arguments.targets, self.is_sliced, strict=True):
            if sliced and id(target) in frame.alias_reads:
                raise AliasError(
                    f"{describe(target)} is scanned by `{self.transform}`, so that each step has its slice, and the "
                    "function reads it from its closure "
                    "too, where it is whole. Use the argument only, or clone one of the two."
                )

    # Types of the carry

    def _after(self, program: Program) -> _Carry:
        """The types after a step."""
        after: _Carry = jax.tree.unflatten(program.treedef, program.jaxpr.out_avals)[0]
        return after

    def _check(self, program: Program, carry: _Carry) -> None:
        """Refuses what has another structure, shape or dtype after a step.

        Raises:
            CarryError: naming the State, or the leaf of the carry.
        """
        after = self._after(program)
        names = [
            f"`{name}`"
            for name, sliced in zip(target_names(self.arguments, self.step), self.is_sliced, strict=True)
            if not sliced
        ]
        names += [f"Leaf {index} of the carry" for index in range(len(carry.arrays))]
        for cell in program.note.written:
            name = self.watch.name_of(cell)
            names.append(describe(cell) if name is None else f"`{name}`")
        before_all, after_all = (
            [*carry.values, *carry.arrays, *carry.found],
            [*after.values, *after.arrays, *after.found],
        )
        for name, before, now in zip(names, before_all, after_all, strict=True):
            check_carried(self.transform, name, before, now)

    # Back

    def _arrive(self, note: _Note, last: _Carry, stacked: Any) -> tuple[Any, Any]:
        outputs, sliced, fresh = stacked
        commit([(cell, pack(value)) for cell, value in zip(note.written, last.found, strict=True)])
        whole = iter(last.values)
        finals = {number: next(whole) for number, is_sliced in enumerate(self.is_sliced) if not is_sliced}
        finals.update(zip(note.sliced, sliced, strict=True))
        written = [finals[number] for number in note.departure.written]
        result: tuple[Any, Any] = arrive(note.departure, self.arguments, [*last.arrays, *outputs], written, fresh)
        return result


def _stacked(departure: Departure, fresh: int) -> Departure:
    """What comes out of a step, as it comes out of all of them: its new Nodes are outputs, and are stacked."""
    if departure.restructuring is None:
        return departure
    return replace(departure, restructuring=departure.restructuring.stacked([0] * fresh, None))
