"""`map`: lanes in little memory, one batch after another."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from graphstate._lift.call._arguments import gather
from graphstate._lift.call._lifted import watched
from graphstate._lift.call._progress import quiet
from graphstate._lift.call._streams import Hold
from graphstate._lift.lanes._axes import as_state_axes
from graphstate._lift.lanes._lanes import check_rng
from graphstate._lift.lanes._mapping import MapOptions
from graphstate._lift.lanes._sequence import SequenceCall
from graphstate._lift.programs._reuse import is_eager, reused
from graphstate.errors import AxisError
from graphstate.filters import Filter
from graphstate.graph import StateAxes

__all__ = ["map"]


def map(
    f: Callable[..., Any],
    *xs: Any,
    batch_size: int | None = None,
    state_in_axes: Mapping[Filter, int | None] | StateAxes | Filter = None,
    state_out_axes: Mapping[Filter, int | None] | StateAxes | Filter = None,
    rng: str = "split",
) -> Any:
    """Calls a function for each index of the leading axis of arrays, as `jax.lax.map` does, and stacks its results.

    States follow the rules of `vmap`, whatever the batch size: each lane starts from the States as they were before
    the call, and draws what it would draw there. A Node in `xs` is sliced along axis 0, and what is written to it comes
    back stacked, in place. To carry States from step to step use `for_loop`.

    The function is traced once. Called again eagerly, with the same function object and shapes, nothing is traced.

    Args:
        f: takes one slice of each of `xs`.
        xs: pytrees of arrays and Nodes with a leading axis of the same size.
        batch_size: how many lanes run at once: None for one after another, without batching (`jax.lax.cond` then
            runs one branch), 0 for all of them. It need not divide the number of lanes.
        state_in_axes: as in `vmap`.
        state_out_axes: as in `vmap`.
        rng: as in `vmap`.

    Returns:
        The results, stacked along axis 0.

    Raises:
        AxisError: the sizes differ, there is nothing to map over, or `batch_size` is negative.
        BatchAxisError: a value that depends on the lane was written to a State that is not mapped.
        AliasError: one State has two axes, or a State made outside comes out of the lanes as if it were mapped.

    Example:
        A large ensemble, 16 members at a time:

        >>> import graphstate as gs, jax.numpy as jnp
        >>> members = gs.vmap(lambda seed: gs.nn.Linear(2, 3, rng=gs.random.RandomState(seed)))(jnp.arange(100))
        >>> gs.map(lambda layer: layer(jnp.ones(2)), members, batch_size=16).shape
        (100, 3)
    """
    check_rng(rng)
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 0):
        raise AxisError(
            "`batch_size` is how many lanes run at once (None: one after another, 0: all of them), but it is "
            f"{batch_size!r}."
        )
    in_axes, out_axes = as_state_axes(state_in_axes), as_state_axes(state_out_axes)
    options = MapOptions(0, 0, in_axes, out_axes, rng, "map")
    run = functools.partial(_map, options, batch_size)
    if is_eager():
        return reused((f,), (batch_size, in_axes, out_axes, rng), run, "map")(*xs)
    return run(f, *xs)


def _map(options: MapOptions, batch_size: int | None, f: Callable[..., Any], *xs: Any) -> Any:
    watch = watched(f, options.transform)
    arguments = gather(xs, {}, options.transform, f)
    with Hold() as hold, quiet(True):
        return SequenceCall(f, options, arguments, watch, hold, batch_size).run()
