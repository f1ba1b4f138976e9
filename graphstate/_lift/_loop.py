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

from ._arguments import function_name, gather, target_names
from ._axes import lane_count
from ._boundary import Departure, FromArgument, FromGraph, FromOutside, arrive, enter, leave
from ._capture import CaptureFrame, Program, read_source, trace_program
from ._lanes import is_stream
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
        self, function: Callable[..., Any], step: Callable[[Any, Any], Any], init: Any, xs: Any, watch: Watch, transform: str
    ) -> None:
        self.function = function
        self.step = step
        self.watch = watch
        self.transform = transform
        self.arguments = gather((init, xs), {}, transform, step)
        self.init_treedef = jax.tree.structure(init)
        self.values = self.arguments.values()
        carried = self.init_treedef.num_leaves
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
        carried = {id(leaf) for plan in arguments.plans[: self._carry_roots] for leaf in plan.leaves if isinstance(leaf, State)}
        for plan in arguments.plans[self._carry_roots :]:
            for leaf in plan.leaves:
                if id(leaf) in carried:
                    raise AliasError(
                        f"{describe(leaf)} is reached from the carry of `{self.transform}` and from what it scans: it cannot be carried whole "
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
        program = self._trace(carried, init_arrays, scanned, xs_arrays)
        promoted = self._promoted(program, carried, init_arrays)
        if promoted is not None:
            # As in `jax.lax.scan`: a weakly typed carry takes the type that the step gives it, and the step is traced again.
            carried, init_arrays = promoted
            program = self._trace(carried, init_arrays, scanned, xs_arrays)
        note: _Note = program.note
        found = [unpack(outer_value(cell)) for cell in note.written]
        captured = [read_source(source, environ.lookup) for source in program.sources]
        init = _Carry(carried, init_arrays, found)
        init = self._checked(program, init)
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

    def _length(self, scanned: list[Any], arrays: list[Any], length: int | None) -> int:
        names = target_names(self.arguments, self.step)
        mapped = [
            (name, value, 0)
            for name, value, sliced in zip(names, self.values, self.is_sliced, strict=True)
            if sliced
        ]
        mapped += [(f"an array of {self.transform}'s inputs", value, 0) for value in arrays]
        if not mapped and length is None:
            raise AxisError(f"`{self.transform}` needs something to scan, or `length`; it was given neither.")
        return lane_count(mapped, length, self.transform, size_name="length")

    # Tracing one step

    def _trace(self, carried: list[Any], init_arrays: list[Any], scanned: list[Any], xs_arrays: list[Any]) -> Program:
        frame = CaptureFrame()

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
            written = frame.written()
            changed = dict(zip(departure.written, leaving.written, strict=True))
            after = [changed.get(number, targets[number]) for number, sliced in enumerate(self.is_sliced) if not sliced]
            sliced_written = tuple(number for number in departure.written if self.is_sliced[number])
            found = [unpack(slot.value) for slot in written]
            outputs = (leaving.results[len(arrays) :], [changed[number] for number in sliced_written], leaving.fresh)
            note = _Note(departure, sliced_written, tuple(slot.cell for slot in written))
            return (_Carry(after, leaving.results[: len(arrays)], found), outputs), note

        avals = jax.eval_shape(lambda values: jax.tree.map(lambda leaf: leaf[0], values), _shapes((scanned, xs_arrays)))
        return trace_program(frame, step, carried, init_arrays, *avals)

    def _check_pair(self, result: Any) -> None:
        if not isinstance(result, tuple) or len(result) != 2:
            raise CarryError(
                f"The function of `{self.transform}` returns the pair (carry, output), but `{function_name(self.function)}` returned "
                f"a {type(result).__name__}. Return (carry, None) where there is no output."
            )

    def _check_structure(self, departure: Departure, carry: Any) -> None:
        if not departure.is_same:
            raise StructureError(
                f"The structure of a Node was changed inside of `{self.transform}` by `{function_name(self.function)}` (an attribute, a list or a static "
                "value): a loop is traced once, and each step must find what the step before it left. Change it before or after the loop."
            )
        treedef = jax.tree.structure(carry)
        if treedef != self.init_treedef:
            raise CarryError(
                f"The carry of `{self.transform}` keeps its structure from step to step, but it was {self.init_treedef} and "
                f"`{function_name(self.function)}` returned {treedef}."
            )
        count = treedef.num_leaves
        roots = iter(range(self._carry_roots))
        for spot, source in enumerate(departure.sources[:count]):
            is_object = spot in self.arguments.shape.spots
            if is_object and source != FromArgument(next(roots)) or not is_object and isinstance(source, FromArgument | FromGraph | FromOutside):
                raise CarryError(
                    f"A Node in the carry of `{self.transform}` comes back as the same Node: write to its States in place. "
                    f"`{function_name(self.function)}` returned another one at leaf {spot} of the carry."
                )
        for source in departure.sources[count:]:
            if isinstance(source, FromArgument | FromOutside):
                raise AliasError(
                    f"A Node that was made outside of `{self.transform}` is among its outputs, which are stacked over the steps, but it is the same "
                    "object in all of them. Return its values (`graphstate.state(node)`), or make the Node inside."
                )

    # Types of the carry

    def _promoted(self, program: Program, values: list[Any], arrays: list[Any]) -> tuple[list[Any], list[Any]] | None:
        """The carry with the types that a step gives to its weakly typed leaves; None where they are right already."""
        after, _ = jax.tree.unflatten(program.treedef, program.jaxpr.out_avals)
        before = (values, arrays)
        promoted = jax.tree.map(_promote, before, (after.values, after.arrays)) if _same_tree(before, (after.values, after.arrays)) else before
        changed = any(a is not b for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(promoted), strict=True))
        return promoted if changed else None

    def _checked(self, program: Program, carry: _Carry) -> _Carry:
        """The carry, with weak types promoted.

        Raises:
            CarryError: a value has another structure, shape or dtype after a step.
        """
        after, _ = jax.tree.unflatten(program.treedef, program.jaxpr.out_avals)
        names = [name for name, sliced in zip(target_names(self.arguments, self.step), self.is_sliced, strict=True) if not sliced]
        names += [f"the carry at leaf {index}" for index in range(len(carry.arrays))]
        names += [describe(cell) if (name := self.watch.name_of(cell)) is None else f"`{name}`" for cell in program.note.written]
        before_all = [*carry.values, *carry.arrays, *carry.found]
        after_all = [*after.values, *after.arrays, *after.found]
        for name, before, now in zip(names, before_all, after_all, strict=True):
            _check_type(self.transform, name, before, now)
        return carry._replace(found=[jax.tree.map(_promote, before, now) for before, now in zip(carry.found, after.found, strict=True)])

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


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), tree)


