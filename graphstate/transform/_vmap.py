"""`vmap` and `StatefulMapping`: one function, many lanes, one call."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from graphstate._lift.call._arguments import gather
from graphstate._lift.call._lifted import Lifted
from graphstate._lift.call._streams import Hold
from graphstate._lift.lanes._axes import as_state_axes
from graphstate._lift.lanes._lanes import check_rng
from graphstate._lift.lanes._mapping import MapCall, MapOptions
from graphstate.filters import Filter
from graphstate.graph import StateAxes

__all__ = ["StatefulMapping", "vmap"]


class StatefulMapping(Lifted):
    """A function mapped over lanes, with the States that it reads and writes: what `vmap` and `pmap` return.

    Used directly it takes the parameters of `vmap`, and the function that maps.

    Args:
        function: takes the arguments of one lane.
        in_axes: as in `vmap`.
        out_axes: as in `vmap`.
        axis_name: as in `vmap`.
        axis_size: as in `vmap`.
        spmd_axis_name: as in `vmap`.
        state_in_axes: as in `vmap`.
        state_out_axes: as in `vmap`.
        rng: as in `vmap`.
        mapping_fn: any function of the form of `jax.vmap`.
        mapping_kwargs: further keyword arguments for it.

    Raises:
        AxisError: `rng` is none of "split", "same" and "error", or an axis is no int.

    Attributes:
        options: the parameters.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> hidden = gs.HiddenState(jnp.zeros((4, 3)))
        >>> def cell(x):
        ...     hidden.value = jnp.tanh(hidden.value + x)
        ...     return hidden.value
        >>> step = gs.StatefulMapping(cell, state_in_axes={gs.HiddenState: 0})
        >>> step(jnp.ones((4, 3))).shape, hidden.value.shape
        ((4, 3), (4, 3))
    """

    transform = "vmap"

    def __init__(
        self,
        function: Callable[..., Any],
        in_axes: Any = 0,
        out_axes: Any = 0,
        *,
        axis_name: Any = None,
        axis_size: int | None = None,
        spmd_axis_name: Any = None,
        state_in_axes: Mapping[Filter, int | None] | StateAxes | Filter = None,
        state_out_axes: Mapping[Filter, int | None] | StateAxes | Filter = None,
        rng: str = "split",
        mapping_fn: Callable[..., Any] = jax.vmap,
        mapping_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(function)
        check_rng(rng)
        options = {**(mapping_kwargs or {}), **({} if spmd_axis_name is None else {"spmd_axis_name": spmd_axis_name})}
        self.options = MapOptions(
            in_axes=in_axes,
            out_axes=out_axes,
            state_in_axes=as_state_axes(state_in_axes),
            state_out_axes=as_state_axes(state_out_axes),
            rng=rng,
            transform=self.transform,
            axis_name=axis_name,
            axis_size=axis_size,
            mapping=lambda body, **axes: mapping_fn(body, **axes, **options),
        )

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the function in all lanes."""
        arguments = gather(args, kwargs, self.transform, self.function)
        with Hold() as hold:
            return MapCall(self.function, self.options, arguments, self.watch(), hold).run()


def vmap(
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
) -> Any:
    """Maps a function over an axis of its arguments, and of the States that it reads and writes.

    Each lane behaves as the same Python code would for its slice, starting from the States as they were before the
    call. A write that does not depend on the lane is kept once. A value that depends on the lane can be written only
    to a State that is mapped, and an axis is never guessed from a size.

    Args:
        function: takes the arguments of one lane; a class makes a stacked Node, a callable Node will do too.
        in_axes: as in `jax.vmap`. For a Node an int or None holds for all its States; `StateAxes` chooses by filter.
            Keyword arguments are mapped over axis 0.
        out_axes: as in `jax.vmap`; for a Node made inside, where its States get the lane axis.
        axis_name: what collectives call the lane axis, and States that name the axes of their arrays (`axes`).
        axis_size: the number of lanes, where no argument tells.
        spmd_axis_name: as in `jax.vmap`.
        state_in_axes: the axes of States that the function only refers to, as `{filter: axis}`; one filter alone
            means axis 0. What no filter matches is not mapped.
        state_out_axes: the axes of such States that are only written.
        rng: "split": each lane draws from a stream of its own, which depends on the key and the lane only;
            "same": all lanes draw alike; "error": drawing raises.

    Returns:
        The mapped function.

    Raises:
        AxisError: an axis does not exist, or the numbers of lanes differ.
        BatchAxisError: a value that depends on the lane was written to a State that is not mapped.
        AliasError: one State has two axes, or a State made outside comes out of the lanes as if it were mapped.

    Example:
        An ensemble of four layers, made in one call, then called on one input:

        >>> import graphstate as gs, jax, jax.numpy as jnp
        >>> members = gs.vmap(lambda seed: gs.nn.Linear(2, 3, rng=gs.random.RandomState(seed)))(jnp.arange(4))
        >>> members.weight.value.shape
        (4, 2, 3)
        >>> gs.vmap(lambda layer, x: layer(x), in_axes=(0, None))(members, jnp.ones(2)).shape
        (4, 3)

        Its training: every member has an optimizer of its own, and its step is the step of one:

        >>> import optax
        >>> optimizers = gs.vmap(lambda layer: gs.optim.Optimizer(layer, optax.adam(0.1)))(members)
        >>> def step(layer, optimizer, x, y):
        ...     optimizer.update(layer, gs.grad(lambda layer: jnp.mean((layer(x) - y) ** 2))(layer))
        >>> gs.jit(gs.vmap(step, in_axes=(0, 0, None, None)))(members, optimizers, jnp.ones((5, 2)), jnp.zeros((5, 3)))

        Monte Carlo dropout, ten samples with masks of their own:

        >>> model, x = gs.nn.Sequential(gs.nn.Linear(2, 8), gs.nn.Dropout(0.5), gs.nn.Linear(8, 1)), jnp.ones(2)
        >>> with gs.environ.context(fit=True):
        ...     samples = gs.vmap(lambda: model(x), axis_size=10)()
        >>> bool(jnp.std(samples) > 0)
        True

        A recurrent cell over time, for seven sequences with a hidden value each:

        >>> hidden, weights = gs.HiddenState(jnp.zeros((7, 3))), gs.nn.Linear(2 + 3, 3)
        >>> def cell(x):
        ...     hidden.value = jnp.tanh(weights(jnp.concatenate([x, hidden.value])))
        ...     return hidden.value
        >>> run = gs.vmap(lambda sequence: gs.for_loop(cell, sequence), state_in_axes=gs.HiddenState)
        >>> run(jnp.ones((7, 12, 2))).shape
        (7, 12, 3)
    """

    def transform(function: Callable[..., Any]) -> StatefulMapping:
        return StatefulMapping(
            function,
            in_axes,
            out_axes,
            axis_name=axis_name,
            axis_size=axis_size,
            spmd_axis_name=spmd_axis_name,
            state_in_axes=state_in_axes,
            state_out_axes=state_out_axes,
            rng=rng,
        )

    return transform if function is None else transform(function)
