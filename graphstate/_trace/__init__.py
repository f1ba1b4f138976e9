"""Where the value of a State lives: in the State, or, while a function is being traced, in a frame.

A transform that traces a user's function pushes a `Frame` on a stack of this thread. The frame holds a table
from State to value; reading and writing a State goes through the innermost frame, and nothing that happens
in a frame touches the State itself. Other threads therefore see nothing of a trace, undoing a trace is
dropping its frame, and a transform that has finished commits the written values in one step.

A `Cell` is what a State is to this floor: a place for one value. A value is *packed* when it is stored:
arrays, numbers and tuples stand for themselves, containers that could be changed in place are kept with
the leaves they were written with, so that such a change is found.
"""

from ._cell import (
    Cell,
    adopt,
    commit,
    commit_arrays,
    exchange,
    is_finished,
    is_lost,
    is_tracing,
    last_write,
    note_write,
    outer_value,
    peek,
    peek_in,
    read_cells,
    settle,
)
from ._frame import (
    Frame,
    Home,
    Slot,
    base_cell_value,
    birthplace,
    current_frame,
    current_home,
    describe,
    entered,
    kind_and_place,
    local,
    name_in_frames,
)
from ._place import Place, place_of_caller, user_stacklevel
from ._value import MISSING, Lost, Packed, check_in_place, check_value, copied, immutable, pack, unpack

__all__ = [
    "MISSING",
    "Cell",
    "Frame",
    "Home",
    "Lost",
    "Packed",
    "Place",
    "Slot",
    "adopt",
    "base_cell_value",
    "birthplace",
    "check_in_place",
    "check_value",
    "commit",
    "commit_arrays",
    "copied",
    "current_frame",
    "current_home",
    "describe",
    "entered",
    "exchange",
    "immutable",
    "is_finished",
    "is_lost",
    "is_tracing",
    "kind_and_place",
    "last_write",
    "local",
    "name_in_frames",
    "note_write",
    "outer_value",
    "pack",
    "peek",
    "peek_in",
    "place_of_caller",
    "read_cells",
    "settle",
    "unpack",
    "user_stacklevel",
]
