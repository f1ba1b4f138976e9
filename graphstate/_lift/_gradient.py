"""What is differentiated: the States that `wrt` selects in arguments, array arguments, and States of the closure.

A `Selection` names the values that a derivative is taken of, reads them, and puts them in their places in a trace;
and it builds gradients of the shape that the user expects: a GraphState for a Node, a value for a State or array.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from graphstate._trace import Frame, Slot, outer_value, pack, unpack
from graphstate.errors import AliasError, AxisError, FilterError, StateTypeError
from graphstate.filters import Filter
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._graphstate import GraphState
from graphstate.graph._layout import Layout, layout_of, partition
from graphstate.graph._mapping import PathMapping
from graphstate.graph._path import shorten_path
from graphstate.graph._state import State

from ._arguments import Arguments, argument_names, function_name
from ._plan import plan_of

__all__ = ["Selection"]


class _Part(NamedTuple):
    """One leaf of what is differentiated: how its gradient is built from the next values.

    Attributes:
        size: how many values it takes.
        layout: the layout of a GraphState; None for one value.
    """

    size: int
    layout: Layout | None


class Selection:
    """What one call differentiates.

    Attributes:
        values: the values that the derivative is taken of.
        treedef: the structure of the gradient, whose leaves are `parts`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Arguments,
        argnums: int | Sequence[int] | None,
        wrt: Filter,
        states: Any,
        transform: str,
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.transform = transform
        self.values: list[Any] = []
        self._parts: list[_Part] = []
        self._targets: dict[int, int] = {}
        self._spots: dict[int, int] = {}
        self._cells: list[tuple[State, int]] = []
        self._names: list[str] = []
        self._numbers = {
            id(target): number for number, target in enumerate(arguments.targets) if isinstance(target, State)
        }
        structures = []
        if states is not None:
            structures.append(self._select_states(states, wrt))
        if argnums is not None or states is None:
            structures.append(self._select_arguments(0 if argnums is None else argnums, wrt))
        self._treedef = structures[0] if len(structures) == 1 else jax.tree_util.treedef_tuple(structures)
        self._check_differentiable()

    # Choosing

    def _select_arguments(self, argnums: int | Sequence[int], wrt: Filter) -> Any:
        args_treedef, _ = jax.tree_util.treedef_children(self.arguments.shape.treedef)
        treedefs: list[Any] = jax.tree_util.treedef_children(args_treedef)
        starts = [0]
        for treedef in treedefs:
            starts.append(starts[-1] + treedef.num_leaves)
        chosen = [
            self._number(argnum, len(treedefs)) for argnum in ((argnums,) if isinstance(argnums, int) else argnums)
        ]
        names = argument_names(self.arguments.shape.treedef, self.function)
        for argument in chosen:
            before = len(self.values)
            spots = range(starts[argument], starts[argument + 1])
            for spot in spots:
                self._select_leaf(spot, names[spot], wrt)
            if len(self.values) == before and any(is_graph_object(self.arguments.leaves[spot]) for spot in spots):
                raise FilterError(
                    f"`{self.transform}` differentiates the States that `wrt` selects, but wrt={_show_filter(wrt)} "
                    f"selects none in argument {argument} of `{function_name(self.function)}`. Pass another `wrt`, or "
                    "other `argnums`."
                )
        structures = [treedefs[argument] for argument in chosen]
        return structures[0] if isinstance(argnums, int) else jax.tree_util.treedef_tuple(structures)

    def _number(self, argnum: int, count: int) -> int:
        if not -count <= argnum < count:
            raise AxisError(
                f"`argnums` is {argnum}, but `{function_name(self.function)}` was called with {count} positional "
                "arguments. Differentiate States of the closure with `states=`."
            )
        return argnum % count

    def _select_leaf(self, spot: int, name: str, wrt: Filter) -> None:
        leaf = self.arguments.leaves[spot]
        if not is_graph_object(leaf):
            self._spots[spot] = len(self.values)
            self._add(leaf, name)
            self._parts.append(_Part(1, None))
        elif isinstance(leaf, State):
            self._add_state(leaf, name)
            self._parts.append(_Part(1, None))
        else:
            plan = plan_of(leaf)
            layout = layout_of(plan.graphdef)
            (indices,) = partition(layout, plan.leaves, [wrt])
            indices = [index for index in indices if isinstance(plan.leaves[index], State)]
            for index in indices:
                self._add_state(plan.leaves[index], f"{name}.{shorten_path(layout.path(index))}")
            self._parts.append(_Part(len(indices), layout.select(indices)))

    def _select_states(self, states: Any, wrt: Filter) -> Any:
        leaves, treedef = jax.tree.flatten(states, is_leaf=lambda leaf: isinstance(leaf, PathMapping))
        for leaf in leaves:
            if isinstance(leaf, PathMapping):
                layout = leaf.layout
                for index, state in enumerate(leaf.values()):
                    self._add_state(state, f"states[{shorten_path(layout.path(index))!r}]")
                self._parts.append(_Part(len(leaf), layout))
            elif isinstance(leaf, State):
                self._add_state(leaf, "states")
                self._parts.append(_Part(1, None))
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
        for other, index in self._cells:
            if other is state:
                raise AliasError(
                    f"A State is differentiated once, but `{self._names[index]}` and `{name}` are the same State: the "
                    "gradient would be divided between two places. Leave it out of one of them (`wrt`, `argnums`, "
                    "`states`)."
                )
        self._cells.append((state, len(self.values)))
        number = self._numbers.get(id(state))
        if number is not None:
            self._targets[number] = len(self.values)
        self._add(unpack(outer_value(state)), name)

    def _add(self, value: Any, name: str) -> None:
        self.values.append(value)
        self._names.append(name)

    def _check_differentiable(self) -> None:
        for value, name in zip(self.values, self._names, strict=True):
            for leaf in jax.tree.leaves(value):
                dtype = jnp.result_type(leaf)
                if not jnp.issubdtype(dtype, jnp.inexact):
                    raise StateTypeError(
                        f"`{self.transform}` differentiates real and complex arrays, but `{name}` has dtype {dtype}. "
                        "Select other States with `wrt` (or other arguments with `argnums`), or make it a float."
                    )

    # In a trace

    def place(self, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The values of the arguments' targets and the arrays among the arguments, with `values` in their places."""
        targets = self.arguments.held()
        for number, index in self._targets.items():
            targets[number] = values[index]
        arrays = [
            values[self._spots[spot]] if spot in self._spots else self.arguments.leaves[spot]
            for spot in self.arguments.shape.rest
        ]
        return targets, arrays

    def install(self, frame: Frame, values: Sequence[Any]) -> None:
        """Makes `values` those of the differentiated States of the closure."""
        for state, index in self._cells:
            if id(state) not in self._numbers:
                packed = pack(values[index])
                frame.slots[id(state)] = Slot(state, packed, packed)

    # The gradient

    def build(self, gradients: Sequence[Any]) -> Any:
        """The gradient in the structure of what was differentiated."""
        return jax.tree.unflatten(self._treedef, list(self._built(gradients)))

    def _built(self, gradients: Sequence[Any]) -> Iterator[Any]:
        start = 0
        for part in self._parts:
            values = gradients[start : start + part.size]
            start += part.size
            yield values[0] if part.layout is None else GraphState._make(part.layout, values)


def _show_filter(wrt: Filter) -> str:
    return wrt.__name__ if isinstance(wrt, type) else repr(wrt)
