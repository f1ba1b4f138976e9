"""The frame of a map: what States are worth in one lane.

Each lane starts from the States as they were before the call. A State that is mapped is sliced, a stream of random
keys is split, everything else is seen by all lanes alike; and what the lanes may write follows from that.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from graphstate._compat import EVAL, enclosing_traces, is_traced_by, set_trace
from graphstate._trace import Cell, Packed, Slot, copied, describe, pack, unpack
from graphstate.errors import AxisError, BatchAxisError, TraceContextError
from graphstate.random import RandomState
from graphstate.random._key import is_key, is_stacked, lane_key, lane_keys

from ._axes import Axis, check_axis
from ._streams import Hold, HoldingFrame

__all__ = ["LaneFrame", "LaneStream", "is_stream", "read_lazily"]


def is_stream(cell: Any, held: Any) -> bool:
    """Whether `cell` is a RandomState with one key for all lanes, which has no axis that could be mapped."""
    if not isinstance(cell, RandomState):
        return False
    if isinstance(held, LaneStream):
        return True
    key = unpack(held)
    return is_key(key) and not is_stacked(key)


class LaneStream(Packed):
    """The key of a RandomState in one lane: the outer one advances only where a lane reads it."""

    __slots__ = ("_cell", "_frame", "_is_open", "_key", "_new", "_outer")

    def __init__(self, frame: "LaneFrame", cell: Cell, outer: Any) -> None:
        self._frame = frame
        self._cell = cell
        self._outer = outer
        self._is_open = False
        self._key: jax.Array | None = None
        self._new: jax.Array | None = None

    def checked(self) -> jax.Array:
        """The key of the lane, which is read now."""
        key = self.unread()
        if not self._is_open:
            self._frame.note_stream(self._cell, self._new)
            unpack(self._outer)
            self._is_open = True
        return key

    def unread(self) -> jax.Array:
        """The key of the lane, for a program that will say whether it has read it."""
        if self._key is None:
            outer = self._outer.unread() if isinstance(self._outer, LaneStream) else unpack(self._outer)
            self._new, self._key = self._frame.split(outer)
        key: jax.Array = self._key
        return key

    def copied(self) -> "LaneStream":
        """Itself: a key is no container, and stays unread."""
        return self


def read_lazily(held: Any) -> tuple[Any, LaneStream | None]:
    """The value of what is held, and the stream that it is the unread key of, if it is one."""
    return (held.unread(), held) if isinstance(held, LaneStream) else (unpack(held), None)


class LaneFrame(HoldingFrame):
    """The frame of a map.

    Attributes:
        lanes: how many there are.
        axis_name: the name of the lane axis, as collectives know it.
        rng: what a RandomState without an axis gives: "split", "same" or "error".
        axis_of: the axis of a closed-over State, or None.
        streams: the RandomStates that were split, by id, and the key that each has afterwards.
    """

    def __init__(self, hold: Hold, lanes: int, axis_name: Any, rng: str, axis_of: Callable[[Cell], Axis]) -> None:
        super().__init__(hold)
        self.lanes = lanes
        self.axis_name = axis_name
        self.rng = rng
        self.axis_of = axis_of
        self.streams: dict[int, tuple[Cell, jax.Array]] = {}

    def split(self, outer: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The key that a RandomState has after the map, and the key of the lane."""
        with set_trace(self.outer):
            new, base = lane_keys(outer)
        with set_trace(self.trace):
            return new, lane_key(base, jax.lax.axis_index(self.axis_name))

    def note_stream(self, cell: Cell, new: Any) -> None:
        """A lane reads its key of a RandomState, which has advanced to `new` after the map."""
        if self.rng == "error":
            raise TraceContextError(
                f'{describe(cell)} was drawn from inside of a map with rng="error". '
                'Seed it in the lane, pass it as a mapped argument with stacked keys, or choose rng="split".'
            )
        self.streams[id(cell)] = (cell, new)

    @property
    def is_direct(self) -> bool:
        """Whether the lanes run right in the trace of the caller, which can be handed what they share as it is."""
        return next(iter(enclosing_traces(getattr(self.trace, "parent_trace", None))), EVAL) is self.outer

    def entering(self, cell: Cell, held: Any) -> Any:
        """The packed value that a State without an axis has in a lane."""
        return LaneStream(self, cell, held) if self.rng != "same" and is_stream(cell, held) else held

    def admit(self, cell: Any, outer: Any) -> Any:
        """A slice of a mapped State, a stream of a RandomState, any other State as it is."""
        outer = self.locked(cell, outer)
        if is_stream(cell, outer):
            return outer if self.rng == "same" else pack(LaneStream(self, cell, outer).checked())
        axis = self.axis_of(cell)
        if axis is None:
            return copied(outer)
        value = unpack(outer)
        self._check(cell, value, axis)
        with set_trace(self.trace):
            index = jax.lax.axis_index(self.axis_name)
            return pack(jax.tree.map(lambda leaf: _slice(jnp.asarray(leaf), index, axis), value))

    def _check(self, cell: Cell, value: Any, axis: int) -> None:
        size = check_axis(describe(cell), value, axis)
        if size not in (-1, self.lanes):
            raise AxisError(
                f"{describe(cell)} is mapped at axis {axis} by `state_in_axes`, where it has {size} lanes, but the "
                f"map has {self.lanes}."
            )

    def depends_on_lane(self, value: Any) -> bool:
        """Whether JAX has batched a leaf of `value` at this map."""
        return any(is_traced_by(leaf, self.trace) for leaf in jax.tree.leaves(value))

    def is_private(self, slot: Slot) -> bool:
        """Whether a RandomState was only seeded in the lane, which leaves the outer stream alone, or split."""
        if self.rng == "same" or not isinstance(slot.cell, RandomState) or self.axis_of(slot.cell) is not None:
            return False
        value = unpack(slot.value)
        return id(slot.cell) in self.streams or not is_key(value) or not is_stacked(value)

    def grown(self, where: str) -> BatchAxisError:
        """The error for a State that is read, written, and mapped on the way out only."""
        return BatchAxisError(
            f"{where} is mapped by `state_out_axes` only, but it was also read: each call would give it a further "
            "axis. Give it the same axis in `state_in_axes`."
        )

    def batched(self, where: str) -> BatchAxisError:
        """The error for a lane-dependent value in a State that is not mapped."""
        return BatchAxisError(
            f"{where} is not mapped, but a value that depends on the lane was written to it: one State cannot hold "
            f"the values of {self.lanes} lanes. Map it (`in_axes` or `StateAxes` for an argument, `state_in_axes`, or "
            "`state_out_axes` if it is only written, for a State of the closure), or reduce the value first "
            "(`jax.lax.pmean(value, axis_name)`)."
        )


def _slice(leaf: jax.Array, index: Any, axis: int) -> jax.Array:
    part: jax.Array = jax.lax.dynamic_index_in_dim(leaf, index, axis, keepdims=False)
    return part
