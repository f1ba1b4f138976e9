"""Two outcomes side by side, leaf by leaf."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ._findings import Finding, Sides, compare_arrays, crash_of, differences_of_structure, plain
from ._loop import front
from ._outcome import Leaf, Outcome
from ._tolerance import Tol

__all__ = ["compare_batches", "compare_outcomes"]


def compare_outcomes(actual: Outcome, expected: Outcome, sides: Sides, tol: Tol) -> list[Finding]:
    """Where two outcomes of one run differ, streams of random keys included."""
    found = _before_values(actual, expected, sides)
    if found:
        return found
    pairs = zip(actual.leaves, expected.leaves, strict=True)
    findings = [compare_arrays(one.name, one.value, other.value, sides, tol, by_entry=False) for one, other in pairs]
    return [finding for finding in findings if finding is not None]


def compare_batches(
    actual: Outcome,
    expected: Outcome,
    sides: Sides,
    tol: Tol,
    lanes: Callable[[Any], Any],
    of_actual: Callable[[Any], Any] = lambda array: array,
) -> list[Finding]:
    """Where the lanes of two batches differ.

    Args:
        actual: a batch.
        expected: another one.
        sides: how messages call them.
        tol: what counts as rounding.
        lanes: picks the lanes of an expected array, [lanes, ...], that those of the actual one should be like.
        of_actual: picks those that are compared.
    """
    found = _before_values(actual, expected, sides)
    if found:
        return found
    findings: list[Finding | None] = []
    for one, other in zip(actual.leaves, expected.leaves, strict=True):
        if one.stream:
            continue
        by_entry = _is_mapped(one, other)
        without = _without_axis(one, other, sides) if by_entry else None
        if without is not None:
            findings.append(without)
            continue
        wanted, got = (
            (lanes(front(other)), of_actual(front(one))) if by_entry else (plain(other.value), plain(one.value))
        )
        findings.append(compare_arrays(one.name, got, wanted, sides, tol, by_entry=by_entry))
    return [finding for finding in findings if finding is not None]


def _is_mapped(one: Leaf, other: Leaf) -> bool:
    return one.axis is not None and other.axis is not None and np.ndim(other.value) > 0


def _without_axis(one: Leaf, other: Leaf, sides: Sides) -> Finding | None:
    """Where one of two arrays has no axis that could be that of the lanes."""
    for leaf, side in ((one, sides.actual), (other, sides.expected)):
        shape, axis = leaf.value.shape, leaf.axis
        if axis is not None and not -len(shape) <= axis < len(shape):
            return Finding(leaf.name, f"{side} has the shape {shape}, which has no lane axis {axis}")
    return None


def _before_values(actual: Outcome, expected: Outcome, sides: Sides) -> list[Finding]:
    crash = crash_of(sides, actual, expected)
    return [crash] if crash is not None else differences_of_structure(sides, actual, expected)
