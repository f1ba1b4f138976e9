"""One call of a mapped function: what goes into the lanes, and what comes out of them.

The lanes run once, in one call of the mapping function. What depends on the lane, or was declared to have an axis,
leaves through the mapping function, stacked at axis 0; a value that is the same in all lanes is taken as it is.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._trace import MISSING, Cell, Slot, commit, describe, kind_and_place, outer_value, pack, peek, unpack
from graphstate.errors import AliasError, AxisError, BatchAxisError
from graphstate.graph._axes import StateAxes
from graphstate.graph._flatten import flatten, state_head_of
from graphstate.graph._graphdef import GraphDef
from graphstate.graph._layout import record_of
from graphstate.graph._path import shorten_path, show_path
from graphstate.graph._state import State

from ._arguments import Arguments, argument_names, target_names
from ._axes import Axis, Spec, argument_axes, lane_count, result_axes, target_axes
from ._boundary import (
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
from ._lanes import LaneFrame, is_stream
from ._streams import Hold
from ._traced import name_cells
from ._watch import Watch

__all__ = ["MapCall", "MapOptions"]


class MapOptions(NamedTuple):
    """The parameters of a map."""

    in_axes: Any
    out_axes: Any
    axis_name: Any
    axis_size: int | None
    state_in_axes: StateAxes
    state_out_axes: StateAxes
    rng: str
    mapping: Callable[..., Any]
    transform: str


class _Stacked(NamedTuple):
    """A value that leaves through the mapping function: its number there, and its axis outside.

    Where the axis is None, the value is the same in all lanes, but belongs to a trace that the mapping function began.
    """

    number: int
    axis: int | None
    name: Callable[[], str]


class _Kept(NamedTuple):
    """A value that is the same in all lanes."""

    value: Any


class MapCall:
    """One call of a mapped function."""

    def __init__(
        self, function: Callable[..., Any], options: MapOptions, arguments: Arguments, watch: Watch, hold: Hold
    ) -> None:
        self.function = function
        self.options = options
        self.arguments = arguments
        self.watch = watch
        self.specs = argument_axes(options.in_axes, arguments, function)
        self.hold = hold
        hold.take_for(arguments.targets)
        self.values = arguments.held()
        self.axes = [
            None if is_stream(target, value) else axis
            for target, value, axis in zip(
                arguments.targets, self.values, target_axes(arguments, self.specs, function), strict=True
            )
        ]
        self.closed = self._closed_over()
        self.stacked: list[Any] = []

    def run(self) -> Any:
        """Calls the function in all lanes, and writes back what they wrote."""
        options = self.options
        mapped = self._mapped()
        lanes = lane_count(mapped, options.axis_size, options.transform)
        frame = LaneFrame(self.hold, lanes, options.axis_name, options.rng, self._in_axis)
        flat, axes, self._structures = _flatten_mapped(mapped)
        # A map needs an input that has its axis; where there is none, this one stands in.
        body, inputs = self._body(frame), [*flat, np.zeros((lanes, 0), np.bool_)]
        stacked = options.mapping(
            body, in_axes=([*axes, 0],), out_axes=0, axis_size=lanes, axis_name=options.axis_name
        )(inputs)
        return self._arrive(frame, stacked)

    # Into the lanes

    def _mapped(self) -> list[tuple[str, Any, int]]:
        """Name, value and axis of everything that is mapped."""
        names = target_names(self.arguments, self.function)
        found = [
            (name, unpack(held), axis)
            for name, held, axis in zip(names, self.values, self.axes, strict=True)
            if axis is not None
        ]
        labels = argument_names(self.arguments.shape.treedef, self.function)
        for spot in self.arguments.shape.rest:
            axis = self.specs[spot]
            if isinstance(axis, StateAxes):
                raise AxisError(
                    "`StateAxes` chooses among the States of a Node, but in `in_axes` it stands for the array "
                    f"`{labels[spot]}`. Write an int or None."
                )
            if axis is not None:
                found.append((labels[spot], self.arguments.leaves[spot], axis))
        found += [(describe_closed(self.watch, state), value, axis) for state, value, axis in self.closed]
        return found

    def _closed_over(self) -> list[tuple[State, Any, int]]:
        """The States that the function refers to and `state_in_axes` maps: the State, its value, its axis."""
        numbers = {id(target): number for number, target in enumerate(self.arguments.targets)}
        found = []
        for key, (_, paths, state) in self.watch.states().items():
            axis = self.options.state_in_axes.find(paths, _record(state), None)
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
            given = "unmapped (None)" if self.axes[number] is None else f"mapped at axis {self.axes[number]}"
            raise AliasError(
                f"A State has one axis, but `{name}` is {given} as an argument and mapped at axis {axis} by "
                "`state_in_axes`. Give it one axis: `in_axes` decides for arguments, `state_in_axes` for what the "
                "function only refers to."
            )

    def _in_axis(self, cell: Cell) -> Axis:
        return self._axis_by_filter(self.options.state_in_axes, cell)

    def _axis_by_filter(self, axes: StateAxes, cell: Cell) -> Axis:
        known = self.watch.states().get(id(cell))
        paths = known[1] if known is not None else ((),)
        return axes.find(paths, _record(cell), None) if isinstance(cell, State) else None

    # In the lanes

    def _body(self, frame: LaneFrame) -> Callable[[list[Any]], list[Any]]:
        def body(inputs: list[Any]) -> list[Any]:
            self.stacked = []
            with frame:
                following = iter(_unflatten_mapped(inputs, self._structures))
                values = [
                    frame.entering(target, value)
                    if axis is None and isinstance(target, State)
                    else (value if axis is None else next(following))
                    for target, value, axis in zip(self.arguments.targets, self.values, self.axes, strict=True)
                ]
                arrays = [
                    self.arguments.leaves[spot] if self.specs[spot] is None else next(following)
                    for spot in self.arguments.shape.rest
                ]
                inside, args, kwargs = enter(frame, self.arguments, values, arrays)
                name_cells(frame, inside, self.arguments, self.function, self.watch)
                for (state, _, _), value in zip(self.closed, following, strict=True):
                    packed = pack(value)
                    frame.slots[id(state)] = Slot(state, packed, packed)
                with self.watch.guarded():
                    result = self.function(*args, **kwargs)
                self._check_aliases(frame)
                self._leave(frame, leave(frame, inside, result, self.options.transform))
            outputs, self.stacked = self.stacked, []
            return outputs

        return body

    # Out of the lanes

    def _check_aliases(self, frame: LaneFrame) -> None:
        """A mapped argument that is read from the closure too would be a slice in one place, and whole in the other."""
        for number, (target, axis) in enumerate(zip(self.arguments.targets, self.axes, strict=True)):
            if axis is not None and id(target) in frame.alias_reads and self._in_axis(target) != axis:
                raise AliasError(
                    f"`{target_names(self.arguments, self.function)[number]}` is mapped as an argument, so that each "
                    "lane has its slice, and the "
                    "function reads it from its closure too, where it is whole. Use the argument only, or map it "
                    "there too (`state_in_axes`)."
                )

    def _leave(self, frame: LaneFrame, leaving: Leaving) -> None:
        """Decides how each value leaves, and keeps all of them but those that leave through the mapping function."""
        departure = leaving.departure
        self.watch.check_one_way(self.arguments.objects(), not departure.is_same, self.options.transform)
        self._result_specs = result_axes(self.options.out_axes, departure.treedef)
        self._check_objects(departure)
        self._written: list[tuple[int, _Stacked | _Kept]] = []
        for number, value in zip(departure.written, leaving.written, strict=True):
            target, axis = self.arguments.targets[number], self.axes[number]
            if axis is None and self.options.rng != "same" and is_stream(target, self.values[number]):
                continue
            self._written.append((number, self._exit(frame, self._namer(number), value, axis)))
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
        self._departure = dataclasses.replace(departure, written=tuple(number for number, _ in self._written))

    def _namer(self, number: int) -> Callable[[], str]:
        """How messages call one of the arguments' States or arrays; names are long to find, and seldom needed."""
        target = self.arguments.targets[number]

        def name() -> str:
            label = f"`{target_names(self.arguments, self.function)[number]}`"
            return f"{label} ({kind_and_place(target)})" if isinstance(target, State) else f"the array {label}"

        return name

    def _exit(self, frame: LaneFrame, name: Callable[[], str], value: Any, axis: Axis) -> _Stacked | _Kept:
        if axis is not None:
            self.stacked.append(value)
            return _Stacked(len(self.stacked) - 1, axis, name)
        if frame.depends_on_lane(value):
            raise frame.batched(name())
        if frame.is_direct:
            return _Kept(value)
        self.stacked.append(value)
        return _Stacked(len(self.stacked) - 1, None, name)

    def _exit_result(self, frame: LaneFrame, spec: Spec, value: Any) -> _Stacked | _Kept:
        if isinstance(spec, StateAxes):
            raise AxisError(
                "`StateAxes` chooses among the States of a Node, but in `out_axes` it stands for an array. Write an "
                "int or None."
            )
        if spec is None and frame.depends_on_lane(value):
            raise AxisError(
                "`out_axes` is None for a result that depends on the lane: one array cannot hold the values of all "
                "lanes. Give it an axis, or reduce it first (`jax.lax.pmean(value, axis_name)`)."
            )
        return self._exit(frame, lambda: "a result", value, spec)

    def _exit_slot(self, frame: LaneFrame, slot: Slot) -> _Stacked | _Kept:
        # Names are found later: they may hold the State, but nothing that belongs to the trace.
        cell, value, axis = slot.cell, unpack(slot.value), self._in_axis(slot.cell)
        if axis is None:
            axis = self._axis_by_filter(self.options.state_out_axes, slot.cell)
            if axis is not None and slot.initial is not MISSING:
                raise frame.grown(describe(cell))
        return self._exit(frame, lambda: self._describe_closed(cell), value, axis)

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
                    raise AxisError(
                        f"The argument `{name}` is returned as it came in, so it keeps its axes, but `in_axes` gives "
                        f"it {given!r} and `out_axes` {spec!r}. Give it the same in both."
                    )
            elif isinstance(source, FromOutside):
                _check_outside(source.object, spec, ())

    def _exit_fresh(self, frame: LaneFrame, leaving: Leaving) -> list[_Stacked | _Kept]:
        restructuring = leaving.departure.restructuring
        if restructuring is None:
            return []
        owners = _Owners(restructuring.graphdef, self._root_specs(leaving.departure))
        for place, ref in restructuring.outside:
            for spec, path in owners.of(place):
                _check_outside(ref.get(), spec, path)
        exits = []
        for place, value in zip(restructuring.fresh, leaving.fresh, strict=True):
            axis, path = owners.axis(place, value)
            name = f"the new State {show_path(path)}"
            if axis is None and frame.depends_on_lane(value):
                raise BatchAxisError(
                    f"A value that depends on the lane went into {name} of a Node that is not mapped: one State "
                    "cannot hold the values of "
                    f"{frame.lanes} lanes. Map the Node (`in_axes`, `out_axes`, `StateAxes`), or reduce the value "
                    "first."
                )
            exits.append(self._exit(frame, lambda name=name: name, value, axis))  # type: ignore[misc]
        self._check_origins(owners, restructuring)
        return exits

    def _check_origins(self, owners: "_Owners", restructuring: Restructuring) -> None:
        """What came in and comes out at another place keeps its axis."""
        numbers = {place: number for number, place in enumerate(self.arguments.graphdef.leaves)}
        for place, origin in restructuring.origins:
            number = numbers.get(origin)
            if number is None or is_stream(self.arguments.targets[number], self.values[number]):
                continue
            for axis in owners.axes(place, self.values[number]):
                if axis != self.axes[number]:
                    raise AxisError(
                        f"{self._namer(number)()} comes out of the map as it went in, so it keeps its axis, but "
                        f"`in_axes` gives it {self.axes[number]} and `out_axes` {axis}. Give it the same in both."
                    )

    def _root_specs(self, departure: Departure) -> list[Spec]:
        specs = [self.specs[spot] for spot in self.arguments.shape.spots]
        return specs + [
            spec
            for spec, source in zip(self._result_specs, departure.sources, strict=True)
            if not isinstance(source, FromValues)
        ]

    # Back

    def _arrive(self, frame: LaneFrame, stacked: Sequence[Any]) -> Any:
        written = [_outside(exit_, stacked) for _, exit_ in self._written]
        results = [_outside(exit_, stacked) for exit_ in self._results]
        fresh = [_outside(exit_, stacked) for exit_ in self._fresh]
        closed = [(cell, pack(_outside(exit_, stacked))) for cell, exit_ in self._slots]
        commit([*closed, *frame.streams.values()])
        return arrive(self._departure, self.arguments, results, written, fresh)


