"""One lane as a program: what the lanes do is traced once, and then run for as many of them, and where, as one likes.

The user's function is traced for one lane. What depends on the lane is asked of the program, not of the function. How
the program is run for all lanes is what differs: one batch after another (`_sequence`), or spread over devices
(`_spread`).
"""

import contextlib
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from graphstate._compat import current_trace, is_batched_by, named_axes, run_jaxpr
from graphstate._lift.call._streams import Hold
from graphstate._trace import Cell
from graphstate.errors import AxisError

from ._axes import Axis, slice_type
from ._lanes import LaneFrame
from ._mapping import Exit, LaneCall

__all__ = ["Lane", "LaneProgramCall", "LaneProgramFrame"]


class LaneProgramFrame(LaneFrame):
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


class LaneProgramCall(LaneCall):
    """One call of a function that is traced for one lane.

    Attributes:
        axis_name: what collectives in the lane call the lane axis; None where they have no name for it.
    """

    axis_name: Any = None

    def make_frame(self, lanes: int) -> LaneProgramFrame:
        """The frame that the one lane is traced in."""
        return LaneProgramFrame(self.hold, lanes, None, self.options.rng, self._in_axis)

    def launch(self, frame: LaneProgramFrame, inputs: list[Any], axes: list[Axis], lanes: int) -> list[Any]:
        """Traces one lane, and runs all of them."""
        stacked = [jnp.moveaxis(jnp.asarray(leaf), axis, 0) for leaf, axis in zip(inputs, axes, strict=True)]
        stacked.append(jnp.arange(lanes))
        lane = self._trace(frame, stacked, lanes)
        lane.check_claims(stacked)
        leavers: list[Any] = jax.tree.unflatten(lane.treedef, self.run_lanes(lane, stacked, lanes))
        return leavers

    def run_lanes(self, lane: "Lane", stacked: list[Any], lanes: int) -> list[Any]:
        """Runs the program for all lanes; what is shared comes out once, all else stacked at axis 0."""
        raise AssertionError

    def outside(self, leaver: Any, exit_: Exit) -> Any:
        """The value outside; what is the same in all lanes has come out once."""
        return leaver if exit_.axis is None else super().outside(leaver, exit_)

    def _trace(self, frame: LaneProgramFrame, stacked: list[Any], lanes: int) -> "Lane":
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

        axis_env = [] if self.axis_name is None else [(self.axis_name, lanes)]
        program, shape = jax.make_jaxpr(body, axis_env=axis_env, return_shape=True)(*map(slice_type, stacked))
        claims = [(len(jax.tree.leaves(value)), error) for value, error in zip(shape[1], errors, strict=True)]
        # Where none is seen the lane axis has no name: a collective that was missed raises, and sums up no part of it.
        axis_name = self.axis_name if self.axis_name in named_axes(program) else None
        vectorize = functools.partial(self.options.mapping, axis_name=axis_name)
        return Lane(program, jax.tree.structure(shape[0]), is_shared, claims, axis_name, vectorize)


class Lane(NamedTuple):
    """The program of one lane.

    Attributes:
        program: the jaxpr; it returns what leaves, then what is claimed not to depend on the lane.
        treedef: the structure of what leaves.
        is_shared: for each leaf of that whether it is the same in all lanes.
        claims: of each claimed value the number of leaves, and the error that is raised if it depends on the lane.
        axis_name: what its collectives call the lane axis; None if it has none.
        vectorize: `jax.vmap`, with that name.
    """

    program: Any
    treedef: Any
    is_shared: list[bool]
    claims: list[tuple[int, Callable[[], AxisError]]]
    axis_name: Any
    vectorize: Callable[..., Any]

    @property
    def communicates(self) -> bool:
        """Whether it has collectives over the lane axis, or asks for the number of the lane by its name."""
        return self.axis_name is not None

    def run(self, *inputs: Any) -> list[Any]:
        """What leaves one lane, flat."""
        return run_jaxpr(self.program, inputs)[: len(self.is_shared)]

    def run_together(self, stacked: list[Any]) -> list[Any]:
        """What leaves several lanes that run at once."""
        out_axes = [None if shared else 0 for shared in self.is_shared]
        leaving: list[Any] = self.vectorize(self.run, in_axes=0, out_axes=out_axes)(*stacked)
        return leaving

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
        reached = [True] * len(self.program.out_avals) if self.communicates else _reached(self.program)
        if not any(reached[len(self.is_shared) :]):
            return reached

        def probe(*inputs: Any) -> None:
            outputs = run_jaxpr(self.program, inputs)
            reached[:] = [is_batched_by(output, current_trace()) for output in outputs]

        with contextlib.suppress(NotImplementedError, ValueError):
            jax.eval_shape(self.vectorize(probe, in_axes=0, out_axes=0), *stacked)
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
