"""A function as its gradient: by every real argument, and by every parameter that it reaches."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._lift.lanes._axes import result_axes
from graphstate.graph import ParamState, State, StateAxes
from graphstate.graph._attributes import is_graph_object
from graphstate.transform import checkpoint, grad

from ._arrays import is_inexact
from ._case import BatchCase
from ._closure import Closure, states_in
from ._leaves import specs_of
from ._programs import AxisTree, inner_map

__all__ = [
    "axes_of_gradient",
    "gradient_of_batch",
    "gradient_of_batched",
    "gradient_of_lane",
    "gradient_of_remat",
]

Roots = tuple[Any, ...]
_GOLDEN = (5**0.5 - 1) / 2


def axes_of_gradient(case: BatchCase, closure: Closure, states: StateAxes) -> tuple[int | None, ...]:
    """The lane axis of each part of the gradient, in the order in which `gradient_of_lane` returns them."""
    leaves, specs = specs_of(case.args, dict(case.kwargs), case.in_axes)
    given = list(zip(leaves, specs, strict=True))
    found = [spec for leaf, spec in given if _is_real(leaf)]
    graphs = [(leaf, spec) for leaf, spec in given if is_graph_object(leaf)]
    met: set[int] = set()
    for root, spec in [*graphs, *((root, states) for root in closure.roots)]:
        for held in states_in(root):
            if id(held.state) not in met and _is_parameter(held.state):
                axis = spec.find(held.paths, held.record, None) if isinstance(spec, StateAxes) else spec
                found += [axis] * len(jax.tree.leaves(held.state.value))
            met.add(id(held.state))
    return tuple(found)


def gradient_of_lane(function: Callable[..., Any], roots: Roots, out_axes: AxisTree) -> Callable[..., Any]:
    """The gradient of one number made of the result, as a tuple of arrays: by arguments, then by parameters."""
    return _gradient(lambda *args, **kwargs: _numbers(function(*args, **kwargs), out_axes), roots)


def gradient_of_batch(
    function: Callable[..., Any],
    roots: Roots,
    in_axes: AxisTree,
    out_axes: AxisTree,
    states: StateAxes,
    size: int,
) -> Callable[..., Any]:
    """As `gradient_of_lane`, of the sum over all lanes."""
    return gradient_of_batched(inner_map(function, in_axes, out_axes, states, size), roots, out_axes)


def gradient_of_batched(function: Callable[..., Any], roots: Roots, out_axes: AxisTree) -> Callable[..., Any]:
    """As `gradient_of_batch`, of a function that takes the batch as a whole."""
    return _gradient(lambda *args, **kwargs: _numbers(function(*args, **kwargs), out_axes, lanes=True), roots)


def gradient_of_remat(function: Callable[..., Any], roots: Roots, out_axes: AxisTree) -> Callable[..., Any]:
    """As `gradient_of_lane`, of the function under `checkpoint`."""
    return gradient_of_lane(checkpoint(function), roots, out_axes)


def _gradient(numbers: Callable[..., list[Any]], roots: Roots) -> Callable[..., Any]:
    def gradient(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        leaves, treedef = jax.tree.flatten((args, kwargs))
        spots = [spot for spot, leaf in enumerate(leaves) if _is_real(leaf)]
        states = _parameters([*(leaf for leaf in leaves if is_graph_object(leaf)), *roots])

        def loss(values: list[Any]) -> Any:
            given = list(leaves)
            for spot, value in zip(spots, values, strict=True):
                given[spot] = value
            inner, named = jax.tree.unflatten(treedef, given)
            return _total(numbers(*inner, **named))

        values = [leaves[spot] for spot in spots]
        if not states:
            return tuple(grad(loss)(values))
        if not spots:
            return tuple(jax.tree.leaves(grad(lambda: loss([]), states=states)()))
        by_states, by_values = grad(loss, argnums=0, states=states)(values)
        return (*by_values, *jax.tree.leaves(by_states))

    return gradient


def _numbers(result: Any, out_axes: AxisTree, lanes: bool = False) -> list[Any]:
    """Every element of a result by a weight of its own, the same in all lanes; what the lanes share is left out."""
    leaves, treedef = jax.tree.flatten(result)
    specs: Sequence[Any] = result_axes(out_axes.tree(), treedef)
    return [
        _weighted(jnp.moveaxis(leaf, spec, 0)[...] if lanes else leaf[None])
        for leaf, spec in zip(leaves, specs, strict=True)
        if _is_real(leaf) and isinstance(spec, int)
    ]


def _weighted(leaf: Any) -> Any:
    """The elements of [lanes, ...] by weights between 1 and 2, imaginary parts with another sign.

    The weights do not grow evenly: by evenly growing inputs, the gradient of a normalisation would cancel to nothing.
    """
    size = int(np.prod(leaf.shape[1:]))
    weights = (1 + np.arange(size) * _GOLDEN % 1).reshape(leaf.shape[1:])
    numbers = leaf.real - leaf.imag if jnp.iscomplexobj(leaf) else leaf
    return numbers * jnp.broadcast_to(jnp.asarray(weights, numbers.dtype), numbers.shape)


def _total(parts: list[Any]) -> Any:
    if not parts:
        return jnp.float32(0)
    widest = max((part.dtype for part in parts), key=lambda dtype: jnp.finfo(dtype).bits)  # type: ignore[no-untyped-call]
    return sum((jnp.sum(part).astype(widest) for part in parts), jnp.zeros((), widest))


def _is_real(leaf: Any) -> bool:
    return not is_graph_object(leaf) and is_inexact(leaf)


def _is_parameter(state: State) -> bool:
    leaves = jax.tree.leaves(state.value) if isinstance(state, ParamState) else []
    return bool(leaves) and all(map(is_inexact, leaves))


def _parameters(roots: Sequence[Any]) -> list[State]:
    found = {id(held.state): held.state for root in roots for held in states_in(root)}
    return [state for state in found.values() if _is_parameter(state)]
