"""`pmap`: `vmap`, with the lanes spread over devices."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from graphstate._lift.call._arguments import Shape, gather
from graphstate._lift.call._lifted import watched
from graphstate._lift.call._progress import quiet
from graphstate._lift.call._streams import Hold
from graphstate._lift.lanes._devices import LaneMesh
from graphstate._lift.lanes._placement import Placement
from graphstate._lift.lanes._spread import SpreadCall
from graphstate._lift.programs._build import Options
from graphstate._lift.watch._watch import Watch
from graphstate.errors import AxisError
from graphstate.filters import Filter
from graphstate.graph import StateAxes

from ._jit import JitFunction
from ._vmap import StatefulMapping

__all__ = ["pmap"]


class SpreadMapping(StatefulMapping, JitFunction):
    """A mapping that is compiled, with its lanes spread over devices: what `pmap` returns.

    Args:
        function: takes the arguments of one lane.
        in_axes: as in `pmap`.
        out_axes: as in `pmap`.
        devices: as in `pmap`.
        mesh: as in `pmap`.
        mesh_axes: as in `pmap`.
        uneven: as in `pmap`.
        donate_states: as in `pmap`.
        **parameters: further parameters of `StatefulMapping`.
    """

    transform = "pmap"

    def __init__(
        self,
        function: Callable[..., Any],
        in_axes: Any = 0,
        out_axes: Any = 0,
        *,
        devices: Sequence[jax.Device] | None = None,
        mesh: Mesh | None = None,
        mesh_axes: Any = None,
        uneven: str = "error",
        donate_states: bool = False,
        **parameters: Any,
    ) -> None:
        super().__init__(function, in_axes, out_axes, **parameters)
        if uneven not in ("error", "pad"):
            raise AxisError(f"`uneven` is one of 'error', 'pad', but it is {uneven!r}.")
        self._given = devices, mesh, mesh_axes
        self._lane_mesh = LaneMesh.of(*self._given) if any(each is not None for each in self._given) else None
        self._pads = uneven == "pad"
        self._donation = Options(donates_states=True) if donate_states else None

    __call__ = JitFunction.__call__

    def build_options(self, statics: Any, shape: Shape) -> Options | None:
        """What is asked of the compiled programs."""
        return self._donation

    def placement(self, watch: Watch) -> Placement:
        """Says where the inputs of programs must lie."""
        return Placement(self.function, self.options, self.lane_mesh(), watch)

    def run_user(self, statics: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the function in all lanes."""
        arguments = gather(args, kwargs, self.transform, self.function)
        watch = watched(self.function, self.transform)
        with Hold() as hold, quiet(True):
            call = SpreadCall(self.function, self.options, arguments, watch, hold, self.lane_mesh(), self._pads)
            return call.run()

    def lane_mesh(self) -> LaneMesh:
        """The devices; of those that there are nothing is asked before the first call."""
        if self._lane_mesh is None:
            self._lane_mesh = LaneMesh.of(*self._given)
        return self._lane_mesh


def pmap(
    function: Callable[..., Any] | None = None,
    /,
    in_axes: Any = 0,
    out_axes: Any = 0,
    *,
    axis_name: Any = None,
    axis_size: int | None = None,
    spmd_axis_name: Any = None,
    state_in_axes: Mapping[Filter, int | None] | StateAxes | Filter = None,
    state_out_axes: Mapping[Filter, int | None] | StateAxes | Filter = None,
    rng: str = "split",
    devices: Sequence[jax.Device] | None = None,
    mesh: Mesh | None = None,
    mesh_axes: Any = None,
    uneven: str = "error",
    donate_states: bool = False,
) -> Any:
    """Maps a function as `vmap` does, with the lanes spread over devices.

    It means what `vmap` means: the same values, shapes, dtypes, errors and random numbers, for every number of devices,
    one included. Lane i of n runs on device i // (n / devices). The call is compiled, once; each device runs its lanes
    and hears of no other, unless the function has collectives over `axis_name`. What is mapped stays spread between
    calls, a State that is not mapped gets a copy on each device. A lane, or a shard of `shard_map`, is on a
    device already: in it `pmap` is `vmap`.

    With several processes (`parallel.initialize`) the devices are those of all, and all make the same calls. Each
    passes the same arguments, whole, or arrays that are spread over all devices already. Of what comes out each holds
    its lanes (`array.addressable_shards`); all of it is given to each by
    `jax.experimental.multihost_utils.process_allgather(array, tiled=True)`.

    Args:
        function: takes the arguments of one lane; a class makes a stacked Node, a callable Node will do too.
        in_axes: as in `vmap`.
        out_axes: as in `vmap`.
        axis_name: what collectives (`jax.lax.psum` and the like) call the lane axis. They run over all lanes, not
            over devices.
        axis_size: the number of lanes, where no argument tells.
        spmd_axis_name: as in `vmap`.
        state_in_axes: as in `vmap`.
        state_out_axes: as in `vmap`.
        rng: as in `vmap`.
        devices: the devices; all that there are, unless told.
        mesh: a mesh of devices instead.
        mesh_axes: the axis, or a tuple of axes, of the mesh along which the lanes lie; all, unless told. Over the
            others XLA may divide the work of a lane.
        uneven: what becomes of a number of lanes that the devices do not divide. "error": an error; "pad": lanes are
            added, and their results dropped (callbacks run for them, too). That costs a gather, and is refused where
            mapped States are written or the lanes communicate.
        donate_states: as in `jit`.

    Returns:
        The mapped function, which has `lower` and `trace` as that of `jit` has.

    Raises:
        AxisError: the devices do not divide the lanes, or the mesh has no such axis; and as in `vmap`.
        BatchAxisError: as in `vmap`.
        AliasError: as in `vmap`.
        ShardingError: an array was put on other devices.
        StateTypeError: a lane draws with `rbg` keys, whose numbers would depend on the number of devices.
        TraceContextError: it is called within `jax.set_mesh` of another mesh.
        ProcessError: another process does something else, or does it with something else.

    Example:
        An ensemble, a part of which each device makes, holds and trains:

        >>> import graphstate as gs, jax, jax.numpy as jnp, optax
        >>> members = gs.pmap(lambda seed: gs.nn.Linear(2, 3, rng=gs.random.RandomState(seed)))(jnp.arange(16))
        >>> optimizers = gs.pmap(lambda layer: gs.optim.Optimizer(layer, optax.adam(0.1)))(members)
        >>> @gs.pmap(in_axes=(0, 0, None, None), donate_states=True)
        ... def step(layer, optimizer, x, y):
        ...     optimizer.update(layer, gs.grad(lambda layer: jnp.mean((layer(x) - y) ** 2))(layer))
        >>> step(members, optimizers, jnp.ones((5, 2)), jnp.zeros((5, 3)))
        >>> members.weight.value.shape, len(members.weight.value.sharding.device_set) == jax.device_count()
        ((16, 2, 3), True)
    """

    def transform(function: Callable[..., Any]) -> SpreadMapping:
        return SpreadMapping(
            function,
            in_axes,
            out_axes,
            axis_name=axis_name,
            axis_size=axis_size,
            spmd_axis_name=spmd_axis_name,
            state_in_axes=state_in_axes,
            state_out_axes=state_out_axes,
            rng=rng,
            devices=devices,
            mesh=mesh,
            mesh_axes=mesh_axes,
            uneven=uneven,
            donate_states=donate_states,
        )

    return transform if function is None else transform(function)
