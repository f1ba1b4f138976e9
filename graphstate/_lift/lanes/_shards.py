"""Lanes that are the shards of a mesh: each sees its block of what is split, and the whole of everything else.

JAX knows of each value over which axes of the mesh it varies. What a shard may write follows from that: a State is one
array outside, so what is written to it may vary only over the axes that its spec names.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec

from graphstate._compat import varying_axes
from graphstate._lift.call._arguments import Arguments
from graphstate._lift.call._streams import Hold
from graphstate._lift.watch._watch import Watch
from graphstate._trace import Cell, describe
from graphstate.errors import AxisError, BatchAxisError
from graphstate.graph._axes import StateAxes

from ._axes import Axis, Spec
from ._lanes import LaneFrame
from ._mapping import LaneCall, MapOptions
from ._specs import SHARDS, ManualMesh, argument_specs, mentioned, normalized, result_specs

__all__ = ["ShardCall", "ShardFrame"]


class ShardFrame(LaneFrame):
    """The frame of the shards.

    Attributes:
        manual: the mesh.
        is_checked: whether JAX tells what varies over shards.
        is_promised: whether the user has promised that all shards write the same to a State, where JAX does not tell.
        lost: the mesh axes over which the value varies that an error is about.
    """

    builds_program = True
    is_direct = False

    def __init__(
        self,
        hold: Hold,
        manual: ManualMesh,
        rng: str,
        axis_of: Callable[[Cell], Axis],
        is_checked: bool,
        is_promised: Callable[[Any], bool],
    ) -> None:
        super().__init__(hold, manual.shards, manual.names, rng, axis_of)
        self.manual = manual
        self.is_checked = is_checked
        self.is_promised = is_promised
        self.lost: tuple[Any, ...] = ()

    def check_size(self, cell: Cell, value: Any, axis: Axis) -> None:
        """Refuses a State of the closure that cannot be split so."""
        self.manual.check_split(describe(cell), value, axis)

    def cut(self, leaf: jax.Array, axis: Axis) -> jax.Array:
        """The block of an array."""
        return self.manual.block(leaf, axis)

    def check_written(self, target: Any, value: Any, axis: Axis, error: Callable[[], AxisError]) -> None:
        """Raises `error` where a value varies over more mesh axes than its State is split by, or may do so."""
        self.lost = self._left_out(value, axis)
        if self.lost and not (self.is_promised(target) and not self.is_checked):
            raise error()

    def check_returned(self, value: Any, axis: Axis, error: Callable[[], AxisError]) -> None:
        """As `check_written`, where JAX tells; else `out_specs` is a promise, as in JAX."""
        self.lost = self._left_out(value, axis)
        if self.lost and self.is_checked:
            raise error()

    def _left_out(self, value: Any, axis: Axis) -> tuple[Any, ...]:
        """The mesh axes over which a value varies, or may vary, and which its spec does not name."""
        varying = set().union(*map(varying_axes, jax.tree.leaves(value))) if self.is_checked else self.manual.names
        return tuple(name for name in self.manual.names if name in varying and name not in mentioned(axis))

    def batched(self, where: str) -> BatchAxisError:
        """The error for a value that varies over more shards than its State can hold."""
        if not self.is_checked:
            return BatchAxisError(
                f"{where} has one value for all shards along {self._named()}, and was written to. With "
                "`check_vma=False` JAX does not tell whether these write the same, and all values but one would be "
                "lost. Promise it (`state_out_specs={filter: PartitionSpec()}`), split the State along "
                f"{self._named()}, or leave `check_vma` on."
            )
        return BatchAxisError(
            f"{where} has one value for all shards along {self._named()}, but a value that varies over them was "
            f"written to it. Reduce it first (`jax.lax.pmean(value, {self._axes()})`, `psum`, ...), or split the "
            "State: `in_specs` (or `StateAxes` in it) for an argument, `state_in_specs`, or `state_out_specs` if it is "
            "only written, for a State of the closure."
        )

    def batched_result(self) -> AxisError:
        """The error for a result that varies over mesh axes which its spec does not name."""
        return AxisError(
            f"`out_specs` does not name {self._named()} for a result that varies over it: one array cannot hold the "
            f"values of all shards. Name the axis in its spec, or reduce it first (`jax.lax.pmean(value, "
            f"{self._axes()})`, `psum`, ...)."
        )

    def batched_new(self, where: str) -> BatchAxisError:
        """The error for a new State that holds a value which varies over more mesh axes than its spec names."""
        varies = "varies" if self.is_checked else "may vary (`check_vma=False` does not tell)"
        return BatchAxisError(
            f"A value that {varies} over {self._named()} went into {where}, but its Node has one value for all shards "
            "there. Name the axis in the spec of the Node (`in_specs`, `out_specs`, `StateAxes`), or reduce the value "
            f"first (`jax.lax.pmean(value, {self._axes()})`, `psum`, ...)."
        )

    def grown(self, where: str) -> BatchAxisError:
        """The error for a State that is read, written, and split on the way out only."""
        return BatchAxisError(
            f"{where} is split by `state_out_specs` only, but it was also read: each call would make it longer. Give "
            "it the same spec in `state_in_specs`."
        )

    def _axes(self) -> str:
        return repr(self.lost[0] if len(self.lost) == 1 else self.lost)

    def _named(self) -> str:
        return ", ".join(map(repr, self.lost))


class ShardCall(LaneCall):
    """One call of a function that runs in the shards of a mesh.

    Args:
        function: the user's function.
        options: the parameters; its axes are specs.
        arguments: the arguments of the call.
        watch: what the function depends on.
        hold: the lock of the random streams, for this call.
        manual: the mesh.
        check_vma: as in `jax.shard_map`.
    """

    terms = SHARDS

    def __init__(
        self,
        function: Callable[..., Any],
        options: MapOptions,
        arguments: Arguments,
        watch: Watch,
        hold: Hold,
        manual: ManualMesh,
        check_vma: bool,
    ) -> None:
        super().__init__(function, options, arguments, watch, hold)
        self.manual = manual
        self.check_vma = check_vma

    def argument_specs(self) -> list[Spec]:
        """The spec of each leaf of the arguments."""
        return argument_specs(self.options.in_axes, self.arguments, self.function)

    def result_specs(self, treedef: Any) -> list[Spec]:
        """The spec of each leaf of the result."""
        return result_specs(self.options.out_axes, treedef)

    def enters(self, axis: Axis) -> bool:
        """Everything enters through `jax.shard_map`, which alone knows how to place what is whole."""
        return True

    def count_lanes(self, entering: Sequence[tuple[str, Any, Axis]]) -> int:
        """The number of shards, once all that enters is known to split."""
        for name, value, spec in entering:
            self.manual.check_split(name, value, spec)
        return self.manual.shards

    def make_frame(self, lanes: int) -> ShardFrame:
        """The frame that the shards run in."""
        return ShardFrame(self.hold, self.manual, self.options.rng, self._in_axis, self.check_vma, self._is_promised)

    def _is_promised(self, target: Any) -> bool:
        return self.axis_by_filter(self.options.state_out_axes, target, ...) is not ...

    def exit(self, frame: LaneFrame, name: Callable[[], str], value: Any, axis: Axis) -> Any:
        """How a value leaves the shards."""
        for leaf in jax.tree.leaves(value) if axis is not None else ():
            if jax.numpy.ndim(leaf) < len(axis):
                self.manual.check_rank(name(), jax.numpy.shape(leaf), axis)
        return super().exit(frame, name, value, axis)

    def launch(self, frame: ShardFrame, inputs: list[Any], axes: list[Axis], lanes: int) -> list[Any]:
        """Runs all shards as one compiled program; what leaves them is grouped by its spec."""
        specs = self._specs()
        order: list[int] = []

        def body(inputs: list[Any]) -> dict[int, list[Any]]:
            groups: dict[int, list[Any]] = {number: [] for number in range(len(specs))}
            with frame:
                for value, axis in self.run_lane(frame, inputs):
                    order.append(specs.index(axis))
                    groups[order[-1]].append(value)
            return groups

        mapped: Any = jax.shard_map(
            body,
            mesh=self.manual.given,
            in_specs=([_as_given(axis) for axis in axes],),
            out_specs={number: _as_given(spec) for number, spec in enumerate(specs)},
            axis_names=frozenset(self.manual.names),
            check_vma=self.check_vma,
        )
        # Without `jax.jit` JAX runs the operations of each shard one by one, many hundred times slower.
        groups = {number: iter(group) for number, group in jax.jit(mapped)(inputs).items()}
        return [next(groups[number]) for number in order]

    def outside(self, leaver: Any, exit_: Any) -> Any:
        """The value outside: the array that `jax.shard_map` has put together."""
        return leaver

    def _specs(self) -> list[Axis]:
        """Every spec that something could leave with."""
        options = self.options
        found: dict[Axis, None] = {None: None}
        trees = [*self.specs, options.state_in_axes, options.state_out_axes, *jax.tree.leaves(options.out_axes)]
        for each in trees:
            for spec in each.axes() if isinstance(each, StateAxes) else (each,):
                found[normalized(spec)] = None
        return list(found)


def _as_given(spec: PartitionSpec | None) -> PartitionSpec:
    return PartitionSpec() if spec is None else spec
