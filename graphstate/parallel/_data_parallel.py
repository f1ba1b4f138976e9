"""`data_parallel`: a compiled step whose batch is divided over devices.

The step is written for the whole batch, and computes what it computes on one device: XLA divides the work, and makes
the sums over the batch, gradients among them, sums over devices.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from graphstate._lift.call._arguments import Arguments, argument_names, function_name, target_names
from graphstate._lift.lanes._axes import as_state_axes
from graphstate._lift.lanes._devices import LaneMesh
from graphstate._lift.lanes._mapping import MapOptions
from graphstate._lift.lanes._placement import Placement
from graphstate._lift.watch._watch import Watch
from graphstate._trace import outer_value, unpack
from graphstate.errors import ShardingError, StateTypeError
from graphstate.graph import State
from graphstate.graph._attributes import is_graph_object
from graphstate.transform._jit import JitFunction, Parameters, parameters

from ._placing import Rules, check_rules, spec_by_rules

__all__ = ["data_parallel"]


def leaves_in(batch: Parameters, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[Any, bool]]:
    """The leaves of the arguments, each with whether it is part of a batch."""
    numbers = batch.positions(len(args))
    given = [(value, number in numbers) for number, value in enumerate(args)]
    given += [(kwargs[name], name in batch.names) for name in sorted(kwargs)]
    return [(leaf, is_batch) for value, is_batch in given for leaf in jax.tree.leaves(value)]


class DataPlacement(Placement):
    """Where the inputs of a step lie: the batch divided, all else copied, or divided by rules."""

    def __init__(
        self, function: Callable[..., Any], mesh: LaneMesh, watch: Watch, batch: Parameters, rules: Rules
    ) -> None:
        no_axes = as_state_axes(None)
        super().__init__(function, MapOptions(0, 0, no_axes, no_axes, "split", "data_parallel"), mesh, watch)
        self._batch = batch
        self._rules = rules
        self._lanes = mesh
        self._user = function

    def sharding(self, shape: tuple[int, ...], axis: Any) -> NamedSharding:
        """How an array with this axis, or this spec, lies."""
        return (
            NamedSharding(self._lanes.mesh, axis) if isinstance(axis, PartitionSpec) else super().sharding(shape, axis)
        )

    def find_axes(self, arguments: Arguments) -> tuple[list[Any], list[Any]]:
        """The specs of the arguments' States and arrays, and the axes of the other arguments."""
        names = target_names(arguments, self._user)
        targets = [self._spec(f"`{name}`", target) for name, target in zip(names, arguments.targets, strict=True)]
        treedef = arguments.shape.treedef
        args, kwargs = jax.tree.unflatten(treedef, range(treedef.num_leaves))
        is_batch = [batch for _, batch in leaves_in(self._batch, args, kwargs)]
        return targets, [0 if is_batch[spot] else None for spot in arguments.shape.rest]

    def closed_axis(self, cell: Any) -> Any:
        """The spec of a State of the closure."""
        return self._spec("a State of the closure", cell)

    def _spec(self, name: str, target: Any) -> Any:
        if not isinstance(target, State) or "axes" not in target.metadata:
            return None
        shape = np.shape(unpack(outer_value(target)))
        return spec_by_rules(name, target.metadata, shape, self._rules, self._lanes.mesh)


