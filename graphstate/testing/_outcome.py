"""What a run leaves behind: its result, the States afterwards and the sharing of all of it, or an error."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._lift.call._arguments import Arguments, argument_names, gather
from graphstate._lift.lanes._axes import argument_axes, result_axes
from graphstate.graph import GraphDef, State, StateAxes
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._flatten import flatten
from graphstate.graph._layout import record_of
from graphstate.graph._path import write_path
from graphstate.random._stream import KeyStream

from ._closure import Closure
from ._leaves import axis_in

__all__ = ["Axes", "Leaf", "Outcome", "observe"]


class Axes(NamedTuple):
    """The lane axes of what goes into a run and comes out of it, as `graphstate.vmap` takes them."""

    in_axes: Any
    out_axes: Any
    states: StateAxes


class Leaf(NamedTuple):
    """One array of an outcome.

    Attributes:
        name: what it is, and where: "output [0]", "state model/bias", "argument model/bias".
        value: the array.
        axis: its lane axis, None for what is not mapped.
        stream: whether it is the key of a stream that all lanes share.
    """

    name: str
    value: Any
    axis: int | None
    stream: bool


class Outcome(NamedTuple):
    """What a run leaves behind.

    Attributes:
        leaves: all arrays: of the States that the function holds, of Nodes among the arguments, of the result.
        graphdef: the structure and the sharing of all these.
        treedef: the structure of the result.
        error: what was raised instead.
        drew: whether a stream of random keys that all lanes share was drawn from.
    """

    leaves: list[Leaf]
    graphdef: GraphDef | None
    treedef: Any
    error: Exception | None = None
    drew: bool = False

    @classmethod
    def of_error(cls, error: Exception) -> "Outcome":
        """A run that has failed."""
        return cls([], None, None, error)


class _Part(NamedTuple):
    """One object whose States are looked at: how messages call it, and its axis, or the axes of its States."""

    name: str
    value: Any
    spec: Any


def observe(closure: Closure, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, axes: Axes) -> Outcome:
    """The outcome of a run that has just returned.

    Raises:
        AxisError: the axes do not fit.
    """
    arguments = gather(tuple(args), dict(kwargs), "BatchCase", observe)
    leaves, treedef = jax.tree_util.tree_flatten_with_path(result)
    specs = result_axes(axes.out_axes, treedef)
    parts = [_Part(f"state {name}", root, axes.states) for name, root in zip(closure.names, closure.roots, strict=True)]
    parts += _argument_parts(arguments, axes)
    parts += [
        _Part(f"output {jax.tree_util.keystr(path)}".rstrip(), _as_leaf(leaf), spec)
        for (path, leaf), spec in zip(leaves, specs, strict=True)
    ]
    flat = flatten(tuple(part.value for part in parts))
    graphdef = flat.graphdef
    found: list[Leaf] = []
    for place in graphdef.leaves:
        item, (number, *rest) = flat.objects[place], graphdef.path(place)
        part = parts[int(number)]
        axis = _axis(part, len(closure.roots) > int(number), [tuple(rest)], item, graphdef.heads[place])
        value = item.value if isinstance(item, State) else item
        name = f"{part.name}/{write_path(tuple(rest))}" if rest else part.name
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            own = axis_in(leaf, axis)
            is_stream = isinstance(item, KeyStream) and not np.ndim(leaf)
            found.append(Leaf(name + jax.tree_util.keystr(path), jnp.asarray(leaf), own, is_stream))
    return Outcome(found, graphdef, treedef)


def _argument_parts(arguments: Arguments, axes: Axes) -> list[_Part]:
    specs = argument_axes(axes.in_axes, arguments, observe)
    treedef = arguments.shape.treedef
    names = argument_names(treedef, _arguments)
    return [
        _Part(f"argument {names[spot]}", root, specs[spot])
        for spot, root in zip(arguments.shape.spots, arguments.roots, strict=True)
    ]


def _arguments(*args: Any, **kwargs: Any) -> None:
    """Gives arguments the names args[0], args[1], ..."""


def _axis(part: _Part, is_held: bool, paths: Any, item: Any, head: Any) -> int | None:
    if not isinstance(part.spec, StateAxes):
        return part.spec  # type: ignore[no-any-return]
    record = record_of(head, item)
    return part.spec.find(paths, record, None) if is_held else part.spec.axis(paths, record)


def _as_leaf(leaf: Any) -> Any:
    """A number that comes out of an eager run is the array that it would be."""
    return leaf if is_graph_object(leaf) else jnp.asarray(leaf)