def _same_tree(first: Any, second: Any) -> bool:
    return bool(jax.tree.structure(first) == jax.tree.structure(second))


def _promote(before: Any, after: Any) -> Any:
    """`before` with the dtype of `after`, where it has a weak one that gives way to it."""
    aval = jax.typeof(before)
    if not aval.weak_type or (aval.dtype == after.dtype and after.weak_type):
        return before
    if jnp.promote_types(aval.dtype, after.dtype) != after.dtype:
        return before
    return lax.convert_element_type(before, after.dtype)


def _check_type(transform: str, name: str, before: Any, after: Any) -> None:
    if not _same_tree(before, after):
        raise CarryError(
            f"{name} is carried by `{transform}` and must keep its structure, but it was {jax.tree.structure(before)} and is "
            f"{jax.tree.structure(after)} after a step."
        )
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        aval = jax.typeof(_promote(old, new))
        if aval.shape != new.shape or aval.dtype != new.dtype:
            raise CarryError(
                f"{name} is carried by `{transform}` and must keep its shape and dtype, but it was {aval.str_short()} and is "
                f"{new.str_short()} after a step. Write a value of the same type, or return it as an output."
            )


def _like(carry: _Carry, after: _Carry) -> _Carry:
    """The carry after a step, with the weak types of the carry before it."""
    return jax.tree.map(lambda before, now: lax.convert_element_type(now, before.dtype) if _is_weaker(before, now) else now, carry, after)  # type: ignore[no-any-return]


def _is_weaker(before: Any, after: Any) -> bool:
    return bool(jax.typeof(after).weak_type and not jax.typeof(before).weak_type)


