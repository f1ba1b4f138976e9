"""Tracing a function once into a program whose inputs are found while it is traced.

The first read of an outer State binds a placeholder in the trace of the frame, wherever the read happens: in the
function itself, or inside of a `grad`, `vmap` or `scan` in it. When the function has returned, the placeholders
become inputs of the program. User code runs once, and whatever it reads is an input.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from graphstate._compat import bind_input, run_jaxpr, with_inputs
from graphstate._trace import Cell, Frame, base_cell_value, outer_value, pack, unpack

__all__ = ["CaptureFrame", "Program", "Source", "trace_program"]


class Source:
    """Where a captured input comes from: a State, or an array setting of the environment.

    Attributes:
        cell: the State, held weakly.
        setting: the name of the setting, if it is one; whatever Cell has its value then is read.
    """

    __slots__ = ("cell", "setting")

    def __init__(self, cell: Cell, setting: str | None) -> None:
        self.cell = weakref.ref(cell)
        self.setting = setting

    @property
    def key(self) -> object:
        """Equal for two sources of the same value."""
        return self.setting if self.setting is not None else self.cell


class CaptureFrame(Frame):
    """The frame of a program: each outer State that is read becomes an input.

    Attributes:
        sources: what was captured, in the order of the placeholders.
        treedefs: the structures of the captured values.
    """

    builds_program = True

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[Source] = []
        self.treedefs: list[Any] = []

    def outer_lookup(self, cell: Any) -> Any:
        """Only types are taken from it here; the values are read, and warned about, where the program is called."""
        return base_cell_value(cell) if self.parent is None else self.parent.lookup(cell)

    def admit(self, cell: Any, outer: Any) -> Any:
        """Placeholders of the types of `outer`."""
        leaves, treedef = jax.tree.flatten(unpack(outer))
        self.sources.append(Source(cell, self.setting_cells.get(id(cell))))
        self.treedefs.append(treedef)
        return pack(jax.tree.unflatten(treedef, [bind_input(jax.typeof(leaf), self.trace) for leaf in leaves]))


class Program(NamedTuple):
    """A traced function.

    Attributes:
        jaxpr: the program; its inputs are those given, then those captured.
        sources: what is captured.
        treedef: the structure of the outputs.
        note: what the traced function said about them.
    """

    jaxpr: Any
    sources: tuple[Source, ...]
    treedef: Any
    note: Any

    def run(self, inputs: Sequence[Any], captured: Sequence[Any]) -> Any:
        """The outputs, recorded in the current trace."""
        return jax.tree.unflatten(self.treedef, run_jaxpr(self.jaxpr, [*jax.tree.leaves(inputs), *jax.tree.leaves(captured)]))


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
    if found != sum(treedef.num_leaves for treedef in frame.treedefs):
        raise AssertionError("a captured State was dropped from the program")
    return Program(jaxpr, tuple(frame.sources), jax.tree.structure(shape), note[0])


def read_source(source: Source, lookup: Callable[[str], Any]) -> Any:
    """The value of a source where the caller runs."""
    cell = source.cell() if source.setting is None else lookup(source.setting)
    return unpack(outer_value(cell))


