"""The frame of a map: what States are worth in one lane.

Each lane starts from the States as they were before the call. A State that is mapped is sliced, a stream of random
keys is split, everything else is seen by all lanes alike; and what the lanes may write follows from that.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from graphstate._compat import EVAL, enclosing_traces, is_batched_by, is_traced_by, set_trace
from graphstate._lift.call._lane_stream import LaneStream, is_stream
from graphstate._lift.call._streams import Hold, HoldingFrame
from graphstate._trace import Cell, Slot, copied, describe, pack, unpack
from graphstate.errors import AxisError, BatchAxisError, TraceContextError
from graphstate.random import RandomState
from graphstate.random._key import is_key, is_stacked, lane_key, lane_keys

from ._axes import Axis, check_axis

__all__ = ["LaneFrame", "check_rng"]

_RNG = ("split", "same", "error")


def check_rng(rng: Any) -> None:
    """Refuses what is no way to draw in lanes.

    Raises:
        AxisError: saying what is one.
    """
    if rng not in _RNG:
        raise AxisError(f"`rng` is one of {', '.join(map(repr, _RNG))}, but it is {rng!r}.")


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

    @property
    def is_direct(self) -> bool:
        """Whether the lanes run right in the trace of the caller, which can be handed what they share as it is."""
        return next(iter(enclosing_traces(getattr(self.trace, "parent_trace", None))), EVAL) is self.outer

    def lane_index(self) -> Any:
        """The number of the lane, in its trace."""
        return jax.lax.axis_index(self.axis_name)

    # Streams

    def split(self, outer: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The key that a RandomState has after the map, and the key of the lane."""
        with set_trace(self.outer):
            new, base = lane_keys(outer)
        with set_trace(self.trace):
            return new, lane_key(base, self.lane_index())

    def note_stream(self, cell: Cell, new: Any) -> None:
        """A lane reads its key of a RandomState, which has advanced to `new` after the map."""
        if self.rng == "error":
            raise TraceContextError(
                f'{describe(cell)} was drawn from inside of a map with rng="error". '
                'Seed it in the lane, pass it as a mapped argument with stacked keys, or choose rng="split".'
            )
        self.streams[id(cell)] = (cell, new)

    def is_private(self, slot: Slot) -> bool:
        """Whether a RandomState was only seeded in the lane, which leaves the outer stream alone, or split."""
        if self.rng == "same" or not isinstance(slot.cell, RandomState) or self.axis_of(slot.cell) is not None:
            return False
        value = unpack(slot.value)
        return id(slot.cell) in self.streams or not is_key(value) or not is_stacked(value)

    # Into the lane

    def lane_axis(self, cell: Cell) -> Axis:
        """The axis at which a State of the closure is mapped, or None."""
        return self.axis_of(cell)

    def entering(self, cell: Cell, held: Any) -> Any:
        """The packed value that a State without an axis has in a lane."""
        return LaneStream(self, cell, held) if self.rng != "same" and is_stream(cell, held) else held

    def admit(self, cell: Any, outer: Any) -> Any:
        """A slice of a mapped State, a stream of a RandomState, any other State as it is."""
        outer = self.locked(cell, outer)
        if is_stream(cell, outer):
            return outer if self.rng == "same" else LaneStream(self, cell, outer)
        axis = self.axis_of(cell)
        if axis is None:
            return copied(outer)
        value = unpack(outer)
        self.check_size(cell, value, axis)
        with set_trace(self.trace):
            return pack(jax.tree.map(lambda leaf: self.cut(jnp.asarray(leaf), axis), value))

    def check_size(self, cell: Cell, value: Any, axis: Axis) -> None:
        """Refuses a State of the closure that cannot be mapped at `axis`."""
        size = check_axis(describe(cell), value, axis)
        if size not in (-1, self.lanes):
            raise AxisError(
                f"{describe(cell)} is mapped at axis {axis} by `state_in_axes`, where it has {size} lanes, but the "
                f"map has {self.lanes}."
            )

    def cut(self, leaf: jax.Array, axis: Axis) -> jax.Array:
        """What the lane sees of an array that is mapped at `axis`."""
        part: jax.Array = jax.lax.dynamic_index_in_dim(leaf, self.lane_index(), axis, keepdims=False)
        return part

    # Out of the lane

    def check_written(self, target: Any, value: Any, axis: Axis, error: Callable[[], AxisError]) -> None:
        """Raises `error` where one State or array cannot hold what all lanes write to it.

        Args:
            target: the State or array that is written; None for a new one.
            value: what is written.
            axis: the axis at which the lanes are stacked.
            error: makes the error.
        """
        if axis is None and self.depends_on_lane(value):
            raise error()

    def check_returned(self, value: Any, axis: Axis, error: Callable[[], AxisError]) -> None:
        """As `check_written`, for a result."""
        self.check_written(None, value, axis, error)

    def is_outside(self, value: Any) -> bool:
        """Whether the caller can be handed `value` as it is: some of what all lanes share is a tracer of the map."""
        return self.is_direct and not any(is_traced_by(leaf, self.trace) for leaf in jax.tree.leaves(value))

    def depends_on_lane(self, value: Any) -> bool:
        """Whether JAX has batched a leaf of `value` at this map."""
        return any(is_batched_by(leaf, self.trace) for leaf in jax.tree.leaves(value))

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

    def batched_result(self) -> AxisError:
        """The error for a lane-dependent result that is to come out of all lanes as one."""
        return AxisError(
            "`out_axes` is None for a result that depends on the lane: one array cannot hold the values of all "
            "lanes. Give it an axis, or reduce it first (`jax.lax.pmean(value, axis_name)`)."
        )

    def batched_new(self, where: str) -> BatchAxisError:
        """The error for a lane-dependent value in a new State of a Node that is not mapped."""
        return BatchAxisError(
            f"A value that depends on the lane went into {where} of a Node that is not mapped: one State "
            f"cannot hold the values of {self.lanes} lanes. Map the Node (`in_axes`, `out_axes`, `StateAxes`), or "
            "reduce the value first."
        )
