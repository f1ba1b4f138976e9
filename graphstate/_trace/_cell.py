"""One place for one value: what a State is to the frames."""

import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

from graphstate._compat import EVAL, ArrayImpl, current_trace, trace_state
from graphstate.errors import TraceContextError

from ._frame import (
    Frame,
    Home,
    base_cell_value,
    base_lookup,
    check_foreign,
    current_home,
    describe,
    entered,
    local,
    write_foreign,
)
from ._place import Place, place_of_caller
from ._value import Lost, Packed, check_value, is_traced, pack, peeked, unpack

_committing: Final = threading.Lock()


class _Writes:
    """Marks the last write to any Cell whose value does not come out of a compiled program."""

    last: object = None


_writes: Final = _Writes()


def last_write() -> object:
    """Another object after each write that may have brought an array into a Cell which another one holds, too."""
    return _writes.last


class Cell:
    """A mutable place for one value.

    Exactly one of three holds: `_value` is set (a concrete value that cannot change in place); or it is unset,
    `_home` is None and `_held` is the packed value; or it is unset, and `_held` belongs to the trace of `_home`.
    """

    __slots__ = ("__weakref__", "_held", "_home", "_place", "_value")

    _value: Any
    _held: Any
    _home: Home | None
    _place: Place | None

    def __init__(self, value: Any) -> None:
        if type(value) is not ArrayImpl:
            check_value(value)
        self._home = current_home()
        self._place = place_of_caller()
        settle(self, pack(value))

    @property
    def value(self) -> Any:
        """The value: an array, a number, or a pytree of these."""
        if trace_state.value is EVAL and not entered:
            try:
                return self._value
            except AttributeError:
                return unpack(base_lookup(self, EVAL))
        return unpack(outer_value(self))

    @value.setter
    def value(self, value: Any) -> None:
        if type(value) is ArrayImpl:
            if trace_state.value is EVAL and not entered:
                self._home = None
                self._value = value
                _writes.last = object()
                return
        else:
            check_value(value)
            value = pack(value)
        frame = local.frame
        if frame is not None:
            frame.write(self, value)
        elif current_trace() is EVAL:
            adopt(self, value)
        else:
            write_foreign(self, value, current_trace())


def settle(cell: Cell, packed: Any) -> None:
    """Puts `packed` into `cell`, where its `_home` says."""
    if cell._home is None and not isinstance(packed, Packed):
        cell._value = packed
    else:
        cell._held = packed
        if hasattr(cell, "_value"):
            del cell._value
    _writes.last = object()


def adopt(cell: Cell, packed: Any) -> None:
    """Makes `packed`, a concrete value, that of `cell`, wherever the Cell was born."""
    if type(packed) is not ArrayImpl and is_traced(unpack(packed)):
        raise TraceContextError(
            f"{describe(cell)} was given a tracer of a trace that has ended. "
            "Return the value from the transformed function, or write the State inside of it."
        )
    cell._home = None
    settle(cell, packed)


def is_tracing() -> bool:
    """Whether this thread is tracing, be it for graphstate or for plain JAX."""
    return trace_state.value is not EVAL or local.frame is not None


def note_write() -> None:
    """Says that arrays have come into Cells, as `last_write` tells."""
    _writes.last = object()


def read_cells(cells: Sequence[Cell]) -> list[Any]:
    """The values of Cells, where nothing is being traced."""
    try:
        return [cell._value for cell in cells]
    except AttributeError:  # a value that could be changed in place, or none
        return [unpack(base_lookup(cell, EVAL)) for cell in cells]


def commit(values: Iterable[tuple[Cell, Any]]) -> None:
    """Writes packed values, all in one step, where the caller runs: into the frame, or into the Cells."""
    frame = local.frame
    if frame is not None:
        for cell, value in values:
            frame.write(cell, value)
        return
    trace = current_trace()
    if trace is not EVAL:
        pairs = list(values)
        for cell, _ in pairs:
            check_foreign(cell, trace)
        for cell, value in pairs:
            write_foreign(cell, value, trace)
        return
    with _committing:
        for cell, value in values:
            cell._home = None
            settle(cell, value)


def commit_arrays(cells: Sequence[Cell], arrays: Sequence[Any]) -> None:
    """As `commit`, for arrays alone where nothing is being traced."""
    with _committing:
        for cell, array in zip(cells, arrays, strict=True):
            cell._home = None
            cell._value = array


def exchange(cell: Cell, before: Any, after: Any) -> None:
    """Makes `after` what `cell` holds, unless it was written since it held the packed value `before`."""
    with _committing:
        if cell._home is None and base_cell_value(cell) is before:
            settle(cell, after)


def outer_value(cell: Cell) -> Any:
    """The packed value of `cell` where the caller runs."""
    frame = local.frame
    if frame is not None:
        return frame.read(cell)
    return base_lookup(cell, current_trace())


def peek(cell: Cell) -> Any:
    """The value of `cell` for a reader that computes nothing with it (`repr`): never warns, never admits."""
    return peek_in(local.frame, cell)


def peek_in(frame: Frame | None, cell: Cell) -> Any:
    """The value that `peek` finds where `frame` is the innermost frame."""
    while frame is not None:
        slot = frame.slots.get(id(cell))
        if slot is not None:
            return peeked(slot.value)
        frame = frame.parent
    held = base_cell_value(cell)
    return held.types if isinstance(held, Lost) else peeked(held)


def is_lost(cell: Cell) -> bool:
    """Whether `cell` has no value since a call failed that its buffer was donated to."""
    return isinstance(base_cell_value(cell), Lost)


def is_finished(cell: Cell) -> bool:
    """Whether the trace that `cell` was born in has ended, so that it has no value."""
    return cell._home is not None and cell._home.trace() is None
