"""One call of a mapped function: what goes into the lanes, and what comes out of them.

The user's function runs once, for all lanes. `LaneCall` has what is common to the transforms that map: which axis each
State has, what a lane may write, what its writes and results mean outside. How the lanes are run is what differs:
at once (`MapCall`), one batch after another (`_sequence`), or on the devices of a mesh (`_shards`).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._lift.call._arguments import Arguments, argument_names, target_names
from graphstate._lift.call._boundary import (
    Departure,
    FromArgument,
    FromOutside,
    FromValues,
    Leaving,
    Restructuring,
    arrive,
    enter,
    leave,
)
from graphstate._lift.call._lane_stream import is_stream
from graphstate._lift.call._streams import Hold
from graphstate._lift.call._traced import name_cells
from graphstate._lift.watch._watch import Watch
from graphstate._trace import (
    MISSING,
    Cell,
    Frame,
    Slot,
    commit,
    current_frame,
    describe,
    kind_and_place,
    outer_value,
    pack,
    peek_in,
    unpack,
)
from graphstate.errors import AliasError, AxisError
from graphstate.graph._axes import StateAxes
from graphstate.graph._flatten import state_head_of
from graphstate.graph._layout import record_of
from graphstate.graph._path import show_path
from graphstate.graph._state import State

from ._axes import LANES, Axis, Spec, Terms, argument_axes, lane_count, result_axes, target_axes
from ._lanes import LaneFrame
from ._owners import Owners, check_outside

__all__ = ["Exit", "LaneCall", "Leaver", "MapCall", "MapOptions"]


class MapOptions(NamedTuple):
    """The parameters of a map."""

    in_axes: Any
    out_axes: Any
    state_in_axes: StateAxes
    state_out_axes: StateAxes
    rng: str
    transform: str
    axis_name: Any = None
    axis_size: int | None = None
    mapping: Callable[..., Any] = jax.vmap


class Exit(NamedTuple):
    """A value that leaves through the transform of JAX: its number there, and its axis outside.

    Where the axis is None, the value is the same in all lanes, but belongs to a trace that the transform began.
    """

    number: int
    axis: Axis
    name: Callable[[], str]


class Leaver(NamedTuple):
    """What an `Exit` is for: the value in the lanes, and its axis outside."""

    value: Any
    axis: Axis


class _Kept(NamedTuple):
    """A value that is the same in all lanes."""

    value: Any


class LaneCall:
    """One call of a function that runs in lanes.

    Attributes:
        terms: the words of the transform.
        specs: what the prefix tree of axes has for each leaf of the arguments.
        axes: the axis of each of the arguments' States and arrays.
        closed: the States of the closure that are mapped, each with its value and its axis.
        leavers: what leaves through the transform of JAX.
    """

    terms: Terms = LANES

    def __init__(
        self, function: Callable[..., Any], options: MapOptions, arguments: Arguments, watch: Watch, hold: Hold
    ) -> None:
        self.function = function
        self.options = options
        self.arguments = arguments
        self.watch = watch
        self.specs = self.argument_specs()
        self.hold = hold
        hold.take_for(arguments.targets)
        self.values = arguments.held()
        self.axes = [
            None if is_stream(target, value) else axis
            for target, value, axis in zip(
                arguments.targets,
                self.values,
                target_axes(arguments, self.specs, function, self.terms),
                strict=True,
            )
        ]
        self._outer = current_frame()
        self._reached = _as_seen_here(watch)
        self.closed = self._closed_over()
        self.leavers: list[Leaver] = []

    def run(self) -> Any:
        """Calls the function in all lanes, and writes back what they wrote."""
        entering = self.entering()
        lanes = self.count_lanes(entering)
        frame = self.make_frame(lanes)
        inputs, axes, self._structures = _flatten_entering(entering)
        return self._arrive(frame, self.launch(frame, inputs, axes, lanes))

    # What differs between transforms

    def argument_specs(self) -> list[Spec]:
        """The axes of each leaf of the arguments."""
        return argument_axes(self.options.in_axes, self.arguments, self.function)

    def result_specs(self, treedef: Any) -> list[Spec]:
        """The axes of each leaf of the result."""
        return result_axes(self.options.out_axes, treedef)

    def enters(self, axis: Axis) -> bool:
        """Whether what has this axis enters through the transform of JAX, or else as a value of the caller's trace."""
        return axis is not None

    def count_lanes(self, entering: Sequence[tuple[str, Any, Axis]]) -> int:
        """The number of lanes."""
        return lane_count(entering, self.options.axis_size, self.options.transform)

    def make_frame(self, lanes: int) -> LaneFrame:
        """The frame that the lanes run in."""
        raise AssertionError

    def launch(self, frame: Any, inputs: list[Any], axes: list[Axis], lanes: int) -> list[Any]:
        """Runs the lanes; returns the `leavers` as they come out."""
        raise AssertionError

    def outside(self, leaver: Any, exit_: Exit) -> Any:
        """The value outside, of one that has come out."""
        return jax.tree.map(lambda leaf: _move(leaf, exit_), leaver)

    # Into the lanes

    def entering(self) -> list[tuple[str, Any, Axis]]:
        """Name, value and axis of everything that enters through the transform of JAX."""
        names = target_names(self.arguments, self.function)
        found = [
            (name, unpack(held), axis)
            for name, held, axis, target in zip(names, self.values, self.axes, self.arguments.targets, strict=True)
            if self.enters(axis) and not is_stream(target, held)
        ]
        labels = argument_names(self.arguments.shape.treedef, self.function)
        for spot in self.arguments.shape.rest:
            axis = self.specs[spot]
            if isinstance(axis, StateAxes):
                raise AxisError(
                    f"`StateAxes` chooses among the States of a Node, but in `{self.terms.in_axes}` it stands for the "
                    f"array `{labels[spot]}`. Write {self.terms.value}."
                )
            if self.enters(axis):
                found.append((labels[spot], self.arguments.leaves[spot], axis))
        found += [(describe_closed(self.watch, state), value, axis) for state, value, axis in self.closed]
        return found

    def _closed_over(self) -> list[tuple[State, Any, int]]:
        """The States that the function refers to and that are mapped: the State, its value, its axis."""
        numbers = {id(target): number for number, target in enumerate(self.arguments.targets)}
        found = []
        for key, (paths, state) in self._reached.items():
            axis = self.options.state_in_axes.find(paths, record_of_state(state, self._outer), None)
            if key in numbers:
                self._check_agreement(numbers[key], axis)
            elif axis is not None:
                held = outer_value(state)
                if not is_stream(state, held):
                    found.append((state, unpack(held), axis))
        return found

    def _check_agreement(self, number: int, axis: Axis) -> None:
        if (
            axis is not None
            and axis != self.axes[number]
            and not is_stream(self.arguments.targets[number], self.values[number])
        ):
            name = target_names(self.arguments, self.function)[number]
            terms = self.terms
            raise AliasError(
                f"A State has one {terms.axis}, but `{name}` is {terms.placed(self.axes[number])} as an argument and "
                f"{terms.placed(axis)} by `{terms.state_in_axes}`. Give it one {terms.axis}: `{terms.in_axes}` decides "
                f"for arguments, `{terms.state_in_axes}` for what the function only refers to."
            )

    def _in_axis(self, cell: Cell) -> Axis:
        return self.axis_by_filter(self.options.state_in_axes, cell, None)

    def axis_by_filter(self, axes: StateAxes, cell: Cell, default: Any) -> Any:
        """The axis of a State of the closure by filters; `default` where none matches."""
        known = self._reached.get(id(cell))
        paths = known[0] if known is not None else ((),)
        return axes.find(paths, record_of_state(cell, self._outer), default) if isinstance(cell, State) else default

    # In the lanes

    def run_lane(self, frame: LaneFrame, inputs: Sequence[Any]) -> list[Leaver]:
        """Calls the user's function in the trace of the lanes; returns what leaves through the transform of JAX.

        Args:
            frame: the frame, entered.
            inputs: what `entering` gave, flat, as it is inside.
        """
        self.leavers = []
        following = iter(_unflatten(inputs, self._structures))
        values = [
            self._inside(frame, target, held, axis, following)
            for target, held, axis in zip(self.arguments.targets, self.values, self.axes, strict=True)
        ]
        arrays = [
            next(following) if self.enters(self.specs[spot]) else self.arguments.leaves[spot]
            for spot in self.arguments.shape.rest
        ]
        inside, args, kwargs = enter(frame, self.arguments, values, arrays, self.axes)
        name_cells(frame, inside, self.arguments, self.function, self.watch)
        for (state, _, _), value in zip(self.closed, following, strict=True):
            packed = pack(value)
            frame.slots[id(state)] = Slot(state, packed, packed)
        with self.watch.guarded():
            result = self.function(*args, **kwargs)
        self._check_aliases(frame)
        self._leave(frame, leave(frame, inside, result, self.options.transform))
        leavers, self.leavers = self.leavers, []
        return leavers

    def _inside(self, frame: LaneFrame, target: Any, held: Any, axis: Axis, following: Iterator[Any]) -> Any:
        if self.enters(axis) and not is_stream(target, held):
            return next(following)
        return frame.entering(target, held) if isinstance(target, State) else held

    # Out of the lanes

    def _check_aliases(self, frame: LaneFrame) -> None:
        """A mapped argument that is read from the closure too would be a slice in one place, and whole in the other."""
        for number, (target, axis) in enumerate(zip(self.arguments.targets, self.axes, strict=True)):
            if axis is not None and id(target) in frame.alias_reads and self._in_axis(target) != axis:
                terms = self.terms
                raise AliasError(
                    f"`{target_names(self.arguments, self.function)[number]}` is {terms.mapped} as an argument, so "
                    f"that each {terms.lane} has its {terms.slice}, and the function reads it from its closure too, "
                    f"where it is whole. Use the argument only, or give it the same {terms.axis} there "
                    f"(`{terms.state_in_axes}`)."
                )

    def _leave(self, frame: LaneFrame, leaving: Leaving) -> None:
        """Decides how each value leaves, and keeps all of them but those that leave through the mapping function."""
        departure = leaving.departure
        self.watch.check_one_way(self.arguments.objects(), not departure.is_same, self.options.transform)
        self._result_specs = self.result_specs(departure.treedef)
        self._check_objects(departure)
        self._written: list[tuple[int, Exit | _Kept]] = []
        for number, value in zip(departure.written, leaving.written, strict=True):
            target, axis = self.arguments.targets[number], self.axes[number]
            if axis is None and self.options.rng != "same" and is_stream(target, self.values[number]):
                continue
            name = self._namer(number)
            frame.check_written(target, value, axis, lambda name=name: frame.batched(name()))  # type: ignore[misc]
            self._written.append((number, self.exit(frame, name, value, axis)))
        array_specs = [
            spec
            for spec, source in zip(self._result_specs, departure.sources, strict=True)
            if isinstance(source, FromValues)
        ]
        self._results = [
            self._exit_result(frame, spec, value) for spec, value in zip(array_specs, leaving.results, strict=True)
        ]
        self._fresh = self._exit_fresh(frame, leaving)
        self._slots = [
            (slot.cell, self._exit_slot(frame, slot)) for slot in frame.written() if not frame.is_private(slot)
        ]
        self._departure = dataclasses.replace(
            departure,
            written=tuple(number for number, _ in self._written),
            restructuring=self._named(departure.restructuring),
        )

    def _namer(self, number: int) -> Callable[[], str]:
        """How messages call one of the arguments' States or arrays; names are long to find, and seldom needed."""
        target = self.arguments.targets[number]

        def name() -> str:
            label = f"`{target_names(self.arguments, self.function)[number]}`"
            return f"{label} ({kind_and_place(target)})" if isinstance(target, State) else f"the array {label}"

        return name

    def exit(self, frame: LaneFrame, name: Callable[[], str], value: Any, axis: Axis) -> Exit | _Kept:
        """How a value leaves the lanes."""
        if axis is None and frame.is_outside(value):
            return _Kept(value)
        self.leavers.append(Leaver(value, axis))
        return Exit(len(self.leavers) - 1, axis, name)

    def _exit_result(self, frame: LaneFrame, spec: Spec, value: Any) -> Exit | _Kept:
        if isinstance(spec, StateAxes):
            raise AxisError(
                f"`StateAxes` chooses among the States of a Node, but in `{self.terms.out_axes}` it stands for an "
                f"array. Write {self.terms.value}."
            )
        frame.check_returned(value, spec, frame.batched_result)
        return self.exit(frame, lambda: "a result", value, spec)

    def _exit_slot(self, frame: LaneFrame, slot: Slot) -> Exit | _Kept:
        # Names are found later: they may hold the State, but nothing that belongs to the trace.
        cell, value, axis = slot.cell, unpack(slot.value), self._in_axis(slot.cell)
        if axis is None:
            axis = self.axis_by_filter(self.options.state_out_axes, cell, None)
            if axis is not None and slot.initial is not MISSING:
                raise frame.grown(describe(cell))
        frame.check_written(cell, value, axis, lambda: frame.batched(self._describe_closed(cell)))
        return self.exit(frame, lambda: self._describe_closed(cell), value, axis)

    def _describe_closed(self, cell: Cell) -> str:
        name = self.watch.name_of(cell)
        return describe(cell) if name is None else f"`{name}` ({kind_and_place(cell)})"

    def _check_objects(self, departure: Departure) -> None:
        """Graph objects that come back as they went in must come back at the axis that they went in with."""
        for spec, source in zip(self._result_specs, departure.sources, strict=True):
            if isinstance(source, FromArgument):
                given = self.specs[self.arguments.shape.spots[source.root]]
                if given != spec and self.arguments.plans[source.root].leaves:
                    name = argument_names(self.arguments.shape.treedef, self.function)[
                        self.arguments.shape.spots[source.root]
                    ]
                    terms = self.terms
                    raise AxisError(
                        f"The argument `{name}` is returned as it came in, so it keeps its {terms.axis}, but "
                        f"`{terms.in_axes}` gives it {given!r} and `{terms.out_axes}` {spec!r}. Give it the same in "
                        "both."
                    )
            elif isinstance(source, FromOutside):
                check_outside(source.object, spec, (), self.terms)

    def _exit_fresh(self, frame: LaneFrame, leaving: Leaving) -> list[Exit | _Kept]:
        restructuring = leaving.departure.restructuring
        if restructuring is None:
            return []
        owners = Owners(restructuring.graphdef, self._root_specs(leaving.departure), self.terms)
        for place, ref in restructuring.outside:
            for spec, path in owners.of(place):
                check_outside(ref.get(), spec, path, self.terms)
        exits = []
        for place, value in zip(restructuring.fresh, leaving.fresh, strict=True):
            axis, path = owners.axis(place, value)
            name = f"the new State {show_path(path)}"
            is_result = min(owners.roots(place)) >= len(self.arguments.roots)
            check = frame.check_returned if is_result else functools.partial(frame.check_written, None)
            check(value, axis, functools.partial(frame.batched_new, name))
            exits.append(self.exit(frame, lambda name=name: name, value, axis))  # type: ignore[misc]
        self._check_origins(owners, restructuring)
        return exits

    def _named(self, restructuring: Restructuring | None) -> Restructuring | None:
        """What comes out, with the lane axis among the names of the axes of new States."""
        if restructuring is None:
            return None
        axes = [exit_.axis if isinstance(exit_, Exit) else None for exit_ in self._fresh]
        return restructuring.stacked(axes, self.options.axis_name)

    def _check_origins(self, owners: Owners, restructuring: Restructuring) -> None:
        """What came in and comes out at another place keeps its axis."""
        numbers = {place: number for number, place in enumerate(self.arguments.graphdef.leaves)}
        for place, origin in restructuring.origins:
            number = numbers.get(origin)
            if number is None or is_stream(self.arguments.targets[number], self.values[number]):
                continue
            for axis in owners.axes(place, self.values[number]):
                if axis != self.axes[number]:
                    terms = self.terms
                    raise AxisError(
                        f"{self._namer(number)()} comes out as it went in, so it keeps its {terms.axis}, but "
                        f"`{terms.in_axes}` gives it {self.axes[number]} and `{terms.out_axes}` {axis}. Give it the "
                        "same in both."
                    )

    def _root_specs(self, departure: Departure) -> list[Spec]:
        specs = [self.specs[spot] for spot in self.arguments.shape.spots]
        return specs + [
            spec
            for spec, source in zip(self._result_specs, departure.sources, strict=True)
            if not isinstance(source, FromValues)
        ]

    # Back

    def _arrive(self, frame: LaneFrame, leavers: Sequence[Any]) -> Any:
        def outside(exit_: Exit | _Kept) -> Any:
            return exit_.value if isinstance(exit_, _Kept) else self.outside(leavers[exit_.number], exit_)

        written = [outside(exit_) for _, exit_ in self._written]
        results = [outside(exit_) for exit_ in self._results]
        fresh = [outside(exit_) for exit_ in self._fresh]
        closed = [(cell, pack(outside(exit_))) for cell, exit_ in self._slots]
        commit([*closed, *frame.streams.values()])
        return arrive(self._departure, self.arguments, results, written, fresh)


