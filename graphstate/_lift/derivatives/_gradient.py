"""What is differentiated: the States that `wrt` selects in arguments, array arguments, and States of the closure.

A `Selection` names the values that a derivative is taken of, reads them, and puts them in their places in a trace;
its `form` says where the derivatives by them go.
"""

from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._lift.call._arguments import Arguments, argument_names, function_name
from graphstate._trace import Frame, Slot, current_frame, outer_value, pack, unpack
from graphstate.errors import AliasError, AxisError, FilterError, StateTypeError
from graphstate.filters import Filter
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._layout import layout_of
from graphstate.graph._mapping import PathMapping
from graphstate.graph._path import shorten_path
from graphstate.graph._plan import plan_of
from graphstate.graph._selection import partition
from graphstate.graph._state import State

from ._tangent import Form, Part

__all__ = ["Selection", "Wanted"]


class Wanted(NamedTuple):
    """What a transform was told to differentiate.

    Attributes:
        argnums: which positional arguments; `...` for all of them, arrays of integers and keys among them, too; None
            for the first one, or none if there are `states`.
        wrt: the States of Node arguments.
        states: States of the closure.
        allow_int: whether integers may be selected, whose gradients are float0.
        allow_none: whether Node arguments may be passed of which `wrt` selects nothing.
    """

    argnums: int | Sequence[int] | EllipsisType | None
    wrt: Filter
    states: Any
    allow_int: bool = False
    allow_none: bool = False


