"""Lanes one batch after another: little memory, however many lanes there are.

The user's function is traced once, for one lane, into a program. What depends on the lane is asked of the program, not
of the function. Then `lax.scan` runs it, for one lane or for a batch of lanes (`jax.vmap`) in each step; those that
are left over make one more, smaller batch.
"""

import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from graphstate._compat import current_trace, is_batched_by, run_jaxpr
from graphstate._lift.call._arguments import Arguments
from graphstate._lift.call._streams import Hold
from graphstate._lift.watch._watch import Watch
from graphstate._trace import Cell
from graphstate.errors import AxisError, BatchAxisError

from ._axes import Axis, lane_count, slice_type
from ._lanes import LaneFrame
from ._mapping import Exit, LaneCall, MapOptions

__all__ = ["SequenceCall", "SequenceFrame"]

_NOTHING = (
    "it was given neither arrays nor Nodes. Give it some, or map States of the closure with `state_in_axes`; "
    "`for_loop(f, length=n)` calls a function a number of times."
)


class SequenceFrame(LaneFrame):
    """The frame of the one lane that is traced.

    What may be written depends on what depends on the lane, and that is known only once the program is: until then
    each value that must not is a claim.

    Attributes:
        lane: the number of the lane, while it is traced.
        claims: values that must not depend on the lane, and the error for each.
    """

    builds_program = True
    is_direct = False

    def __init__(self, hold: Hold, lanes: int, axis_name: Any, rng: str, axis_of: Callable[[Cell], Axis]) -> None:
        super().__init__(hold, lanes, axis_name, rng, axis_of)
        self.lane: Any = None
        self.claims: list[tuple[Any, Callable[[], AxisError]]] = []

    def lane_index(self) -> Any:
        """The number of the lane."""
        return self.lane

    def check_written(self, target: Any, value: Any, axis: Axis, error: Callable[[], AxisError]) -> None:
        """Claims that a value does not depend on the lane, where one State or array has to hold it."""
        if axis is None:
            self.claims.append((value, error))

    def batched(self, where: str) -> BatchAxisError:
        """The error for a lane-dependent value in a State that is not mapped."""
        return BatchAxisError(
            f"{where} is not mapped, but a value that depends on the lane was written to it: one State cannot hold "
            f"the values of {self.lanes} lanes. Give its Node to `map` as one of `xs`, map it with `state_in_axes` (or "
            "`state_out_axes` if it is only written), or return the value and reduce it after the call. To carry a "
            "State from step to step use `for_loop`."
        )


class SequenceCall(LaneCall):
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

    def launch(self, frame: SequenceFrame, inputs: list[Any], axes: list[Axis], lanes: int) -> list[Any]:
        """Traces one lane, and runs all of them."""
        stacked = [jnp.moveaxis(jnp.asarray(leaf), axis, 0) for leaf, axis in zip(inputs, axes, strict=True)]
        stacked.append(jnp.arange(lanes))
        lane = self._trace(frame, stacked)
        lane.check_claims(stacked)
        leavers: list[Any] = jax.tree.unflatten(lane.treedef, _run_lanes(lane, stacked, lanes, self.batch_size))
        return leavers

    def outside(self, leaver: Any, exit_: Exit) -> Any:
        """The value outside; what is the same in all lanes has come out once."""
        return leaver if exit_.axis is None else super().outside(leaver, exit_)

    def _trace(self, frame: SequenceFrame, stacked: list[Any]) -> "_Lane":
        is_shared: list[bool] = []
        errors: list[Callable[[], AxisError]] = []

        def body(*inputs: Any) -> tuple[list[Any], list[Any]]:
            with frame:
                frame.lane = inputs[-1]
                leavers = self.run_lane(frame, inputs[:-1])
                for value, axis in leavers:
                    is_shared.extend([axis is None] * len(jax.tree.leaves(value)))
                claimed, frame.claims, frame.lane = frame.claims, [], None
                errors.extend(error for _, error in claimed)
                return [value for value, _ in leavers], [value for value, _ in claimed]

        program, shape = jax.make_jaxpr(body, return_shape=True)(*map(slice_type, stacked))
        sizes = [len(jax.tree.leaves(value)) for value in shape[1]]
        return _Lane(program, jax.tree.structure(shape[0]), is_shared, list(zip(sizes, errors, strict=True)))


