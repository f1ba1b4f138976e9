"""Lanes spread over devices: each device runs the program of its lanes, and hears of no other.

`jax.shard_map` splits the lanes, `jax.vmap` runs those of one device. So no collective is needed, and none is made,
also where each lane has a loop or kernels of its own. A program that has collectives over the lanes is left to the
partitioner of XLA as a whole instead: there `jax.vmap` knows what they mean, for all lanes and not for those of a
device.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from graphstate._compat import iter_jaxprs
from graphstate._lift.call._arguments import Arguments
from graphstate._lift.call._streams import Hold
from graphstate._lift.watch._watch import Watch
from graphstate.errors import AxisError, StateTypeError, TraceContextError

from ._axes import Axis, lane_count
from ._devices import LaneMesh
from ._lane_program import Lane, LaneProgramCall, LaneProgramFrame
from ._mapping import MapOptions

__all__ = ["SpreadCall"]

_in_lanes: Final = jax.make_user_context(default_value=False)
"""`with _in_lanes(True)`: the lanes of a map over devices are traced, and each is on one device already."""


class SpreadCall(LaneProgramCall):
    """One call of a function whose lanes are spread over devices.

    Args:
        function: the user's function.
        options: the parameters of the map.
        arguments: the arguments of the call.
        watch: what the function depends on.
        hold: the lock of the random streams, for this call.
        mesh: the devices.
        pads: whether lanes are added where the devices do not divide them.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        options: MapOptions,
        arguments: Arguments,
        watch: Watch,
        hold: Hold,
        mesh: LaneMesh,
        pads: bool,
    ) -> None:
        super().__init__(function, options, arguments, watch, hold)
        self.axis_name = options.axis_name
        self.mesh = mesh
        self.pads = pads
        self.stays = _stays()
        if not self.stays:
            _check_context(mesh)

    def count_lanes(self, entering: Sequence[tuple[str, Any, Axis]]) -> int:
        """The number of lanes, which the devices divide unless some are added."""
        lanes = lane_count(entering, self.options.axis_size, self.options.transform)
        if lanes % self.mesh.size and not self.pads and not self.stays:
            raise AxisError(
                f"`pmap` spreads lanes evenly over devices, but {lanes} lanes are no multiple of {self.mesh.size} "
                f"devices (the mesh is {self.mesh}). Give it a number of devices that divides them (`devices=` or "
                '`mesh=`), or let it add lanes whose results are dropped (`uneven="pad"`).'
            )
        return lanes

    def launch(self, frame: LaneProgramFrame, inputs: list[Any], axes: list[Axis], lanes: int) -> list[Any]:
        """Traces one lane, and runs all of them."""
        with _in_lanes(True), nullcontext() if self.stays else _no_mesh():
            return super().launch(frame, inputs, axes, lanes)

    def run_lanes(self, lane: Lane, stacked: list[Any], lanes: int) -> list[Any]:
        """Runs the program on each device, for its lanes."""
        _check_keys(lane)
        if self.stays or lanes == 0:
            return lane.run_together(stacked)
        added = -lanes % self.mesh.size
        if added:
            self._check_padding(lane, lanes)
            stacked = [_padded(leaf, added) for leaf in stacked]
        outputs = self._run_apart(lane, stacked) if self._are_apart(lane) else self._run_as_one(lane, stacked)
        if not added:
            return outputs
        return [leaf if shared else leaf[:lanes] for leaf, shared in zip(outputs, lane.is_shared, strict=True)]

    def _are_apart(self, lane: Lane) -> bool:
        """Whether the lanes of one device need nothing of those of another.

        If the mesh calls one of its axes as the user calls the lane axis, a collective in a rule of differentiation,
        which is seen only when the call is differentiated, would run over devices.
        """
        names = {eqn.primitive.name for jaxpr in iter_jaxprs(lane.program) for eqn in jaxpr.eqns}
        may_hide = self.axis_name in self.mesh.mesh.axis_names and any(name.startswith("custom_") for name in names)
        return not (lane.communicates or "shard_map" in names or may_hide)

    def _run_apart(self, lane: Lane, stacked: list[Any]) -> list[Any]:
        """Each device runs its lanes; they do not communicate."""
        mesh, spread = self.mesh, self.mesh.spec
        mapped: Any = jax.shard_map(
            lane.run_together,
            mesh=mesh.mesh,
            in_specs=spread,
            out_specs=[PartitionSpec() if shared else spread for shared in lane.is_shared],
            axis_names=frozenset(mesh.names),
            check_vma=False,  # derivatives inside of the lanes are those of each lane, as under `jax.vmap`
        )
        outputs: list[Any] = mapped(stacked)
        return outputs

    def _run_as_one(self, lane: Lane, stacked: list[Any]) -> list[Any]:
        """All lanes run at once, and XLA divides the work."""
        sharding = NamedSharding(self.mesh.mesh, self.mesh.spec)
        return lane.run_together(jax.lax.with_sharding_constraint(stacked, sharding))

    def _check_padding(self, lane: Lane, lanes: int) -> None:
        way_out = f"Give it a number of devices that divides the {lanes} lanes, or another number of lanes."
        if lane.communicates:
            raise AxisError(
                '`uneven="pad"` of `pmap` adds lanes, which would take part in the collectives over '
                f"{self.axis_name!r} and change what all others get. {way_out}"
            )
        for number, exit_ in self._written:
            if getattr(exit_, "axis", None) is not None:
                raise self._no_padding(self._namer(number)(), way_out)
        for cell, exit_ in self._slots:
            if getattr(exit_, "axis", None) is not None:
                raise self._no_padding(self._describe_closed(cell), way_out)

    def _no_padding(self, name: str, way_out: str) -> AxisError:
        return AxisError(
            f'`uneven="pad"` of `pmap` adds lanes whose results are dropped, but {name} is mapped and was written to: '
            f"what is left of it could not stay spread evenly over {self.mesh.size} devices. {way_out}"
        )


