"""An associative operation on elements of a sequence, which may be Nodes: it reads States, and writes none.

JAX calls the operation several times, on slices that hold many elements each. Every call gets Nodes of its own, built
from the values of its slices; the Node that it returns has the same structure, and is taken apart again.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax import lax

from graphstate._trace import Frame, describe, pack
from graphstate.errors import CarryError, StructureError, TraceContextError, some_of
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._diff import diff
from graphstate.graph._flatten import flatten, unflatten
from graphstate.graph._heads import StateHead
from graphstate.graph._split import leaf_value
from graphstate.graph._state import State

from ._arguments import argument_names, function_name, gather, target_names
from ._axes import lane_count
from ._boundary import Inside, enter
from ._lifted import watched
from ._traced import name_cells

__all__ = ["CombineCall"]


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
        self.axis = axis
        self.watch = watched(function, transform)
        self.arguments = gather((elements,), {}, transform, function)
        self.treedef: Any = jax.tree.structure(elements)
        self.values, self.arrays = self.arguments.values(), self.arguments.arrays()
        names = argument_names(self.arguments.shape.treedef, function)
        named = [*target_names(self.arguments, function), *(names[spot] for spot in self.arguments.shape.rest)]
        leaves = [*self.values, *self.arrays]
        lane_count([(name, value, axis) for name, value in zip(named, leaves, strict=True)], None, transform)

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
            with self.watch.guarded():
                result = self.function(one, two)
            written = [*_written(left), *_written(right), *(slot.cell for slot in frame.written())]
            if written:
                raise TraceContextError(
                    f"`{self.transform}` combines elements in no fixed order, but `{function_name(self.function)}` "
                    f"wrote {describe(written[0])}; drawing writes, too. Return a new value or Node, or use `scan`."
                )
            return self._take_apart(result)

    def _take_apart(self, result: Any) -> Any:
        leaves, treedef = jax.tree.flatten(result)
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


def _written(inside: Inside) -> Iterator[State]:
    """The States of an element that were written."""
    for place, before in zip(inside.graphdef.leaves if inside.roots else (), inside.initial, strict=True):
        item = inside.objects[place]
        if isinstance(item, State) and item._held is not before:
            yield item