class _Lane(NamedTuple):
    """The program of one lane.

    Attributes:
        program: the jaxpr; it returns what leaves, then what is claimed not to depend on the lane.
        treedef: the structure of what leaves.
        is_shared: for each leaf of that whether it is the same in all lanes.
        claims: of each claimed value the number of leaves, and the error that is raised if it depends on the lane.
    """

    program: Any
    treedef: Any
    is_shared: list[bool]
    claims: list[tuple[int, Callable[[], AxisError]]]

    def run(self, *inputs: Any) -> list[Any]:
        """What leaves one lane, flat."""
        return run_jaxpr(self.program, inputs)[: len(self.is_shared)]

    def check_claims(self, stacked: list[Any]) -> None:
        """Raises the first error whose value depends on the lane."""
        flags = iter(self._depend(stacked)[len(self.is_shared) :])
        for count, error in self.claims:
            if any(itertools.islice(flags, count)):
                raise error()

    def _depend(self, stacked: list[Any]) -> list[bool]:
        """For each output whether it depends on the lane, as far as JAX can tell.

        What no input leads to does not; for the rest JAX is asked, as `vmap` asks it: which of it does it batch? A
        program that it cannot batch (it has an ordered callback, say) leaves that open, and then all of it does.
        """
        reached = _reached(self.program)
        if not any(reached[len(self.is_shared) :]):
            return reached

        def probe(*inputs: Any) -> None:
            outputs = run_jaxpr(self.program, inputs)
            reached[:] = [is_batched_by(output, current_trace()) for output in outputs]

        with contextlib.suppress(NotImplementedError, ValueError):
            jax.eval_shape(jax.vmap(probe), *stacked)
        return reached


def _reached(closed: Any) -> list[bool]:
    """For each output of a program whether any of its inputs leads to it, looking at whole equations only."""
    jaxpr = closed.jaxpr
    reached = set(map(id, jaxpr.invars))
    for equation in jaxpr.eqns:
        if not reached.isdisjoint(map(id, equation.invars)):
            reached.update(map(id, equation.outvars))
            # What is written to a mutable array is read from it by a later equation.
            reached.update(id(each) for each in equation.invars if hasattr(each.aval, "inner_aval"))
    return [id(output) in reached for output in jaxpr.outvars]


def _run_lanes(lane: _Lane, stacked: list[Any], lanes: int, batch_size: int | None) -> list[Any]:
    """Runs the program for all lanes; what is shared comes out once, all else stacked at axis 0."""
    if lanes == 0 or batch_size == 0 or (batch_size is not None and batch_size >= lanes):
        return _run_batch(lane, stacked)
    size = batch_size or 1
    steps, left = divmod(lanes, size)
    chunks = [leaf[: steps * size] for leaf in stacked]
    if batch_size is not None:
        chunks = [leaf.reshape(steps, size, *leaf.shape[1:]) for leaf in chunks]

    def step(_: None, inputs: list[Any]) -> tuple[None, list[Any]]:
        return None, lane.run(*inputs) if batch_size is None else _run_batch(lane, inputs)

    outputs: list[Any] = lax.scan(step, None, chunks)[1]
    outputs = [output[0] if shared else output for output, shared in zip(outputs, lane.is_shared, strict=True)]
    if batch_size is None:
        return outputs
    rest = _run_batch(lane, [leaf[steps * size :] for leaf in stacked]) if left else [None] * len(outputs)
    return [
        output if shared else _joined(output.reshape(steps * size, *output.shape[2:]), more)
        for output, more, shared in zip(outputs, rest, lane.is_shared, strict=True)
    ]


def _run_batch(lane: _Lane, stacked: list[Any]) -> list[Any]:
    """Runs the program for some lanes at once."""
    batched: list[Any] = jax.vmap(lane.run, out_axes=[None if shared else 0 for shared in lane.is_shared])(*stacked)
    return batched


def _joined(first: Any, rest: Any) -> Any:
    return first if rest is None else jnp.concatenate([first, rest])
