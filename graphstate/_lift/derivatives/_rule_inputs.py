"""Where the inputs of a function with rules, and those of its rules, come from.

JAX gets the values that the rules differentiate by, and all `Others`; each program of the call takes its inputs from
these. JAX keeps the rules of a program as long as the program, so nothing here holds a value, or an object of a trace.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from graphstate import environ
from graphstate._lift.call._capture import Program, Source, read_source
from graphstate._lift.call._captured import Operands
from graphstate._trace import Cell, current_frame

from ._gradient import Selection

__all__ = ["ARRAYS", "CAPTURED", "VALUES", "Others", "Place", "RoutedProgram", "RuleInputs", "lasting"]


class Others(NamedTuple):
    """What the function and its rules take beside the values that are differentiated; None where one of these stands.

    Attributes:
        values: the values of the arguments' States and arrays.
        arrays: the arguments that are arrays.
        captured: what was captured.
    """

    values: list[Any]
    arrays: list[Any]
    captured: list[Any]


VALUES, ARRAYS, CAPTURED = Others._fields

Place = tuple[str, int]
"""One of `Others`: the list that it is in, and its number there."""


class Route(NamedTuple):
    """Where something that a program captures comes from.

    Attributes:
        is_selected: whether it is one of the values that are differentiated; else it is one of `Others`.
        number: which one.
    """

    is_selected: bool
    number: int


class RoutedProgram(NamedTuple):
    """A program of the call that knows where to take its inputs from.

    Attributes:
        program: the program, without its note.
        routes: where each captured input comes from.
    """

    program: Program
    routes: tuple[Route, ...]


class RuleInputs:
    """The inputs of one call of a function with rules.

    Args:
        selection: the values that are differentiated.
        operands: the arguments.

    Attributes:
        needed: which of `Others` the result of the function depends on.
    """

    def __init__(self, selection: Selection, operands: Operands) -> None:
        self._targets = selection.targets
        self._spots = selection.spots
        self._rest = operands.arguments.shape.rest
        self._routes: dict[object, Route] = {}
        self._sources: list[Source] = []
        self.needed: set[Place] = set()

    def __len__(self) -> int:
        return len(self._sources)

    def source(self, number: int) -> Source:
        """What was captured."""
        return self._sources[number]

    def routed(self, program: Program, closed: Callable[[Any], int | None]) -> RoutedProgram:
        """A program with its routes; what it captures is an input from now on.

        Args:
            program: the program.
            closed: tells which of the values that are differentiated a State of the closure is.
        """
        routes = tuple(self._route(source, closed) for source in program.sources)
        return RoutedProgram(program._replace(note=None), routes)

    def _route(self, source: Source, closed: Callable[[Any], int | None]) -> Route:
        cell = source.cell()
        kept = source.lasting(current_frame())
        route = self._routes.get(kept.key)
        if route is None:
            selected = closed(cell)
            route = Route(False, len(self._sources)) if selected is None else Route(True, selected)
            self._routes[kept.key] = route
            if selected is None:
                self._sources.append(kept)
        return route

    def read(self, operands: Operands) -> Others:
        """The inputs of a call that are not differentiated, as they are where it is made."""
        return Others(
            [None if number in self._targets else value for number, value in enumerate(operands.values)],
            [None if spot in self._spots else value for spot, value in zip(self._rest, operands.arrays, strict=True)],
            [read_source(source, environ.depend_on) for source in self._sources],
        )

    def of(
        self, routed: RoutedProgram, values: Sequence[Any], others: Others
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """The inputs of a program: those of its call, arrays, and what it captures."""
        targets, spots = self._targets, self._spots
        return (
            [values[targets[number]] if number in targets else value for number, value in enumerate(others.values)],
            [
                values[spots[spot]] if spot in spots else value
                for spot, value in zip(self._rest, others.arrays, strict=True)
            ],
            [(values if route.is_selected else others.captured)[route.number] for route in routed.routes],
        )

    # What a derivative could be lost by

    def note_needed(self, routed: RoutedProgram, operands: Operands, needed: Sequence[bool]) -> None:
        """Keeps which inputs the result of the function depends on: only by these could a derivative be lost.

        Args:
            routed: the program of the function.
            operands: its arguments.
            needed: for each leaf of its inputs whether it is looked at.
        """
        flags = iter(needed)
        for number, value in enumerate(operands.values):
            self._note(flags, len(jax.tree.leaves(value)), (VALUES, number))
        for number, _ in enumerate(operands.arrays):
            self._note(flags, 1, (ARRAYS, number))
        for route, (_, *avals) in zip(routed.routes, routed.program.types, strict=True):
            self._note(flags, len(avals), None if route.is_selected else (CAPTURED, route.number))

    def _note(self, flags: Iterator[bool], count: int, place: Place | None) -> None:
        if sum(next(flags) for _ in range(count)) and place is not None:
            self.needed.add(place)

    def lost(self, perturbed: Others) -> Place | None:
        """The first of the inputs that is differentiated, and that the rules know nothing of.

        Args:
            perturbed: for each value whether it is differentiated.
        """
        for kind, flags in perturbed._asdict().items():
            for number, each in enumerate(flags):
                if (kind, number) in self.needed and any(jax.tree.leaves(each)):
                    return kind, number
        return None


def lasting(cell: Cell) -> Cell:
    """The State that a copy in the trace of the caller stands for: it is there when that trace has ended."""
    frame = current_frame()
    return cell if frame is None else frame.origin(cell)
