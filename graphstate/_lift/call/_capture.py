"""Tracing a function once into a program whose inputs are found while it is traced.

The first read of an outer State binds a placeholder in the trace of the frame, wherever the read happens: in the
function itself, or inside of a `grad`, `vmap` or `scan` in it. When the function has returned, the placeholders
become inputs of the program. User code runs once, and whatever it reads is an input.
"""

import collections
import operator
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from graphstate._compat import bare_type, bind_input, run_jaxpr, with_inputs
from graphstate._trace import Cell, Frame, base_cell_value, current_frame, outer_value, pack, unpack

__all__ = ["CaptureFrame", "Program", "Source", "read_source", "trace_program", "type_of", "unread_inputs"]


class Source:
    """Where a captured input comes from: a State, or an array setting of the environment.

    Attributes:
        cell: the State, held weakly.
        setting: the name of the setting, if it is one; whatever Cell has its value then is read.
        is_copy: whether the State stands for its copy in the trace of the caller, which has not outlived that trace.
    """

    __slots__ = ("cell", "is_copy", "setting")

    def __init__(self, cell: Cell, setting: str | None, is_copy: bool = False) -> None:
        self.cell = weakref.ref(cell)
        self.setting = setting
        self.is_copy = is_copy

    @property
    def key(self) -> object:
        """Equal for two sources of the same value."""
        return self.setting if self.setting is not None else self.cell

    def lasting(self, frame: Frame | None) -> "Source":
        """The source for calls in other traces: of a copy in `frame` or around it what it is a copy of."""
        cell = self.cell()
        if cell is None or frame is None:
            return self
        origin = frame.origin(cell)
        return self if origin is cell else Source(origin, self.setting, is_copy=True)

    def read(self, lookup: Callable[[str], Any]) -> Any:
        """The packed value where the caller runs."""
        if self.setting is not None:
            return outer_value(lookup(self.setting))
        cell, frame = self.cell(), current_frame()
        if self.is_copy and frame is not None:
            cell = frame.copy_of(cell)
        assert cell is not None
        return outer_value(cell)


class CaptureFrame(Frame):
    """The frame of a program: each outer State that is read becomes an input.

    Args:
        types: values whose types some States have as inputs, by id, where these are not the types of their values.

    Attributes:
        sources: what was captured, in the order of the placeholders.
        types: the structures and types of the captured values.
    """

    builds_program = True

    def __init__(self, types: dict[int, Any] | None = None) -> None:
        super().__init__()
        self._types = types or {}
        self.sources: list[Source] = []
        self.types: list[tuple[Any, ...]] = []

    def outer_lookup(self, cell: Any) -> Any:
        """Only types are taken from it here; the values are read, and warned about, where the program is called."""
        return base_cell_value(cell) if self.parent is None else self.parent.lookup(cell)

    def admit(self, cell: Any, outer: Any) -> Any:
        """Placeholders of the types of `outer`."""
        treedef, *avals = type_of(self._types.get(id(cell), unpack(outer)))
        self.sources.append(Source(cell, self.setting_cells.get(id(cell))))
        self.types.append((treedef, *avals))
        return pack(jax.tree.unflatten(treedef, [bind_input(aval, self.trace) for aval in avals]))


def type_of(value: Any) -> tuple[Any, ...]:
    """The structure of a value, and the types of its leaves."""
    leaves, treedef = jax.tree.flatten(value)
    return (treedef, *map(bare_type, leaves))


class Program(NamedTuple):
    """A traced function.

    Attributes:
        jaxpr: the program; its inputs are those given, then those captured.
        sources: what is captured.
        types: the structure and types of each captured value.
        treedef: the structure of the outputs.
        note: what the traced function said about them.
    """

    jaxpr: Any
    sources: tuple[Source, ...]
    types: tuple[tuple[Any, ...], ...]
    treedef: Any
    note: Any

    def fits(self, captured: Sequence[Any]) -> bool:
        """Whether captured values have the types that the program was traced for."""
        return all(map(operator.eq, self.types, map(type_of, captured)))

    def lasting(self, frame: Frame) -> "Program":
        """The program for calls in other traces than this one: it captures no copies that end with a frame."""
        return self._replace(sources=tuple(source.lasting(frame) for source in self.sources))

    def run(self, inputs: Sequence[Any], captured: Sequence[Any]) -> Any:
        """The outputs, recorded in the current trace."""
        return jax.tree.unflatten(
            self.treedef, run_jaxpr(self.jaxpr, [*jax.tree.leaves(inputs), *jax.tree.leaves(captured)])
        )


def trace_program(frame: CaptureFrame, body: Callable[..., tuple[Any, Any]], *inputs: Any) -> Program:
    """Traces `body`, which returns its outputs and a static note, for inputs of these types."""
    note: list[Any] = []

    def traced(*arguments: Any) -> Any:
        with frame:
            outputs, said = body(*arguments)
            note.append(said)
            return outputs

    closed, shape = jax.make_jaxpr(traced, return_shape=True)(*inputs)
    jaxpr, found = with_inputs(closed)
    if found != sum(len(avals) for _, *avals in frame.types):
        raise AssertionError("a captured State was dropped from the program")
    return Program(jaxpr, tuple(frame.sources), tuple(frame.types), jax.tree.structure(shape), note[0])


def unread_inputs(jaxpr: Any, inputs: Sequence[Any], *, carried: bool) -> list[bool]:
    """For each of the first inputs of a program, whether it looks at none of its leaves.

    Args:
        jaxpr: the program.
        inputs: values with the structure of its first inputs.
        carried: whether the program returns each of them once, as a loop does, without looking at it.
    """
    used = collections.Counter(id(var) for eqn in jaxpr.jaxpr.eqns for var in eqn.invars)
    used.update(id(var) for var in jaxpr.jaxpr.outvars)
    variables = iter(jaxpr.jaxpr.invars)
    structures: list[Any] = [jax.tree.structure(value) for value in inputs]
    return [
        max([used[id(next(variables))] for _ in range(treedef.num_leaves)], default=0) <= carried
        for treedef in structures
    ]


def read_source(source: Source, lookup: Callable[[str], Any]) -> Any:
    """The value of a source where the caller runs."""
    return unpack(source.read(lookup))