class MapCall(LaneCall):
    """One call of a function that is mapped by `jax.vmap`, or another function of its form."""

    def make_frame(self, lanes: int) -> LaneFrame:
        """The frame that the lanes run in."""
        name = _own_axis_name() if self.options.axis_name is None else self.options.axis_name
        return LaneFrame(self.hold, lanes, name, self.options.rng, self._in_axis)

    def launch(self, frame: LaneFrame, inputs: list[Any], axes: list[Axis], lanes: int) -> list[Any]:
        """Runs all lanes in one call of the mapping function, out of which everything comes stacked at axis 0."""

        def body(inputs: list[Any]) -> list[Any]:
            with frame:
                return [value for value, _ in self.run_lane(frame, inputs[:-1])]

        # A map needs an input that has its axis; where there is none, the last one stands in.
        stacked: list[Any] = self.options.mapping(
            body, in_axes=([*axes, 0],), out_axes=0, axis_size=lanes, axis_name=frame.axis_name
        )([*inputs, np.zeros((lanes, 0), np.bool_)])
        return stacked


def _own_axis_name() -> str:
    """A name for the lane axis where the user gives none: one for each depth, so that JAX's caches are hit."""
    depth, frame = 0, current_frame()
    while frame is not None:
        depth += isinstance(frame, LaneFrame)
        frame = frame.parent
    return f"graphstate lane {depth}"


