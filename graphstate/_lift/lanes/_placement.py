"""Where the inputs of a program lie whose lanes are spread over devices: each where the lanes need it.

What a call takes is put there before JAX sees it, so that a program is compiled once, wherever its first inputs came
from. What was put elsewhere by the user stays there, and is an error.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from graphstate._lift.call._arguments import Arguments, argument_names, function_name, target_names
from graphstate._lift.call._lane_stream import is_stream
from graphstate._lift.watch._watch import Watch
from graphstate._trace import Cell, describe, outer_value
from graphstate.errors import ShardingError
from graphstate.graph._axes import StateAxes
from graphstate.graph._plan import plan_of
from graphstate.graph._state import State
from graphstate.random import RandomState

from ._account import Account, ProgramAccount, types_of
from ._agreement import agreement
from ._axes import LANES, Axis, argument_axes, target_axes
from ._devices import LaneMesh
from ._mapping import MapOptions, describe_closed, record_of_state
from ._moving import put

__all__ = ["Placement"]


class Placement:
    """Where the inputs of the programs of one structure lie.

    Args:
        function: the user's function.
        options: the parameters of the map.
        mesh: the devices.
        watch: what the function depends on.
    """

    def __init__(self, function: Callable[..., Any], options: MapOptions, mesh: LaneMesh, watch: Watch) -> None:
        self._function = function
        self._options = options
        self._mesh = mesh
        self._watch = watch
        self._axes: tuple[list[Axis], list[Axis]] | None = None
        self._seen: list[Any] = []
        self._agreed: set[Any] = set()

    def place(
        self,
        arguments: Callable[[], Arguments],
        cells: Sequence[Cell],
        values: Sequence[Any],
        captured: Sequence[Any],
        arrays: Sequence[Any],
    ) -> tuple[Sequence[Any], ...]:
        """The inputs of a program, where its lanes need them; those that lie there are the same objects.

        Args:
            arguments: the arguments of the call.
            cells: what is captured.
            values: the values of the arguments' graph.
            captured: those of what is captured.
            arrays: the other arguments.

        Raises:
            ShardingError: an input was put on other devices.
        """
        try:
            if [each.sharding for each in (*values, *captured, *arrays)] == self._seen:
                return values, captured, arrays
        except AttributeError:  # a number, an array of NumPy, or several arrays in one State
            pass
        return self._placed(arguments(), cells, values, captured, arrays)

    def _placed(
        self,
        arguments: Arguments,
        cells: Sequence[Cell],
        values: Sequence[Any],
        captured: Sequence[Any],
        arrays: Sequence[Any],
    ) -> tuple[Sequence[Any], ...]:
        axes, array_axes = self._axes = self._axes or self.find_axes(arguments)
        inputs = [*values, *captured, *arrays]
        leaves, wanted = [], []
        for value, axis in zip(inputs, [*axes, *map(self.closed_axis, cells), *array_axes], strict=True):
            for leaf in (value,) if isinstance(value, jax.Array) else jax.tree.leaves(value):
                leaves.append(leaf)
                wanted.append(self.sharding(np.shape(leaf), axis))
        moving = [
            number
            for number, (leaf, sharding) in enumerate(zip(leaves, wanted, strict=True))
            if not _lies(leaf, sharding)
        ]
        if moving:
            self._check_movable([leaves[number] for number in moving], arguments, cells, inputs)
        if self._mesh.mesh.is_multi_process:
            self._agree(arguments, cells, inputs, {id(leaves[number]) for number in moving})
        if moving:
            moved = _put([leaves[number] for number in moving], [wanted[number] for number in moving])
            for number, leaf in zip(moving, moved, strict=True):
                leaves[number] = leaf
        following = iter(leaves)
        placed = [_refilled(part, following) for part in (values, captured, arrays)]
        self._seen = [leaf.sharding for leaf in leaves] if len(leaves) == len(inputs) else []
        return tuple(placed)

    # What differs between transforms

    def sharding(self, shape: tuple[int, ...], axis: Axis) -> NamedSharding:
        """How an array with this axis lies."""
        return self._mesh.sharding(shape, axis)

    def find_axes(self, arguments: Arguments) -> tuple[list[Axis], list[Axis]]:
        """The axes of the arguments' States and arrays, and of the other arguments."""
        specs = argument_axes(self._options.in_axes, arguments, self._function)
        axes = target_axes(arguments, specs, self._function, LANES)
        held = arguments.held()
        return (
            [
                None if is_stream(target, value) else axis
                for target, value, axis in zip(arguments.targets, held, axes, strict=True)
            ],
            [None if isinstance(specs[spot], StateAxes) else specs[spot] for spot in arguments.shape.rest],
        )

    def closed_axis(self, cell: Cell) -> Axis:
        """The axis of a State of the closure."""
        known = self._watch.states().get(id(cell))
        if known is None or is_stream(cell, outer_value(cell)):
            return None
        return self._options.state_in_axes.find(known[1], record_of_state(cell, None), None)

    # Several processes

    def _agree(
        self, arguments: Arguments, cells: Sequence[Cell], inputs: Sequence[Any], moving: Collection[int]
    ) -> None:
        """Makes sure that all processes call the function with the same.

        Asked is once for inputs of the same types, and again for States of which none lies on the mesh yet: they are
        those of a model that is new here. Numbers that are written between calls, and random keys, are few of many.
        """
        states = [*arguments.targets, *cells]
        held = [value for state, value in zip(states, inputs, strict=False) if not isinstance(state, RandomState)]
        is_new = bool(held) and all(id(leaf) in moving for leaf in jax.tree.leaves(held))
        types = tuple(types_of(inputs))
        if types in self._agreed and not is_new:
            return
        labels = argument_names(arguments.shape.treedef, self._function)
        graphs = [([labels[spot] for spot in arguments.shape.spots], arguments.graphdef)] if arguments.roots else []
        graphs += [([name], plan_of(root).graphdef) for name, root in self._watch.roots()]
        account = Account(graphs, list(zip(self._names(arguments, cells), inputs, strict=True)))
        agreement.ask(self._mesh.mesh, self._doing(), account, each_time=is_new)
        self._agreed.add(types)

    def agree_on(self, program: Any) -> None:
        """Makes sure that all processes have traced the same program."""
        if self._mesh.mesh.is_multi_process:
            agreement.ask(self._mesh.mesh, f"The program of {self._doing()}", ProgramAccount(program))

    def _doing(self) -> str:
        return f"`{self._options.transform}` of `{function_name(self._function)}`"

    # Errors

    def _check_movable(
        self, leaves: Sequence[Any], arguments: Arguments, cells: Sequence[Cell], inputs: Sequence[Any]
    ) -> None:
        """Refuses what the user has put on other devices."""
        for leaf in leaves:
            if getattr(leaf, "committed", False) and leaf.sharding.device_set != self._mesh.devices:
                transform, name = self._options.transform, self._name(leaf, arguments, cells, inputs)
                raise ShardingError(
                    f"`{transform}` of `{function_name(self._function)}` runs on {len(self._mesh.devices)} devices "
                    f"(the mesh is {self._mesh}), but {name} was put somewhere else: "
                    f"{leaf.sharding}. Move it (`jax.device_put(value, sharding)`), or give `{transform}` those "
                    "devices. What was put nowhere goes where it is needed."
                )

    def _name(self, leaf: Any, arguments: Arguments, cells: Sequence[Cell], inputs: Sequence[Any]) -> str:
        """How messages call the input that an array belongs to."""
        return next(
            name
            for name, value in zip(self._names(arguments, cells), inputs, strict=True)
            if any(each is leaf for each in jax.tree.leaves(value))
        )

    def _names(self, arguments: Arguments, cells: Sequence[Cell]) -> list[str]:
        """How messages call each input."""
        labels = argument_names(arguments.shape.treedef, self._function)
        return [
            *(f"`{name}`" for name in target_names(arguments, self._function)),
            *(self._closed_name(cell) for cell in cells),
            *(f"`{labels[spot]}`" for spot in arguments.shape.rest),
        ]

    def _closed_name(self, cell: Cell) -> str:
        return f"`{describe_closed(self._watch, cell)}`" if isinstance(cell, State) else describe(cell)