class Selection:
    """What one call differentiates.

    Attributes:
        values: the values that the derivative is taken of.
        form: where derivatives by them go.
        targets: for each of the arguments' targets that is selected, by number, the number of its value.
        spots: for each argument that is an array and selected, by its spot, the number of its value.
    """

    def __init__(self, function: Callable[..., Any], arguments: Arguments, wanted: Wanted, transform: str) -> None:
        self.function = function
        self.arguments = arguments
        self.wanted = wanted
        self.transform = transform
        self.values: list[Any] = []
        self._parts: list[Part] = []
        self.targets: dict[int, int] = {}
        self.spots: dict[int, int] = {}
        self._cells: list[tuple[State, int]] = []
        self._names: list[str] = []
        self._numbers = {
            id(_as_here(target)): number for number, target in enumerate(arguments.targets) if isinstance(target, State)
        }
        argnums, states = wanted.argnums, wanted.states
        structures = []
        if states is not None:
            structures.append(self._select_states(states))
        if argnums is not None or states is None:
            structures.append(self._select_arguments(0 if argnums is None else argnums))
        treedef = structures[0] if len(structures) == 1 else jax.tree_util.treedef_tuple(structures)
        self.form = Form(treedef, tuple(self._parts))
        self._check_differentiable()

    # Choosing

    def _select_arguments(self, argnums: int | Sequence[int] | EllipsisType) -> Any:
        args_treedef, _ = jax.tree_util.treedef_children(self.arguments.shape.treedef)
        treedefs: list[Any] = jax.tree_util.treedef_children(args_treedef)
        starts = [0]
        for treedef in treedefs:
            starts.append(starts[-1] + treedef.num_leaves)
        names = argument_names(self.arguments.shape.treedef, self.function)

        def select(first: int, last: int, where: str) -> None:
            """Selects from some arguments; where they hold graph objects, one of these must have something."""
            spots = range(starts[first], starts[last])
            objects = [spot for spot in spots if is_graph_object(self.arguments.leaves[spot])]
            before = len(self._cells)
            for spot in spots:
                self._select_leaf(spot, names[spot])
            if objects and len(self._cells) == before and not self.wanted.allow_none:
                raise self._nothing_selected(where)

        if isinstance(argnums, EllipsisType):
            select(0, len(treedefs), "the arguments")
            return args_treedef
        chosen = [
            self._number(argnum, len(treedefs)) for argnum in ((argnums,) if isinstance(argnums, int) else argnums)
        ]
        for argument in chosen:
            select(argument, argument + 1, f"argument {argument}")
        structures = [treedefs[argument] for argument in chosen]
        return structures[0] if isinstance(argnums, int) else jax.tree_util.treedef_tuple(structures)

    def _nothing_selected(self, where: str) -> FilterError:
        others = "read them from the closure" if self.wanted.argnums is ... else "other `argnums`"
        return FilterError(
            f"`{self.transform}` differentiates the States that `wrt` selects, but wrt={_show_filter(self.wanted.wrt)} "
            f"selects none in {where} of `{function_name(self.function)}`. Pass another `wrt`, or {others}."
        )

    def _number(self, argnum: int, count: int) -> int:
        if not -count <= argnum < count:
            raise AxisError(
                f"`argnums` is {argnum}, but `{function_name(self.function)}` was called with {count} positional "
                "arguments. Differentiate States of the closure with `states=`."
            )
        return argnum % count

    def _select_leaf(self, spot: int, name: str) -> None:
        leaf = self.arguments.leaves[spot]
        if not is_graph_object(leaf):
            self.spots[spot] = len(self.values)
            self._add(leaf, name)
            self._parts.append(Part(name, 1, None))
        elif isinstance(leaf, State):
            self._add_state(leaf, name)
            self._parts.append(Part(name, 1, None))
        else:
            plan = plan_of(leaf)
            layout = layout_of(plan.graphdef)
            (part,) = partition(layout, plan.leaves, [self.wanted.wrt])
            indices = [index for index in part.numbers if isinstance(plan.leaves[index], State)]
            for index in indices:
                self._add_state(plan.leaves[index], f"{name}.{shorten_path(layout.path(index))}")
            self._parts.append(Part(name, len(indices), layout.select(indices)))

    def _select_states(self, states: Any) -> Any:
        leaves, treedef = jax.tree.flatten(states, is_leaf=lambda leaf: isinstance(leaf, PathMapping))
        for leaf in leaves:
            if isinstance(leaf, PathMapping):
                layout = leaf.layout
                for index, state in enumerate(leaf.values()):
                    self._add_state(state, f"states[{shorten_path(layout.path(index))!r}]")
                self._parts.append(Part("states", len(leaf), layout))
            elif isinstance(leaf, State):
                self._add_state(leaf, "states")
                self._parts.append(Part("states", 1, None))
            else:
                raise StateTypeError(
                    f"`states` of `{self.transform}` is a State, or a pytree or mapping of States, but a leaf of it "
                    f"is {str(leaf)[:60]!r} of type {type(leaf).__name__}. For a Node write `states=gs.states(node, "
                    "gs.ParamState)`, or pass it as an argument."
                )
        if not self.values:
            raise FilterError(
                f"`states` of `{self.transform}` holds no State. Select some, as with `model.states(gs.ParamState)`."
            )
        return treedef

    def _add_state(self, state: State, name: str) -> None:
        state = _as_here(state)
        for other, index in self._cells:
            if other is state:
                raise AliasError(
                    f"A State is differentiated once, but `{self._names[index]}` and `{name}` are the same State: the "
                    "gradient would be divided between two places. Leave it out of one of them "
                    f"({self._choices()})."
                )
        self._cells.append((state, len(self.values)))
        number = self._numbers.get(id(state))
        if number is not None:
            self.targets[number] = len(self.values)
        self._add(unpack(outer_value(state)), name)

    def _add(self, value: Any, name: str) -> None:
        # An array of NumPy can be changed in place later, and what is kept for a `vjp` must not follow.
        self.values.append(jax.tree.map(lambda leaf: jnp.array(leaf) if isinstance(leaf, np.ndarray) else leaf, value))
        self._names.append(name)

    def _choices(self) -> str:
        return "`wrt`, `states`" if self.wanted.argnums is ... else "`wrt`, `argnums`, `states`"

    def _check_differentiable(self) -> None:
        plain = set(self.spots.values()) if self.wanted.argnums is ... else set()
        for index, (value, name) in enumerate(zip(self.values, self._names, strict=True)):
            for leaf in () if index in plain else jax.tree.leaves(value):
                dtype = jnp.result_type(leaf)
                if not jnp.issubdtype(dtype, jnp.inexact) and not (self.wanted.allow_int and _is_integer(dtype)):
                    raise self._not_differentiable(name, dtype)

    def _not_differentiable(self, name: str, dtype: Any) -> StateTypeError:
        others = "read it from the closure" if self.wanted.argnums is ... else "other arguments with `argnums`"
        return StateTypeError(
            f"`{self.transform}` differentiates real and complex arrays, but `{name}` has dtype {dtype}. "
            f"Select other States with `wrt` (or {others}), or make it a float."
        )

    def closed(self, cell: Any) -> int | None:
        """The number of the value of a State of the closure; None if that is not selected, or an argument."""
        if id(cell) in self._numbers:
            return None
        return next((index for state, index in self._cells if state is cell), None)

    # In a trace

    def place(self, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The values of the arguments' targets and the arrays among the arguments, with `values` in their places."""
        targets = self.arguments.held()
        for number, index in self.targets.items():
            targets[number] = values[index]
        arrays = [
            values[self.spots[spot]] if spot in self.spots else self.arguments.leaves[spot]
            for spot in self.arguments.shape.rest
        ]
        return targets, arrays

    def install(self, frame: Frame, values: Sequence[Any]) -> None:
        """Makes `values` those of the differentiated States of the closure."""
        for state, index in self._cells:
            if id(state) not in self._numbers:
                packed = pack(values[index])
                frame.slots[id(state)] = Slot(state, packed, packed)


def _as_here(state: State) -> State:
    """The State that `state` is where the caller runs: its copy, if it came in there as an argument."""
    frame = current_frame()
    return state if frame is None else frame.canonical(state)


def _show_filter(wrt: Filter) -> str:
    return wrt.__name__ if isinstance(wrt, type) else repr(wrt)


def _is_integer(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)