def _move(leaf: Any, exit_: Exit) -> Any:
    axis = exit_.axis
    if axis is None:
        return leaf[0]
    if axis == 0:
        return leaf
    if not -leaf.ndim <= axis < leaf.ndim:
        raise AxisError(
            f"`out_axes` puts the lanes of {exit_.name()} at axis {axis}, but with them its shape is {leaf.shape}, "
            f"lanes first. Choose an axis from {-leaf.ndim} to {leaf.ndim - 1}."
        )
    return jnp.moveaxis(leaf, 0, axis)


def _flatten_entering(entering: Sequence[tuple[str, Any, Axis]]) -> tuple[list[Any], list[Axis], list[Any]]:
    flat, axes, structures = [], [], []
    for _, value, axis in entering:
        leaves, treedef = jax.tree.flatten(value)
        flat += leaves
        axes += [axis] * len(leaves)
        structures.append(treedef)
    return flat, axes, structures


def _unflatten(inputs: Sequence[Any], structures: Sequence[Any]) -> list[Any]:
    values, start = [], 0
    for treedef in structures:
        values.append(jax.tree.unflatten(treedef, inputs[start : start + treedef.num_leaves]))
        start += treedef.num_leaves
    return values


def _as_seen_here(watch: Watch) -> dict[int, tuple[Any, State]]:
    """The States that functions reach and their paths, by id; of one that came in as an argument its copy here."""
    frames, frame = [], current_frame()
    while frame is not None:
        frames.append(frame)
        frame = frame.parent
    found = {}
    for _, paths, state in watch.states().values():
        for frame in reversed(frames):
            state = frame.aliases.get(id(state), state)
        found[id(state)] = (paths, state)
    return found


def record_of_state(cell: Any, outer: Frame | None) -> Any:
    """What filters see of a State: its value outside, wherever they are asked."""
    return record_of(state_head_of(cell), peek_in(outer, cell))


def describe_closed(watch: Watch, state: State) -> str:
    """How messages call a State of the closure."""
    return watch.name_of(state) or describe(state)
