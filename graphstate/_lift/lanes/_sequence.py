"""Lanes one batch after another: little memory, however many lanes there are.

`lax.scan` runs the program of a lane, for one lane or for a batch of lanes (`jax.vmap`) in each step; those that are
left over make one more, smaller batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from graphstate._lift.call._arguments import Arguments
from graphstate._lift.call._streams import Hold
from graphstate._lift.watch._watch import Watch
from graphstate.errors import BatchAxisError

from ._axes import Axis, lane_count
from ._lane_program import Lane, LaneProgramCall, LaneProgramFrame
from ._mapping import MapOptions

__all__ = ["SequenceCall", "SequenceFrame"]

_NOTHING = (
    "it was given neither arrays nor Nodes. Give it some, or map States of the closure with `state_in_axes`; "
    "`for_loop(f, length=n)` calls a function a number of times."
)


class SequenceFrame(LaneProgramFrame):
    """The frame of the one lane that is traced."""

    def batched(self, where: str) -> BatchAxisError:
        """The error for a lane-dependent value in a State that is not mapped."""
        return BatchAxisError(
            f"{where} is not mapped, but a value that depends on the lane was written to it: one State cannot hold "
            f"the values of {self.lanes} lanes. Give its Node to `map` as one of `xs`, map it with `state_in_axes` (or "
            "`state_out_axes` if it is only written), or return the value and reduce it after the call. To carry a "
            "State from step to step use `for_loop`."
        )


class SequenceCall(LaneProgramCall):
    """One call of a function whose lanes run one batch after another.

    Args:
        function: the user's function.
        options: the parameters of the map.
        arguments: the arguments of the call.
        watch: what the function depends on.
        hold: the lock of the random streams, for this call.
        batch_size: how many lanes run at once; None for one after another, 0 for all at once.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        options: MapOptions,
        arguments: Arguments,
        watch: Watch,
        hold: Hold,
        batch_size: int | None,
    ) -> None:
        super().__init__(function, options, arguments, watch, hold)
        self.batch_size = batch_size

    def count_lanes(self, entering: Sequence[tuple[str, Any, Axis]]) -> int:
        """The number of lanes."""
        return lane_count(entering, None, self.options.transform, nothing=_NOTHING)

    def make_frame(self, lanes: int) -> SequenceFrame:
        """The frame that the one lane is traced in."""
        return SequenceFrame(self.hold, lanes, None, self.options.rng, self._in_axis)

    def run_lanes(self, lane: Lane, stacked: list[Any], lanes: int) -> list[Any]:
        """Runs the program one batch after another."""
        return _run_lanes(lane, stacked, lanes, self.batch_size)


def _run_lanes(lane: Lane, stacked: list[Any], lanes: int, batch_size: int | None) -> list[Any]:
    """Runs the program for all lanes; what is shared comes out once, all else stacked at axis 0."""
    if lanes == 0 or batch_size == 0 or (batch_size is not None and batch_size >= lanes):
        return lane.run_together(stacked)
    size = batch_size or 1
    steps, left = divmod(lanes, size)
    chunks = [leaf[: steps * size] for leaf in stacked]
    if batch_size is not None:
        chunks = [leaf.reshape(steps, size, *leaf.shape[1:]) for leaf in chunks]

    def step(_: None, inputs: list[Any]) -> tuple[None, list[Any]]:
        return None, lane.run(*inputs) if batch_size is None else lane.run_together(inputs)

    outputs: list[Any] = lax.scan(step, None, chunks)[1]
    outputs = [output[0] if shared else output for output, shared in zip(outputs, lane.is_shared, strict=True)]
    if batch_size is None:
        return outputs
    rest = lane.run_together([leaf[steps * size :] for leaf in stacked]) if left else [None] * len(outputs)
    return [
        output if shared else _joined(output.reshape(steps * size, *output.shape[2:]), more)
        for output, more, shared in zip(outputs, rest, lane.is_shared, strict=True)
    ]


def _joined(first: Any, rest: Any) -> Any:
    return first if rest is None else jnp.concatenate([first, rest])
