"""The oracle: what all lanes at once must leave behind, from what each lane leaves by itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from ._arrays import take_lanes
from ._case import BatchCase
from ._findings import Finding, Sides, compare_arrays, crash_of, differences_of_structure, plain
from ._outcome import Leaf, Outcome
from ._point import Point

__all__ = ["against_loop", "compare_with_lanes", "front"]


def against_loop(point: Point, case: BatchCase | None = None) -> list[Finding]:
    """Where all lanes at once differ from one after another."""
    case = case or point.case
    batch = point.batch(case)
    # What cannot be compiled at all can still be a loop, if its lanes run eagerly.
    lanes = point.lanes(case, eagerly=batch.error is not None)
    sides = Sides("the batch", "batches of one") if point.batched else Sides("vmap", "the loop")
    return compare_with_lanes(point, batch, lanes, sides)


def compare_with_lanes(point: Point, batch: Outcome, lanes: Sequence[Outcome], sides: Sides) -> list[Finding]:
    """Where a batch differs from its lanes."""
    if not lanes:
        return []
    for lane in lanes:
        crash = crash_of(sides, batch, lane)
        if crash is not None:
            return [crash]
        structure = differences_of_structure(sides, batch, lane)
        if structure:
            return structure
    found = []
    for number, leaf in enumerate(batch.leaves):
        column = [lane.leaves[number] for lane in lanes]
        finding = _compare_column(point, leaf, column, sides)
        if finding is not None:
            found.append(finding)
    return found


def front(leaf: Leaf) -> Any:
    """The array of a leaf with the lanes first; as it is where it is not mapped."""
    array = plain(leaf.value)
    return array if leaf.axis is None else np.moveaxis(array, _of_data(leaf), 0)


def _of_data(leaf: Leaf) -> int:
    """The lane axis, counted from the front: key data have an axis more."""
    assert leaf.axis is not None
    return leaf.axis if leaf.axis >= 0 else leaf.axis + leaf.value.ndim


def _compare_column(point: Point, leaf: Leaf, column: list[Leaf], sides: Sides) -> Finding | None:
    """One array of the batch beside that array of each lane."""
    if leaf.stream:
        return None  # the lanes have streams of their own, and the batch splits its own once
    misplaced = _misplaced(point, leaf, column, sides)
    if misplaced is not None:
        return misplaced
    values = [_of_lane(point, leaf, each) for each in column]
    shapes = {(value.shape, str(value.dtype)) for value in values}
    if len(shapes) > 1:
        return Finding(leaf.name, f"{sides.expected} gives lanes of different types: {sorted(shapes)}")
    if leaf.axis is not None:
        return compare_arrays(leaf.name, front(leaf), np.stack(values), sides, point.tol)
    actual = plain(leaf.value)
    for lane, value in enumerate(values):
        finding = compare_arrays(leaf.name, actual, value, sides, point.tol, by_entry=False)
        if finding is not None:
            return _of_unmapped(finding, lane, values)
    return None


def _misplaced(point: Point, leaf: Leaf, column: list[Leaf], sides: Sides) -> Finding | None:
    """Where an array has no lane axis at the place where it should, or a shorter or longer one."""
    sized = [(leaf, len(column), sides.actual), *((each, 1, sides.expected) for each in column if point.batched)]
    for each, size, side in sized if leaf.axis is not None else ():
        shape, axis = each.value.shape, _of_data(Leaf(each.name, each.value, leaf.axis, False))
        if not 0 <= axis < len(shape):
            return Finding(leaf.name, f"{side} has the shape {shape}, which has no lane axis {leaf.axis}")
        if shape[axis] != size:
            others = [str(number) for number, length in enumerate(shape) if length == size]
            pattern = f"the lane axis is at axis {' or '.join(others)} instead" if others else ""
            lanes = f"{size} lane{'s' * (size != 1)}"
            text = f"{side} has {shape[axis]} entries at the lane axis {leaf.axis}, for {lanes}: its shape is {shape}"
            return Finding(leaf.name, text, pattern)
    return None


def _of_lane(point: Point, leaf: Leaf, each: Leaf) -> Any:
    value = each.value
    if point.batched and leaf.axis is not None:
        value = jnp.asarray(take_lanes(0)(value, leaf.axis))
    return plain(value)


def _of_unmapped(finding: Finding, lane: int, values: list[Any]) -> Finding:
    """A difference in what all lanes share, with what may be behind it."""
    differ = any(value.tobytes() != values[0].tobytes() for value in values)
    pattern = (
        "it is not mapped, but depends on the lane: one lane has written for all, or lanes are mixed" if differ else ""
    )
    text = f"lane {lane}: {finding.text}"
    return replace(finding, text=text, pattern=pattern)