def _lies(leaf: Any, wanted: NamedSharding) -> bool:
    """Whether an array lies where it is wanted, however its sharding is written."""
    found = getattr(leaf, "sharding", None)
    if found == wanted:
        return True
    return isinstance(found, NamedSharding) and found.mesh == wanted.mesh and found.is_equivalent_to(wanted, leaf.ndim)


def _put(leaves: list[Any], shardings: list[NamedSharding]) -> list[Any]:
    """Arrays, put where they are wanted; types of arrays with their shardings."""
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        return [
            leaf.update(sharding=sharding) if isinstance(leaf, jax.ShapeDtypeStruct) else put([leaf], [sharding])[0]
            for leaf, sharding in zip(leaves, shardings, strict=True)
        ]
    return put(leaves, shardings)


def _refilled(values: Sequence[Any], leaves: Iterator[Any]) -> Sequence[Any]:
    """The values with other leaves; the very list if these are the same: what is donated must not be held twice."""
    refilled = [
        next(leaves) if isinstance(value, jax.Array) else jax.tree.map(lambda _: next(leaves), value)
        for value in values
    ]
    is_same = all(
        old is new
        for value, other in zip(values, refilled, strict=True)
        for old, new in zip(jax.tree.leaves(value), jax.tree.leaves(other), strict=True)
    )
    return values if is_same else refilled
