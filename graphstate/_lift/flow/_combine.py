"""An associative operation on elements of a sequence, which may be Nodes: it reads States, and writes none.

JAX calls the operation several times, on slices that hold many elements each. Every call gets Nodes of its own, built
from the values of its slices; the Node that it returns has the same structure, and is taken apart again.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax import lax

from graphstate._lift.call._arguments import argument_names, function_name, gather, is_array_like, target_names
from graphstate._lift.call._boundary import Inside, enter, not_an_array
from graphstate._lift.call._lifted import watched
from graphstate._lift.call._traced import name_cells
from graphstate._lift.lanes._axes import lane_count
from graphstate._trace import Cell, Frame, base_cell_value, describe, pack
from graphstate.errors import AxisError, CarryError, StructureError, TraceContextError, some_of
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._diff import diff
from graphstate.graph._flatten import flatten, unflatten
from graphstate.graph._heads import StateHead
from graphstate.graph._split import leaf_value
from graphstate.graph._state import State

__all__ = ["CombineCall"]


_NOTHING: Final = "there is no array in what it was given."


class CombineCall:
    """One scan with an associative operation.

    Args:
        function: takes two elements, and returns their combination.
        elements: the sequence.
        axis: the axis of the sequence in all of its arrays.
        transform: the name of the transform, for messages.
    """

    def __init__(self, function: Callable[..., Any], elements: Any, axis: int, transform: str) -> None:
        self.function = function
        self.transform = transform
        self.watch = watched(function, transform)
        self.arguments = gather((elements,), {}, transform, function)
        self.treedef: Any = jax.tree.structure(elements)
        self.values, self.arrays = self.arguments.values(), self.arguments.arrays()
        names = argument_names(self.arguments.shape.treedef, function)
        self.names = [*target_names(self.arguments, function), *(names[spot] for spot in self.arguments.shape.rest)]
        named = list(zip(self.names, [*self.values, *self.arrays], strict=True))
        lane_count([(name, value, axis) for name, value in named], None, transform, nothing=_NOTHING)
        self.axis = self._counted(named, axis)

    def _counted(self, named: list[tuple[str, Any]], axis: int) -> int:
        """The axis, counted from the front, as it must be the same for all arrays."""
        if axis >= 0:
            return axis
        counted = {jnp.ndim(leaf) + axis: name for name, value in named for leaf in jax.tree.leaves(value)}
        if len(counted) > 1:
            lines = [f"axis {number} of `{name}`" for number, name in sorted(counted.items())]
            raise AxisError(
                f"`axis` of `{self.transform}` is {axis}, which is not one axis of arrays that have different numbers "
                f"of them:\n{some_of(lines)}\nCount it from the front."
            )
        return next(iter(counted))

    def run(self, reverse: bool) -> Any:
        """Runs the scan; returns the prefixes."""
        values, arrays = lax.associative_scan(
            self._combine, (self.values, self.arrays), reverse=reverse, axis=self.axis
        )
        return self._build(values, arrays)

    def _combine(self, first: Any, second: Any) -> Any:
        with Frame() as frame:
            left, (one,), _ = enter(frame, self.arguments, *first)
            right, (two,), _ = enter(frame, self.arguments, *second)
            name_cells(frame, left, self.arguments, self.function, self.watch)
            self._name_second(frame, right)
            with self.watch.guarded():
                result = self.function(one, two)
            written = [*_written(left), *_written(right), *(slot.cell for slot in frame.written())]
            if written:
                raise TraceContextError(
                    f"`{self.transform}` combines elements in no fixed order, but `{function_name(self.function)}` "
                    f"wrote {describe(written[0])}; drawing writes, too. Return a new value or Node, or use `scan`."
                )
            after = self._take_apart(result)
            self._check_types(first, after)
            return after

    def _name_second(self, frame: Frame, right: Inside) -> None:
        """Lets messages call the States of the second element by their paths, too."""
        find_first = frame.find_name

        def find_name(cell: Cell) -> str | None:
            for name, place in zip(self.names, right.graphdef.leaves if right.roots else (), strict=False):
                if right.objects[place] is cell:
                    return f"{name} of the second element"
            return find_first(cell)

        frame.find_name = find_name

    def _check_types(self, before: Any, after: Any) -> None:
        """Refuses a combination that has not the structure, shapes and dtypes of an element."""
        (values, arrays), (new_values, new_arrays) = before, after
        for name, old, new in zip(self.names, [*values, *arrays], [*new_values, *new_arrays], strict=True):
            kinds = [str(jax.tree.map(_type_of, each)) for each in (old, new)]
            if kinds[0] != kinds[1]:
                raise CarryError(
                    f"The function of `{self.transform}` returns what it takes, but `{name}` was {kinds[0]} and "
                    f"`{function_name(self.function)}` returned {kinds[1]}. Convert it."
                )

    def _take_apart(self, result: Any) -> Any:
        leaves, treedef = jax.tree.flatten(result)
        if any(not is_graph_object(leaf) and not is_array_like(leaf) for leaf in leaves):
            raise not_an_array(result, self.transform)
        objects = [leaf for leaf in leaves if is_graph_object(leaf)]
        spots = tuple(spot for spot, leaf in enumerate(leaves) if is_graph_object(leaf))
        if treedef != self.treedef or spots != self.arguments.shape.spots:
            raise CarryError(
                f"The function of `{self.transform}` returns what it takes, {self.treedef}, but "
                f"`{function_name(self.function)}` returned {treedef}, or arrays in place of Nodes."
            )
        flat = flatten(objects[0] if len(objects) == 1 else tuple(objects))
        if objects and flat.graphdef != self.arguments.graphdef:
            differences = diff(self.arguments.graphdef, flat.graphdef)
            raise StructureError(
                f"The function of `{self.transform}` returns Nodes of the structure that it takes, but those of "
                f"`{function_name(self.function)}` differ:\n" + some_of(differences),
                differences,
            )
        return [leaf_value(leaf) for leaf in flat.leaves], [leaf for leaf in leaves if not is_graph_object(leaf)]

    def _build(self, values: list[Any], arrays: list[Any]) -> Any:
        """The prefixes, in new Nodes."""
        graphdef, shape = self.arguments.graphdef, self.arguments.shape
        if not shape.spots:
            return jax.tree.unflatten(self.treedef, arrays)
        packed = [
            pack(value) if isinstance(graphdef.heads[place], StateHead) else value
            for place, value in zip(graphdef.leaves, values, strict=True)
        ]
        root = unflatten(graphdef, packed)[0]
        found = dict(zip(shape.spots, [root] if len(shape.spots) == 1 else root, strict=True))
        found.update(zip(shape.rest, arrays, strict=True))
        return jax.tree.unflatten(self.treedef, [found[spot] for spot in range(len(found))])


def _type_of(leaf: Any) -> str:
    return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"


def _written(inside: Inside) -> Iterator[State]:
    """The States of an element that were written."""
    for place, before in zip(inside.graphdef.leaves if inside.roots else (), inside.initial, strict=True):
        item = inside.objects[place]
        if isinstance(item, State) and base_cell_value(item) is not before:
            yield item