def _stays() -> bool:
    """Whether lanes stay on one device: the caller is a lane or a shard itself, or nothing is compiled."""
    return bool(
        _in_lanes.value or jax.sharding.get_abstract_mesh().manual_axes or jax.config.jax_disable_jit  # type: ignore[attr-defined]  # JAX adds its settings as it runs
    )


def _check_context(mesh: LaneMesh) -> None:
    context = jax.sharding.get_abstract_mesh()
    if not context.empty and context != mesh.mesh.abstract_mesh:
        raise TraceContextError(
            f"`pmap` spreads its lanes over the mesh {_shown(mesh.mesh.abstract_mesh)}, but is called within "
            f"`jax.set_mesh` of another one: {_shown(context)}. Give `pmap` that mesh (`mesh=`), with axes of type "
            "Auto as `graphstate.parallel.make_mesh` makes them, or call it outside of the block."
        )


def _shown(mesh: AbstractMesh) -> str:
    return f"{dict(mesh.shape)!r} ({', '.join(kind.name for kind in mesh.axis_types)})"


def _no_mesh() -> AbstractContextManager[Any]:
    """A block without the mesh of `jax.set_mesh`: the program of a lane runs within a shard of the same mesh."""
    block: AbstractContextManager[Any] = jax.sharding.use_abstract_mesh(AbstractMesh((), ()))
    return block


def _padded(leaf: Any, added: int) -> Any:
    """An array with its first lane repeated at the end: what it does there is done with good values."""
    return jnp.concatenate([leaf, *[leaf[:1]] * added])


def _check_keys(lane: Lane) -> None:
    """Refuses random numbers of which a lane would get others if it shared its device with fewer lanes."""
    for jaxpr in iter_jaxprs(lane.program):
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "rng_bit_generator" or (
                eqn.primitive.name == "random_bits" and "rbg" in str(eqn.invars[0].aval.dtype)
            ):
                raise StateTypeError(
                    "`pmap` gives a lane the same random numbers for every number of devices, but with `rbg` keys they "
                    "depend on how many lanes a device runs. Use the default keys (`threefry2x32`), or draw outside "
                    "and map over the draws."
                )
