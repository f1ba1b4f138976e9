"""One function at one case: what it leaves behind as a whole and lane by lane, in whatever form it is run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._lift.call._arguments import function_name
from graphstate._lift.lanes._axes import as_state_axes
from graphstate.graph import StateAxes
from graphstate.graph._attributes import is_graph_object
from graphstate.random._key import lane_key, lane_keys
from graphstate.random._stream import KeyStream

from ._arrays import Change, cast_to, take_lanes
from ._case import BatchCase
from ._closure import Closure, kept, map_value, states_in, streams_in
from ._leaves import axis_in, rebuilt
from ._outcome import Axes, Outcome, observe
from ._programs import AxisTree, Form, Program, compiled, mapped, program_of
from ._tolerance import Tol

__all__ = ["Point", "Run"]


class Run(NamedTuple):
    """Something that was run: how messages call it, what runs it again, and what it left behind."""

    label: str
    again: Callable[[], Outcome]
    outcome: Outcome


@dataclass
class Point:
    """A function, a case, and how they are to be judged.

    Attributes:
        check: the name of the check.
        claim: what is the case if it fails.
        function: what is checked.
        case: its arguments.
        tol: what counts as rounding.
        batched: whether the function takes the whole batch, rather than one lane.
        setup: what makes the States that the function holds fit the case, before each run.
        is_exact: whether no difference is a matter of rounding.
        is_wide: whether real numbers are doubles, in arguments and in States.
        runs: what was run so far.
    """

    check: str
    claim: str
    function: Any
    case: BatchCase
    tol: Tol
    batched: bool
    setup: Callable[["Point"], None] | None = None
    is_exact: bool = False
    is_wide: bool = False
    runs: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.closure = Closure(self.function)
        self.states: StateAxes = as_state_axes(self.case.state_in_axes)

    @property
    def name(self) -> str:
        """How messages call the function."""
        return function_name(self.function)

    @property
    def axes(self) -> Axes:
        """The lane axes of the case."""
        return Axes(self.case.in_axes, self.case.out_axes, self.states)

    def widened(self) -> "Point":
        """The same in double precision."""
        return replace(self, case=self.case.astype(np.float64), tol=Tol(0), is_wide=True, runs=[])

    # Forms

    def lane_program(self) -> Program:
        """The function, compiled."""
        return program_of(self.function, Form("jit", compiled))

    def batch_program(self, size: int, rng: str = "split") -> Program:
        """What runs all lanes at once."""
        if self.batched:
            return self.lane_program()
        axes = AxisTree.of(self.case.in_axes), AxisTree.of(self.case.out_axes)
        return program_of(self.function, Form("vmap", mapped, (*axes, self.states, size, rng)))

    # Runs

    def batch(self, case: BatchCase | None = None, *, rng: str = "split", change: Change | None = None) -> Outcome:
        """All lanes at once.

        Args:
            case: the arguments, those of the point where none are given.
            rng: as in `vmap`.
            change: what becomes of each mapped array of the States that the function holds.
        """
        case = case or self.case
        program = self.batch_program(case.axis_size, rng)
        label = "the batch" if self.batched else "vmap"
        return self.run(label, program.call, case.args, case.kwargs, self.axes, lambda *_: self.change_held(change))

    def mapped_anew(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function mapped as the case says, and compiled, kept nowhere."""
        axes = AxisTree.of(self.case.in_axes), AxisTree.of(self.case.out_axes)
        made: Callable[..., Any] = mapped(function, *axes, self.states, self.case.axis_size, "split")
        return made

    def lane(
        self,
        index: int,
        case: BatchCase | None = None,
        *,
        eagerly: bool = False,
        call: Callable[..., Any] | None = None,
    ) -> Outcome:
        """One lane by itself: its slices, and a stream of random keys of its own; or, batched, a batch of one.

        Args:
            index: which lane.
            case: the arguments, those of the point where none are given.
            eagerly: whether the function runs uncompiled.
            call: what is called in place of the function.
        """
        case = case or self.case
        function = call or (self.function if eagerly else self.lane_program().call)
        if self.batched:
            alone, only = case.permuted([index]), take_lanes(np.array([index]))
            return self.run(
                f"the batch of lane {index}", function, alone.args, alone.kwargs, self.axes,
                lambda *_: self.change_held(only),
            )  # fmt: skip
        args, kwargs = case.lane(index)
        unmapped = Axes(None, None, StateAxes({}))

        def prepare(args: Any, kwargs: Any) -> None:
            # A stream with a key for each lane has its own; those with one key for all are split, as `vmap` does.
            given = zip(_streams((args, kwargs)), _streams((case.args, case.kwargs)), strict=True)
            streams = [stream for stream, whole in given if not whole.value.ndim]
            streams += streams_in(self.closure.roots)
            self.change_held(take_lanes(index))
            for stream in streams:
                stream.value = lane_key(lane_keys(stream.value)[1], index)

        return self.run(f"lane {index}", function, args, kwargs, unmapped, prepare)

    def lanes(self, case: BatchCase | None = None, *, eagerly: bool = False) -> list[Outcome]:
        """Each lane by itself."""
        case = case or self.case
        return [self.lane(index, case, eagerly=eagerly) for index in range(case.axis_size)]

    def eager(self) -> Outcome:
        """The first lane, or, batched, the batch, uncompiled."""
        if not self.batched:
            return self.lane(0, eagerly=True)
        return self.run("the batch", self.function, self.case.args, self.case.kwargs, self.axes)

    def run(
        self,
        label: str,
        call: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Any,
        axes: Axes,
        prepare: Callable[[Any, Any], None] = lambda args, kwargs: None,
    ) -> Outcome:
        """Runs `call` on copies of the arguments; afterwards what the function holds is as it was before."""

        def again() -> Outcome:
            given, named = rebuilt(tuple(args), dict(kwargs), None, lambda leaf, axis: self._to_jax(leaf))
            graphs = [leaf for leaf in jax.tree.leaves((given, named)) if is_graph_object(leaf)]
            with kept(*self.closure.roots, *graphs), strict():
                if self.is_wide:
                    self._widen_held()
                if self.setup is not None:
                    self.setup(self)
                prepare(given, named)
                streams = streams_in((*self.closure.roots, *graphs))
                keys = [stream.value for stream in streams]
                try:
                    result = _awaited(call(*given, **named))
                    drew = any(stream.value is not key for stream, key in zip(streams, keys, strict=True))
                    return observe(self.closure, given, named, result, axes)._replace(drew=drew)
                except Exception as error:
                    return Outcome.of_error(error)

        outcome = again()
        self.runs.append(Run(label, again, outcome))
        return outcome

    def _to_jax(self, leaf: Any) -> Any:
        return jnp.asarray(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf

    def _widen_held(self) -> None:
        cast = cast_to(np.float64)
        for held in self.closure.states():
            map_value(held.state, cast)

    def change_held(self, change: Change | None) -> None:
        if change is None or not self.states.axes():
            return
        for state, paths, record in self.closure.states():
            axis = self.states.find(paths, record, None)
            if axis is not None:
                map_value(state, lambda leaf, axis=axis: _changed(leaf, axis, change))  # type: ignore[misc]


def _streams(given: Any) -> list[Any]:
    """The streams of random keys in the Nodes among arguments."""
    graphs = tuple(leaf for leaf in jax.tree.leaves(given) if is_graph_object(leaf))
    return [held.state for held in states_in(graphs) if isinstance(held.state, KeyStream)]


def _awaited(result: Any) -> Any:
    """A result whose callbacks have run, and whose errors have come."""
    for leaf in jax.tree.leaves(result):
        if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer):
            leaf.block_until_ready()
    return result


def _changed(leaf: Any, axis: int, change: Change) -> Any:
    own = axis_in(leaf, axis)
    return leaf if own is None else jnp.asarray(change(leaf, own))


@contextmanager
def strict() -> Iterator[None]:
    """A block in which products of matrices are as precise as their dtype."""
    with jax.default_matmul_precision("highest"):
        yield
