"""A loop whose body is traced once: what each step carries, and what it leaves behind.

States that the body writes are carried from step to step, whether they came as arguments or were found on the way;
States of a Node in the scanned inputs are sliced, and what is written to them is stacked. Streams of random keys
have no axis: they are carried, and every step draws afresh.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from graphstate import environ
from graphstate._trace import Cell, commit, describe, outer_value, pack, unpack
from graphstate.errors import AliasError, AxisError, CarryError, StructureError
from graphstate.graph._state import State

from ._arguments import function_name, gather, shown, target_names
from ._axes import lane_count
from ._boundary import Departure, FromArgument, FromGraph, FromOutside, arrive, enter, leave
from ._capture import CaptureFrame, Program, read_source, trace_program, unread_inputs
from ._lanes import is_stream, read_lazily
from ._traced import name_cells
from ._watch import Watch

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

    def run(self, length: int | None, reverse: bool, unroll: int | bool) -> tuple[Any, Any]:
        """Runs the loop; returns the last carry and the stacked outputs."""
        carried = [value for value, sliced in zip(self.values, self.is_sliced, strict=True) if not sliced]
        scanned = [value for value, sliced in zip(self.values, self.is_sliced, strict=True) if sliced]
        arrays = self.arguments.arrays()
        init_arrays, xs_arrays = arrays[: self._carry_arrays], arrays[self._carry_arrays :]
        steps = self._length(scanned, xs_arrays, length)
        if jax.config.jax_disable_jit and not self.arguments.roots and steps > 0:  # type: ignore[attr-defined]
            return self._run_in_python(range(steps)[::-1] if reverse else range(steps))
        program = self._trace(carried, init_arrays, scanned, xs_arrays)
        init = self._initial(program, carried, init_arrays)
        promoted = _promoted(program, init)
        if promoted is not None:
            # As in `jax.lax.scan`: what is carried with a weak type takes the type that the step gives it, and the step
            # is traced again.
            self.found_types = dict(zip(map(id, program.note.written), promoted.found, strict=True))
            program = self._trace(promoted.values, promoted.arrays, scanned, xs_arrays)
            init = self._initial(program, promoted.values, promoted.arrays)
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
            return _like(carry, after), outputs

        last, stacked = lax.scan(body, init, (scanned, xs_arrays), length=steps, reverse=reverse, unroll=unroll)
        return self._arrive(note, last, stacked)

    def _run_in_python(self, order: range) -> tuple[Any, Any]:
        """The loop itself, where JAX was told not to compile: every step sees concrete values."""
        carry, xs = self._init, self._xs
        outputs = []
        for index in order:
            carry, output = self.step(carry, jax.tree.map(lambda leaf: leaf[index], xs))  # noqa: B023, called at once
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
            inside, args, kwargs = enter(frame, self.arguments, targets, [*arrays, *x_arrays])
            name_cells(frame, inside, self.arguments, self.step, self.watch)
            with self.watch.guarded():
                result = self.step(*args, **kwargs)
            self._check_pair(result)
            leaving = leave(frame, inside, result, self.transform)
            departure = leaving.departure
            self._check_structure(departure, result[0])
            self._check_aliases(frame)
            written = frame.written()
            changed = dict(zip(departure.written, leaving.written, strict=True))
            after = [changed.get(number, targets[number]) for number, sliced in enumerate(self.is_sliced) if not sliced]
            sliced_written = tuple(number for number in departure.written if self.is_sliced[number])
            found = [unpack(slot.value) for slot in written]
            outputs = (leaving.results[len(arrays) :], [changed[number] for number in sliced_written], leaving.fresh)
            note = _Note(departure, sliced_written, tuple(slot.cell for slot in written))
            return (_Carry(after, leaving.results[: len(arrays)], found), outputs), note

        avals = jax.tree.map(_slice_type, (scanned, xs_arrays))
        return trace_program(frame, step, carried, init_arrays, *avals)

    def _check_pair(self, result: Any) -> None:
        if not isinstance(result, tuple) or len(result) != 2:
            raise CarryError(
                f"The function of `{self.transform}` returns the pair (carry, output), but "
                f"`{function_name(self.function)}` returned {shown(result)}. Return (carry, None) where there is no "
                "output."
            )

    def _check_structure(self, departure: Departure, carry: Any) -> None:
        if not departure.is_same:
            raise StructureError(
                f"The structure of a Node was changed inside of `{self.transform}` by "
                f"`{function_name(self.function)}` (an attribute, a list or a static "
                "value): a loop is traced once, and each step must find what the step before it left. Change it "
                "before or after the loop."
            )
        treedef: Any = jax.tree.structure(carry)
        if treedef != self.init_treedef:
            raise CarryError(
                f"The carry of `{self.transform}` keeps its structure from step to step, but it was "
                f"{self.init_treedef} and `{function_name(self.function)}` returned {treedef}."
            )
        count = treedef.num_leaves
        roots = iter(self._first_roots())
        for spot, source in enumerate(departure.sources[:count]):
            is_object = spot in self.arguments.shape.spots
            if (is_object and source != FromArgument(next(roots))) or (
                not is_object and isinstance(source, FromArgument | FromGraph | FromOutside)
            ):
                raise CarryError(
                    f"A Node in the carry of `{self.transform}` comes back as the same Node: write to its States in "
                    f"place. `{function_name(self.function)}` returned another one at leaf {spot} of the carry."
                )
        for source in departure.sources[count:]:
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

    def _first_roots(self) -> list[int]:
        """For each graph object of the carry its number, or that of the first that is the same object."""
        roots = self.arguments.roots
        return [
            next(number for number, root in enumerate(roots) if root is each) for each in roots[: self._carry_roots]
        ]

    # Types of the carry

    def _check(self, program: Program, carry: _Carry) -> None:
        """Refuses what has another structure, shape or dtype after a step.

        Raises:
            CarryError: naming the State, or the leaf of the carry.
        """
        after, _ = jax.tree.unflatten(program.treedef, program.jaxpr.out_avals)
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
            _check_type(self.transform, name, before, now)

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


def _slice_type(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(leaf)[1:], jnp.result_type(leaf))


def _same_tree(first: Any, second: Any) -> bool:
    treedef: Any = jax.tree.structure(first)
    return bool(treedef == jax.tree.structure(second))


def _promoted(program: Program, carry: _Carry) -> _Carry | None:
    """The carry with the types that a step gives to its weakly typed leaves; None where they are right already."""
    after, _ = jax.tree.unflatten(program.treedef, program.jaxpr.out_avals)
    if not _same_tree(carry, after):
        return None
    promoted: _Carry = jax.tree.map(_promote, carry, after)
    changed = any(old is not new for old, new in zip(jax.tree.leaves(carry), jax.tree.leaves(promoted), strict=True))
    return promoted if changed else None


def _promote(before: Any, after: Any) -> Any:
    """`before` with the dtype of `after`, where it has a weak one that gives way to it."""
    aval = jax.typeof(before)
    if not aval.weak_type or aval.dtype == after.dtype:
        return before
    with jax.numpy_dtype_promotion("standard"):
        if jnp.promote_types(aval.dtype, after.dtype) != after.dtype:
            return before
    return lax.convert_element_type(before, after.dtype)


def _check_type(transform: str, name: str, before: Any, after: Any) -> None:
    if not _same_tree(before, after):
        raise CarryError(
            f"{name} is carried by `{transform}` and must keep its structure, but it was {jax.tree.structure(before)} "
            f"and is {jax.tree.structure(after)} after a step."
        )
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        aval = jax.typeof(_promote(old, new))
        if aval.shape != new.shape or aval.dtype != new.dtype:
            raise CarryError(
                f"{name} is carried by `{transform}` and must keep its shape and dtype, but it was {aval.str_short()} "
                f"and is {new.str_short()} after a step. Write a value of the same type, or return it as an output."
            )


def _like(carry: _Carry, after: _Carry) -> _Carry:
    """The carry after a step, with the weak types of the carry before it."""
    typed: _Carry = jax.tree.map(
        lambda before, now: lax.convert_element_type(now, before.dtype) if _is_weaker(before, now) else now,
        carry,
        after,
    )
    return typed


def _is_weaker(before: Any, after: Any) -> bool:
    return bool(jax.typeof(after).weak_type and not jax.typeof(before).weak_type)
