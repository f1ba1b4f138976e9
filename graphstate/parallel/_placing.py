"""Putting arrays and States where they are wanted: spread over a mesh, copied to all of it, or by rules.

States are moved in place, and arrays come back as new ones: both have the values that they had.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from graphstate._lift.lanes._account import Account
from graphstate._lift.lanes._agreement import agreement
from graphstate._lift.lanes._moving import put
from graphstate.errors import ShardingError
from graphstate.graph import State, states
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._path import show_path
from graphstate.graph._walked import walk

__all__ = ["Plan", "Rules", "check_rules", "move", "place", "plan_by_rules", "replicate", "shard", "spec_by_rules"]

Rules = Mapping[str, Any]
Specs = Callable[[str, Any, tuple[int, ...]], PartitionSpec]
"""From how messages call an array, what its State says of it, and its shape, to its spec."""


def shard(target: Any, mesh: Mesh, axes: Any = None, *, axis: int = 0) -> Any:
    """Spreads arrays over the devices of a mesh, each device a part of them.

    Args:
        target: arrays, Nodes and States in any pytree.
        mesh: the mesh.
        axes: the axis of the mesh, or a tuple of them, along which the parts lie; all, unless told.
        axis: the axis of each array that is divided.

    Returns:
        The pytree, with new arrays; its Nodes and States are the same, and hold theirs where they are wanted.

    Raises:
        ShardingError: an array has no such axis, it does not divide, or the mesh has no such axis. Nothing is moved.
        ProcessError: another process that has devices of the mesh does something else, or has other values.

    Example:
        >>> import graphstate as gs, jax, jax.numpy as jnp
        >>> mesh = gs.parallel.make_mesh()
        >>> x = gs.parallel.shard(jnp.zeros((2 * jax.device_count(), 3)), mesh)
        >>> x.addressable_shards[0].data.shape
        (2, 3)
    """
    names = tuple(mesh.axis_names) if axes is None else tuple(axes) if isinstance(axes, tuple | list) else (axes,)

    def spec(name: str, metadata: Any, shape: tuple[int, ...]) -> PartitionSpec:
        if not -len(shape) <= axis < len(shape):
            raise ShardingError(
                f"`shard` divides axis {axis} of each array, but the shape of {name} is {shape}. Choose another axis, "
                "or copy it to all devices (`replicate`)."
            )
        entries: list[Any] = [None] * len(shape)
        entries[axis] = names if len(names) > 1 else names[0]
        return PartitionSpec(*entries)

    return _put("shard", target, mesh, spec)


def replicate(target: Any, mesh: Mesh) -> Any:
    """Copies arrays to all devices of a mesh.

    Args:
        target: arrays, Nodes and States in any pytree.
        mesh: the mesh.

    Returns:
        As `shard`.

    Example:
        >>> import graphstate as gs, jax
        >>> model = gs.parallel.replicate(gs.nn.Linear(2, 3), gs.parallel.make_mesh())
        >>> model.weight.value.sharding.is_fully_replicated
        True
    """
    return _put("replicate", target, mesh, lambda name, metadata, shape: PartitionSpec())


def place(node: Any, mesh: Mesh, rules: Rules) -> Any:
    """Spreads the States of a model as rules say for the names of their axes.

    A State says what its axes are when it is made, as `State(value, axes=("embed", "mlp"))`, and building it needs no
    mesh. A map that stacks lanes adds its `axis_name` to them: a rule for that name spreads the members of an ensemble.
    What no rule is for, and States that name no axes, are copied to all devices.

    Args:
        node: a Node, a State, or any pytree of these.
        mesh: the mesh.
        rules: from the name of an axis to the axis of the mesh that divides it, or a tuple of these.

    Returns:
        `node`, whose States hold their values where they are wanted.

    Raises:
        ShardingError: an axis does not divide, a State names more or fewer axes than it has, two of its axes would
            lie along one of the mesh, or the mesh has no such axis. Nothing is moved.
        ProcessError: as in `shard`.

    Example:
        >>> import graphstate as gs, jax, jax.numpy as jnp
        >>> weight = gs.ParamState(jnp.ones((3, 8 * jax.device_count())), axes=("embed", "mlp"))
        >>> mesh = gs.parallel.make_mesh(names="model")
        >>> gs.parallel.place(weight, mesh, {"mlp": "model"}).value.addressable_shards[0].data.shape
        (3, 8)
    """
    check_rules(rules, mesh)
    return _put("place", node, mesh, lambda name, metadata, shape: spec_by_rules(name, metadata, shape, rules, mesh))


def check_rules(rules: Rules, mesh: Mesh) -> None:
    """Refuses rules for another mesh, whether or not a State names the axes that they are for.

    Raises:
        ShardingError: a rule names no axis of the mesh.
    """
    for name, entry in rules.items():
        for each in entry if isinstance(entry, tuple) else () if entry is None else (entry,):
            if each not in mesh.axis_names:
                raise ShardingError(
                    f"The rule for {name!r} names {each!r}, but the axes of the mesh are "
                    f"{', '.join(map(repr, mesh.axis_names))}. Name one of these, a tuple of them, or None."
                )


def spec_by_rules(name: str, metadata: Any, shape: tuple[int, ...], rules: Rules, mesh: Mesh) -> PartitionSpec:
    """The spec of an array by what its State says of its axes.

    Raises:
        ShardingError: as in `place`.
    """
    axes = metadata.get("axes")
    if axes is None:
        return PartitionSpec()
    if not isinstance(axes, tuple) or len(axes) != len(shape):
        raise ShardingError(
            f"`axes` of a State names each axis of its array, but for {name} they are {axes!r}, and its shape is "
            f"{shape}. Give a tuple with a name, or None, for each."
        )
    spec = PartitionSpec(*(None if each is None else rules.get(each) for each in axes))
    _check(name, shape, spec, mesh)
    return spec


class Plan(NamedTuple):
    """Where what is in a pytree is to lie.

    Attributes:
        cells: its States, each with the sharding of each array that it holds.
        leaves: its leaves, each with its sharding; None for graph objects.
        treedef: its structure.
    """

    cells: list[tuple[Any, Any]]
    leaves: list[tuple[Any, NamedSharding | None]]
    treedef: Any


def plan_by_rules(target: Any, mesh: Mesh, rules: Rules) -> Plan:
    """Where rules say that what is in a pytree is to lie.

    Raises:
        ShardingError: as in `place`.
    """
    return _plan(target, mesh, lambda name, metadata, shape: spec_by_rules(name, metadata, shape, rules, mesh))


def _plan(target: Any, mesh: Mesh, specs: Specs) -> Plan:
    """Where what is in a pytree is to lie, once all of it is known to fit."""
    found, treedef = jax.tree_util.tree_flatten_with_path(target)
    cells = states(target) if any(is_graph_object(leaf) for _, leaf in found) else {}
    return Plan(
        [
            (state, _shardings(f"State {show_path(path)}", state.value, mesh, specs, state.metadata))
            for path, state in cells.items()
        ],
        [
            (
                leaf,
                None
                if is_graph_object(leaf)
                else _shardings(f"array {jax.tree_util.keystr(path) or 'given'}", leaf, mesh, specs, {}),
            )
            for path, leaf in found
        ],
        treedef,
    )


def _put(doing: str, target: Any, mesh: Mesh, specs: Specs) -> Any:
    """Puts what is in a pytree on a mesh, once all of it is known to fit."""
    plan = _plan(target, mesh, specs)
    if mesh.is_multi_process:
        _agree(doing, mesh, target, bool(plan.cells))
    return move(plan)


def move(plan: Plan) -> Any:
    """Puts what is in a pytree where it is to lie."""
    for state, shardings in plan.cells:
        state.value = _moved(state.value, shardings)
    moved = [leaf if sharding is None else _moved(leaf, sharding) for leaf, sharding in plan.leaves]
    return jax.tree.unflatten(plan.treedef, moved)


def _agree(doing: str, mesh: Mesh, target: Any, has_states: bool) -> None:
    """Makes sure that all processes put the same."""
    graph = walk(target)
    names = [show_path(graph.graphdef.path(place)) for place in graph.graphdef.leaves]
    values = [leaf.value if isinstance(leaf, State) else leaf for leaf in graph.leaves]
    account = Account([([""], graph.graphdef)], list(zip(names, values, strict=True)))
    agreement.ask(mesh, f"`{doing}`", account, each_time=has_states)


def _moved(value: Any, shardings: Any) -> Any:
    leaves, treedef = jax.tree.flatten(value)
    return jax.tree.unflatten(treedef, put(leaves, jax.tree.leaves(shardings)))


def _shardings(name: str, value: Any, mesh: Mesh, specs: Specs, metadata: Any) -> Any:
    """The sharding of each array of a value."""

    def sharding(leaf: Any) -> NamedSharding:
        shape = np.shape(leaf)
        spec = specs(f"the {name}", metadata, shape)
        _check(f"the {name}", shape, spec, mesh)
        return NamedSharding(mesh, spec)

    return jax.tree.map(sharding, value)


def _check(name: str, shape: tuple[int, ...], spec: PartitionSpec, mesh: Mesh) -> None:
    met: set[Any] = set()
    for axis, entry in enumerate(spec):
        names = entry if isinstance(entry, tuple) else () if entry is None else (entry,)
        for each in names:
            if each not in mesh.axis_names:
                raise ShardingError(
                    f"Axis {axis} of {name} is to lie along {each!r}, but the axes of the mesh are "
                    f"{', '.join(map(repr, mesh.axis_names))}. Name one of these."
                )
            if each in met:
                raise ShardingError(
                    f"An array is divided by an axis of the mesh once, but two axes of {name} are to lie along "
                    f"{each!r}. Give one of them another axis of the mesh, or none."
                )
            met.add(each)
        size = int(np.prod([mesh.shape[each] for each in names]))
        if shape[axis] % size:
            raise ShardingError(
                f"Axis {axis} of {name} is to be divided by {size} devices ({', '.join(map(repr, names))}), but its "
                f"shape is {shape}, and {shape[axis]} is no multiple of {size}. Choose another size, or leave it whole."
            )
