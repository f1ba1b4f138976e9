"""The lanes of one argument: drawn one by one, compared leaf by leaf, and joined along their axes."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from graphstate.errors import StrategyError
from graphstate.graph import graphdef, stack, state
from graphstate.testing._arrays import is_key
from graphstate.testing._structure import noting, repeating

from ._axes import is_object

__all__ = ["Lanes", "Placed", "draw_lanes", "place"]

_TRIES = 4


@dataclass(frozen=True)
class Lanes:
    """The values of an argument in all lanes.

    Attributes:
        first: the value in the first lane.
        parts: for each lane its arrays, Nodes and States.
        treedef: what they are parts of.
    """

    first: Any
    parts: list[list[Any]]
    treedef: Any


@dataclass(frozen=True)
class Placed:
    """The lanes of an argument, and the axis of each part."""

    lanes: Lanes
    axes: list[int | None]

    def mapped(self, lane: int) -> Iterator[np.ndarray]:
        """The numbers of a lane that are its own."""
        for part, axis in zip(self.lanes.parts[lane], self.axes, strict=True):
            if axis is not None:
                yield from _numbers(part)

    def identity(self, lane: int) -> Hashable:
        """What is equal for two lanes that are alike where they are mapped."""
        return tuple(leaf.tobytes() for leaf in self.mapped(lane))

    def joined(self, size: int) -> Any:
        """The argument of all lanes; where it is not mapped, that of the first."""
        columns = zip(*self.lanes.parts, strict=True)
        joined = [_join(column, axis, size) for column, axis in zip(columns, self.axes, strict=True)]
        return jax.tree.unflatten(self.lanes.treedef, joined)


def draw_lanes(draw: st.DrawFn, strategy: st.SearchStrategy[Any], size: int) -> Lanes:
    """Values of one structure, no leaf of which is the same in two of them, as far as a few tries achieve it.

    Raises:
        StrategyError: the structures differ.
    """
    with noting() as notes:
        first = draw(strategy)
    lanes, with_notes, structure = [first], tuple(notes), _structure(first)
    seen = [{leaf.tobytes()} for leaf in _all_numbers(first)]
    for _ in range(size - 1):
        lane, leaves = _another(draw, strategy, with_notes, seen)
        if _structure(lane) != structure:
            raise StrategyError(
                "`batched` needs lanes of one structure, but a strategy drew lanes that differ in shape, dtype or "
                "tree. Fix these in the strategy, or draw them by `gst.shapes()`, `gst.dtypes()` and `gst.pytrees()`."
            )
        for known, leaf in zip(seen, leaves, strict=True):
            known.add(leaf)
        lanes.append(lane)
    parts = [jax.tree.leaves(lane, is_leaf=is_object) for lane in lanes]
    return Lanes(first, parts, jax.tree.structure(first, is_leaf=is_object))


def _another(
    draw: st.DrawFn, strategy: st.SearchStrategy[Any], notes: tuple[int, ...], seen: list[set[bytes]]
) -> tuple[Any, list[bytes]]:
    """A further lane with the structure of the first, and its leaves."""
    for _ in range(_TRIES):
        with repeating(notes):
            lane = draw(strategy)
        leaves = [leaf.tobytes() for leaf in _all_numbers(lane)]
        if not any(leaf in known for leaf, known in zip(leaves, seen, strict=False)):
            break
    return lane, leaves


def place(lanes: Lanes, axes: Any) -> Placed:
    """Lanes with the axes that a prefix tree gives their parts."""
    count = lanes.treedef.num_leaves
    if axes is None or isinstance(axes, int):
        return Placed(lanes, [axes] * count)
    spread: list[int | None] = []
    jax.tree.map(
        lambda axis, below: spread.extend([axis] * len(jax.tree.leaves(below))),
        axes,
        jax.tree.unflatten(lanes.treedef, range(count)),
        is_leaf=lambda axis: axis is None,
    )
    return Placed(lanes, spread)


def _join(column: tuple[Any, ...], axis: int | None, size: int) -> Any:
    """One part in all lanes."""
    if is_object(column[0]):
        return column[0] if axis is None else stack(list(column), axis)
    arrays = [part if is_key(part) else _array(part) for part in column]
    if axis is None:
        return arrays[0]
    joined = jnp.stack(arrays, axis) if is_key(arrays[0]) else np.stack(arrays, axis)
    return joined if size else joined.take(np.arange(0), axis)


def _array(number: Any) -> np.ndarray:
    """An array of the dtype that JAX would give it."""
    return np.asarray(number, jnp.result_type(number))


def _numbers(part: Any) -> Iterator[np.ndarray]:
    leaves = jax.tree.leaves(state(part)) if is_object(part) else [part]
    for leaf in leaves:
        yield np.asarray(jax.random.key_data(leaf)) if is_key(leaf) else _array(leaf)


def _all_numbers(lane: Any) -> Iterator[np.ndarray]:
    for part in jax.tree.leaves(lane, is_leaf=is_object):
        yield from _numbers(part)


def _structure(lane: Any) -> Hashable:
    parts, treedef = jax.tree.flatten(lane, is_leaf=is_object)
    graphs = tuple(graphdef(part) for part in parts if is_object(part))
    return treedef, graphs, tuple((leaf.shape, leaf.dtype) for leaf in _all_numbers(lane))
