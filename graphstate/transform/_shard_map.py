"""`shard_map`: one function on every device of a mesh, each with its block of the arguments and States."""

import functools
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from graphstate._lift.call._arguments import gather
from graphstate._lift.call._lifted import Lifted, watched
from graphstate._lift.call._streams import Hold
from graphstate._lift.lanes._lanes import check_rng
from graphstate._lift.lanes._mapping import MapOptions
from graphstate._lift.lanes._shards import ShardCall
from graphstate._lift.lanes._specs import ManualMesh, as_state_specs, check_kinds
from graphstate._lift.programs._reuse import is_eager, reused
from graphstate.filters import Filter
from graphstate.graph import StateAxes

__all__ = ["shard_map"]


class ShardMapped(Lifted):
    """A function that runs in the shards of a mesh: what `shard_map` returns.

    Args:
        function: takes the blocks of one shard.
        options: the parameters of the map; its axes are specs.
        mesh: the mesh; None for that of the context.
        axis_names: the mesh axes over which the function is manual; none for all.
        check_vma: as in `jax.shard_map`.
    """

    transform = "shard_map"

    def __init__(
        self,
        function: Callable[..., Any],
        options: MapOptions,
        mesh: Mesh | AbstractMesh | None,
        axis_names: frozenset[Any],
        check_vma: bool,
    ) -> None:
        super().__init__(function)
        self._key = (
            _key(options.in_axes),
            _key(options.out_axes),
            *(options.state_in_axes, options.state_out_axes, options.rng),
            *(mesh, axis_names, check_vma),
        )
        self._run = functools.partial(_run, options, mesh, axis_names, check_vma)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the function in all shards."""
        if is_eager():
            return reused((self.function,), self._key, self._run, self.transform)(*args, **kwargs)
        return self._run(self.function, *args, **kwargs)


def _key(specs: Any) -> Any:
    leaves, treedef = jax.tree.flatten(specs)
    return treedef, tuple(leaves)


def _run(
    options: MapOptions,
    mesh: Mesh | AbstractMesh | None,
    axis_names: frozenset[Any],
    check_vma: bool,
    function: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    watch = watched(function, options.transform)
    arguments = gather(args, kwargs, options.transform, function)
    manual = ManualMesh.of(mesh, axis_names)
    _check_names(manual, options)
    with Hold() as hold:
        return ShardCall(function, options, arguments, watch, hold, manual, check_vma).run()


def _check_names(manual: ManualMesh, options: MapOptions) -> None:
    manual.check_names("in_specs", jax.tree.leaves(options.in_axes))
    manual.check_names("out_specs", jax.tree.leaves(options.out_axes))
    manual.check_names("state_in_specs", options.state_in_axes.axes())
    manual.check_names("state_out_specs", options.state_out_axes.axes())


def shard_map(
    f: Callable[..., Any] | None = None,
    /,
    *,
    in_specs: Any,
    out_specs: Any,
    mesh: Mesh | AbstractMesh | None = None,
    axis_names: AbstractSet[Any] = frozenset(),
    check_vma: bool = True,
    state_in_specs: Mapping[Filter, PartitionSpec | None] | StateAxes | None = None,
    state_out_specs: Mapping[Filter, PartitionSpec | None] | StateAxes | None = None,
    rng: str = "split",
) -> Any:
    """Runs a function on every device of a mesh, each with its block of the arguments, as `jax.shard_map` does.

    A shard sees its block of each State that a spec splits, and the whole of all others. What it writes to a State
    becomes the block of that State; a value that varies over shards can be written only to a State whose spec names
    the mesh axis. Collectives (`jax.lax.psum` and the like) take the names of the mesh axes. It is always compiled.

    Args:
        f: takes the blocks of one shard.
        in_specs: as in `jax.shard_map`: a prefix tree of PartitionSpecs. For a Node a PartitionSpec, or None for one
            that every shard sees whole, holds for all its States; `StateAxes({filter: PartitionSpec(...)})` chooses
            by filter. A keyword argument has the spec of its position.
        out_specs: as in `jax.shard_map`; for a Node that is made inside, how its States are put together.
        mesh: the mesh; None for that of `jax.set_mesh`. Its axes should be of type Auto (`jax.make_mesh` makes
            Explicit ones unless told): with Explicit ones JAX takes only arrays that are split already.
        axis_names: the mesh axes that are split over; all if it is empty.
        check_vma: as in `jax.shard_map`. Without it JAX does not tell which values vary over shards, and a write to
            a State that is not split along all mesh axes needs an entry in `state_out_specs`.
        state_in_specs: the specs of States that the function only refers to, as `{filter: PartitionSpec}`. What no
            filter matches is whole in every shard.
        state_out_specs: the specs of such States that are only written.
        rng: "split": each shard draws from a stream of its own, which depends on the key and the number of the
            shard only; "same": all shards draw alike; "error": drawing raises.

    Returns:
        The function of whole arrays.

    Raises:
        AxisError: a spec does not fit its array, or names an axis that the mesh does not have.
        BatchAxisError: a value that varies over shards was written to a State that is not split along these.
        AliasError: one State has two specs.

    Example:
        A step on a split batch, with one copy of the weights; the gradient is averaged over the shards:

        >>> import graphstate as gs, jax, jax.numpy as jnp
        >>> from jax.sharding import AxisType, PartitionSpec as P
        >>> mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))
        >>> layer, total = gs.nn.Linear(2, 3), gs.State(jnp.zeros(()))
        >>> @gs.shard_map(mesh=mesh, in_specs=(None, P("batch")), out_specs=P("batch"))
        ... def forward(layer, x):
        ...     y = layer(x)
        ...     total.value += jax.lax.psum(jnp.sum(x), "batch")
        ...     return y
        >>> forward(layer, jnp.ones((8, 2))).shape, float(total.value)
        ((8, 3), 16.0)
    """
    check_rng(rng)
    check_kinds("in_specs", jax.tree.leaves(in_specs))
    check_kinds("out_specs", jax.tree.leaves(out_specs))
    options = MapOptions(
        in_axes=in_specs,
        out_axes=out_specs,
        state_in_axes=as_state_specs(state_in_specs, "state_in_specs"),
        state_out_axes=as_state_specs(state_out_specs, "state_out_specs"),
        rng=rng,
        transform="shard_map",
    )
    if mesh is not None:
        _check_names(ManualMesh.of(mesh, axis_names), options)

    def transform(function: Callable[..., Any]) -> ShardMapped:
        return ShardMapped(function, options, mesh, frozenset(axis_names), check_vma)

    return transform if f is None else transform(f)
