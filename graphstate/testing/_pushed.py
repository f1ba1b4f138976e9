"""A batch as its tangents, where a tangent of 1 goes into every element of one lane."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from graphstate._lift.lanes._axes import result_axes
from graphstate.graph import StateAxes
from graphstate.graph._attributes import is_graph_object
from graphstate.transform import jvp

from ._arrays import is_inexact
from ._case import BatchCase
from ._leaves import specs_of
from ._programs import AxisTree, compiled, inner_map

__all__ = ["is_pushed", "pushed_batch", "pushed_batched"]


def is_pushed(case: BatchCase) -> bool:
    """Whether there is a mapped argument that a tangent can go into."""
    leaves, specs = specs_of(case.args, dict(case.kwargs), case.in_axes)
    return any(_is_mapped(leaf, spec) for leaf, spec in zip(leaves, specs, strict=True))


def pushed_batch(
    function: Callable[..., Any], in_axes: AxisTree, out_axes: AxisTree, states: StateAxes, size: int
) -> Callable[..., Any]:
    """From a lane and arguments to the tangents of all results, the lanes first; of a function of one lane."""
    return pushed_batched(inner_map(function, in_axes, out_axes, states, size), in_axes, out_axes)


def pushed_batched(function: Callable[..., Any], in_axes: AxisTree, out_axes: AxisTree) -> Callable[..., Any]:
    """As `pushed_batch`, of a function that takes the batch as a whole."""

    def tangents(lane: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves, specs = specs_of(args, kwargs, in_axes.tree())
        treedef = jax.tree.structure((args, kwargs))
        spots = [spot for spot, leaf in enumerate(leaves) if _is_mapped(leaf, specs[spot])]

        def numbers(values: list[Any]) -> list[Any]:
            given = list(leaves)
            for spot, value in zip(spots, values, strict=True):
                given[spot] = value
            inner, named = jax.tree.unflatten(treedef, given)
            return _lanes_first(function(*inner, **named), out_axes)

        values = [leaves[spot] for spot in spots]
        directions = [_in_lane(leaves[spot], specs[spot], lane) for spot in spots]
        return jvp(numbers, (values,), (directions,))[1]

    program: Callable[..., Any] = compiled(tangents)
    return program


def _in_lane(leaf: Any, axis: int, lane: Any) -> Any:
    """1 in one lane, 0 in the others."""
    front = jnp.moveaxis(leaf, axis, 0)
    chosen = jnp.arange(front.shape[0], dtype=jnp.int32) == lane
    shape = (front.shape[0],) + (1,) * (front.ndim - 1)
    ones = jnp.broadcast_to(chosen.reshape(shape), front.shape).astype(leaf.dtype)
    return jnp.moveaxis(ones, 0, axis)


def _lanes_first(result: Any, out_axes: AxisTree) -> list[Any]:
    leaves, treedef = jax.tree.flatten(result)
    specs: Sequence[Any] = result_axes(out_axes.tree(), treedef)
    return [
        jnp.moveaxis(leaf, spec, 0)
        for leaf, spec in zip(leaves, specs, strict=True)
        if not is_graph_object(leaf) and is_inexact(leaf) and isinstance(spec, int)
    ]


def _is_mapped(leaf: Any, spec: Any) -> bool:
    return not is_graph_object(leaf) and is_inexact(leaf) and isinstance(spec, int)