class _Owners:
    """Which of the roots that come out of the lanes own a place, and what axis that gives it."""

    def __init__(self, graphdef: GraphDef, specs: list[Spec]) -> None:
        self.graphdef = graphdef
        self.specs = specs
        self._reachable = [graphdef.reachable(child) for child in graphdef.children[0]]

    def of(self, place: int) -> list[tuple[Spec, tuple[Any, ...]]]:
        """The spec of each root that reaches a place, and a path from there."""
        paths = {path[0]: path[1:] for path in reversed(self.graphdef.paths(place))}
        first = self.graphdef.path(place)[1:]
        return [
            (spec, paths.get(root, first))
            for root, (spec, reachable) in enumerate(zip(self.specs, self._reachable, strict=True))
            if place in reachable
        ]

    def axes(self, place: int, value: Any) -> dict[Axis, tuple[Any, ...]]:
        """Every axis that a State or array is given, and a path that gives it."""
        found: dict[Axis, tuple[Any, ...]] = {}
        for spec, path in self.of(place):
            record = record_of(self.graphdef.heads[place], value)  # type: ignore[arg-type]
            axis = spec.axis((path,), record) if isinstance(spec, StateAxes) else spec
            found.setdefault(axis, path)
        return found

    def axis(self, place: int, value: Any) -> tuple[Axis, tuple[Any, ...]]:
        """The axis of a new State or array."""
        found = self.axes(place, value)
        if len(found) > 1:
            axes = ", ".join(f"{shorten_path(path)} at {axis}" for axis, path in found.items())
            raise AliasError(
                f"A State has one axis, but a new one comes out of the map with {len(found)}: {axes}. Give all the "
                "same."
            )
        return next(iter(found.items()))