class DataParallel(JitFunction):
    """What `data_parallel` returns.

    Args:
        function: the step.
        mesh: the mesh.
        batch: which arguments are batches.
        rules: from the name of an axis to that of the mesh.
    """

    transform = "data_parallel"

    def __init__(self, function: Callable[..., Any], mesh: Mesh, batch: Parameters, rules: Rules) -> None:
        super().__init__(function)
        self._lanes = LaneMesh.of(None, mesh, mesh.axis_names[0])
        self._batch = batch
        self._rules = rules

    def placement(self, watch: Watch) -> Placement:
        """Says where the inputs of programs must lie."""
        return DataPlacement(self.function, self._lanes, watch, self._batch, self._rules)

    def run_user(self, statics: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the step, once its batches are known to divide."""
        self._check(args, kwargs)
        return super().run_user(statics, args, kwargs)

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        user, numbers = function_name(self.function), self._batch.numbers
        if numbers and not self._batch.positions(len(args)) and not self._batch.names & kwargs.keys():
            raise ShardingError(
                f"`data_parallel` divides the arguments {', '.join(map(str, numbers))} of `{user}`, but the call has "
                f"none of them: {len(args)} by position and {len(kwargs)} by name. Say in `batch` which are batches; "
                "the first argument is number 0."
            )
        leaves = leaves_in(self._batch, args, kwargs)
        names = argument_names(jax.tree.structure((args, kwargs)), self.function)
        for name, (leaf, is_batch) in zip(names, leaves, strict=True):
            if is_batch and is_graph_object(leaf):
                raise ShardingError(
                    f"`data_parallel` divides the arrays of a batch, but the batch `{name}` of `{user}` is of type "
                    f"{type(leaf).__name__}. Pass its arrays, or name other arguments in `batch`."
                )
            shape = np.shape(leaf)
            if is_batch and (not shape or shape[0] % self._lanes.size):
                raise ShardingError(
                    f"`data_parallel` divides the batch `{name}` of `{user}` by {self._lanes.size} devices along its "
                    f"first axis, but its shape is {shape}. Choose another batch size, drop what is left over, or name "
                    "other arguments in `batch`."
                )


def data_parallel(
    step: Callable[..., Any], mesh: Mesh, batch: int | Sequence[int] = (1, 2), rules: Rules | None = None
) -> Any:
    """Compiles a step whose batch is divided over the devices of a mesh; it gives what it gives on one device.

    Each device computes with its part of the batch. All else is copied to all devices, or divided by `rules`, and lies
    there from the first call on. The average of a loss over the batch is one over all of it, and so is its gradient:
    nothing in the step has to be averaged by hand.

    With several processes each passes the same batch, whole; or all pass one array that is spread over them, of which
    each has made its part (`jax.make_array_from_process_local_data`). Whole batches are compared in the first call
    only.

    Args:
        step: takes the model and whole batches.
        mesh: the mesh; batches are divided along its first axis.
        batch: the positions of the arguments that are batches of arrays, whose first axis is divided. Those that are
            passed by name are, too.
        rules: from the name of an axis of a State to the axis of the mesh that divides it, as in `place`.

    Returns:
        The compiled step, with all that `jit` gives one.

    Raises:
        ShardingError: a batch or State does not divide, none of the arguments is a batch, or an array was put on
            other devices.
        StateTypeError: `batch` is no whole number, and no sequence of these.
        ProcessError: another process does something else, or does it with something else.

    Example:
        >>> import graphstate as gs, jax, jax.numpy as jnp
        >>> layer = gs.nn.Linear(2, 3)
        >>> def step(layer, x, y):
        ...     loss, grads = gs.value_and_grad(lambda layer: jnp.mean((layer(x) - y) ** 2))(layer)
        ...     gs.update(layer, jax.tree.map(lambda p, g: p - 0.1 * g, gs.state(layer, gs.ParamState), grads))
        ...     return loss
        >>> train = gs.parallel.data_parallel(step, gs.parallel.make_mesh())
        >>> rows = 4 * jax.device_count()
        >>> train(layer, jnp.ones((rows, 2)), jnp.zeros((rows, 3))).shape
        ()
    """
    numbers = tuple(batch) if isinstance(batch, Sequence) else (batch,)
    if not all(isinstance(number, int) for number in numbers):
        raise StateTypeError(
            f"`batch` of `data_parallel` says by their positions which arguments are batches, but it is {batch!r}. "
            "Give it a number, or several."
        )
    rules = {} if rules is None else rules
    check_rules(rules, mesh)
    return DataParallel(step, mesh, parameters(step, numbers, None, "static"), rules)
