"""The leaves of arguments: arrays, and the States and arrays of the Nodes among them, each with its lane axis."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from graphstate._lift.call._arguments import gather
from graphstate._lift.lanes._axes import LANES, argument_axes, target_axes
from graphstate._trace import pack
from graphstate.graph._flatten import unflatten
from graphstate.graph._heads import StateHead

from ._arrays import is_key

__all__ = ["Leaves", "axis_in", "leaves_of", "rebuilt", "specs_of"]


class Leaves(NamedTuple):
    """What arguments hold.

    Attributes:
        values: the arrays among the arguments, then the values of the States and arrays of their Nodes.
        axes: the lane axis of each, None for what is not mapped.
    """

    values: list[Any]
    axes: list[Any]


def leaves_of(args: Sequence[Any], kwargs: dict[str, Any], in_axes: Any) -> Leaves:
    """The leaves of arguments, Nodes looked into.

    Raises:
        AxisError: `in_axes` does not fit the arguments.
    """
    arguments = gather(tuple(args), dict(kwargs), "BatchCase", _case)
    specs = argument_axes(in_axes, arguments, _case)
    axes = [specs[spot] for spot in arguments.shape.rest] + target_axes(arguments, specs, _case, LANES)
    return Leaves([*arguments.arrays(), *arguments.values()], axes)


def specs_of(args: Sequence[Any], kwargs: dict[str, Any], in_axes: Any) -> tuple[list[Any], list[Any]]:
    """The leaves of `(args, kwargs)`, Nodes among them, and what stands for each in `in_axes`."""
    arguments = gather(tuple(args), dict(kwargs), "BatchCase", _case)
    return list(arguments.leaves), argument_axes(in_axes, arguments, _case)


def rebuilt(
    args: Sequence[Any], kwargs: dict[str, Any], in_axes: Any, change: Callable[[Any, Any], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments with other leaves; Nodes are copies, with the sharing among them.

    Args:
        args: positional arguments.
        kwargs: keyword arguments, mapped over axis 0.
        in_axes: the lane axes of `args`.
        change: from an array and its lane axis, or None, to what stands in its place.
    """
    arguments = gather(tuple(args), dict(kwargs), "BatchCase", _case)
    specs = argument_axes(in_axes, arguments, _case)
    leaves = list(arguments.leaves)
    for spot in arguments.shape.rest:
        leaves[spot] = change(leaves[spot], specs[spot])
    if arguments.roots:
        axes = target_axes(arguments, specs, _case, LANES)
        values = [
            jax.tree.map(lambda leaf, axis=axis: change(leaf, axis_in(leaf, axis)), value)
            for value, axis in zip(arguments.values(), axes, strict=True)
        ]
        graphdef = arguments.graphdef
        packed = [
            pack(value) if isinstance(graphdef.heads[place], StateHead) else value
            for place, value in zip(graphdef.leaves, values, strict=True)
        ]
        root = unflatten(graphdef, packed)[0]
        for spot, made in zip(arguments.shape.spots, (root,) if len(arguments.roots) == 1 else root, strict=True):
            leaves[spot] = made
    made_args, made_kwargs = jax.tree.unflatten(arguments.shape.treedef, leaves)
    return made_args, made_kwargs


def axis_in(leaf: Any, axis: Any) -> Any:
    """The lane axis of a leaf of a Node: a single key has none, whatever the axes say."""
    return None if is_key(leaf) and not leaf.shape else axis


def _case(*args: Any, **kwargs: Any) -> None:
    """Stands for the function in messages about the arguments of a case."""


_case.__qualname__ = "BatchCase"