def _check_outside(item: Any, spec: Spec, path: tuple[Any, ...]) -> None:
    """An object of the caller's may come out of the lanes only where it is not mapped."""
    flat = flatten(item)
    for place in flat.graphdef.leaves:
        leaf = flat.objects[place]
        inner = (*path, *flat.graphdef.path(place))
        axis = spec.axis((inner,), record_of(flat.graphdef.heads[place], leaf)) if isinstance(spec, StateAxes) else spec  # type: ignore[arg-type]
        if axis is not None:
            raise AliasError(
                f"The result of a map has {show_path(inner)} at axis {axis}, but that is "
                f"{describe(leaf) if isinstance(leaf, State) else 'an array'}, "
                "which was made outside of the map and is the same object in all lanes. Make it inside, or leave it "
                "unmapped: "
                "`out_axes=StateAxes({filter: None, ...: 0})`; then it stays the same object."
            )


def _outside(exit_: _Stacked | _Kept, stacked: Sequence[Any]) -> Any:
    if isinstance(exit_, _Kept):
        return exit_.value
    return jax.tree.map(lambda leaf: _move(leaf, exit_), stacked[exit_.number])


def _move(leaf: Any, exit_: _Stacked) -> Any:
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


def _flatten_mapped(mapped: Sequence[tuple[str, Any, int]]) -> tuple[list[Any], list[int], list[Any]]:
    flat, axes, structures = [], [], []
    for _, value, axis in mapped:
        leaves, treedef = jax.tree.flatten(value)
        flat += leaves
        axes += [axis] * len(leaves)
        structures.append(treedef)
    return flat, axes, structures


def _unflatten_mapped(inputs: Sequence[Any], structures: Sequence[Any]) -> list[Any]:
    values, start = [], 0
    for treedef in structures:
        values.append(jax.tree.unflatten(treedef, inputs[start : start + treedef.num_leaves]))
        start += treedef.num_leaves
    return values


def _record(cell: Any) -> Any:
    return record_of(state_head_of(cell), peek(cell))


def describe_closed(watch: Watch, state: State) -> str:
    """How messages call a State of the closure."""
    return watch.name_of(state) or describe(state)
