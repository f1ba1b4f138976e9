"""The check that nothing of one lane reaches another: exact, with no tolerance and no loop."""

from dataclasses import replace
from typing import Any

import numpy as np

from graphstate.testing._arrays import poison_lanes
from graphstate.testing._case import BatchCase
from graphstate.testing._findings import Finding, Sides, compare_arrays, crash_of, differences_of_structure
from graphstate.testing._loop import front
from graphstate.testing._outcome import Axes, Outcome
from graphstate.testing._point import Point
from graphstate.testing._programs import AxisTree, Form, program_of
from graphstate.testing._pushed import is_pushed, pushed_batch, pushed_batched
from graphstate.testing._tolerance import Tol
from graphstate.testing._verdict import judge

from ._start import point_of

__all__ = ["check_lane_isolation"]


def check_lane_isolation(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """Nothing of one lane reaches another, by however little.

    First all lanes but one are filled with NaN (integers with the values of that one): that lane must not change by
    a single bit, nor anything that all lanes share. (Where it does, huge numbers must change it, too: XLA multiplies by
    zeros in places, and only NaN comes through that.) Then a tangent of 1 goes into one lane: no other may get any.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`.
        tol: not used: the comparison is exact.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: something does.

    Example:
        >>> import graphstate.testing as gst, jax.numpy as jnp, numpy as np
        >>> case = gst.BatchCase(2, (np.float32([[0, 1], [2, 4]]),))
        >>> gst.check_lane_isolation(lambda x: x - 1e-7 * x.mean(), case, batched=True)
        Traceback (most recent call last):
        graphstate.errors.PropertyError: check_lane_isolation: ...
    """
    claim = "a lane depends on others"
    point = point_of("check_lane_isolation", claim, fn, case, tol, batched)
    if case.axis_size > 1:
        judge(replace(point, is_exact=True), lambda point: _poisoned(point) or _tangents(point))


def _poisoned(point: Point) -> list[Finding]:
    whole = point.batch()
    if whole.error is not None:
        raise whole.error
    for lane in range(point.case.axis_size):
        found = _poisoned_by(np.nan, point, whole, lane)
        if found and any(_poisoned_by(sign, point, whole, lane) for sign in (1, -1)):
            return found
    return []


def _poisoned_by(poison: float, point: Point, whole: Outcome, lane: int) -> list[Finding]:
    change = poison_lanes(lane, poison)
    poisoned = point.batch(point.case.changed(change), change=change)
    sides = Sides("with NaN in all other lanes", "without")
    return _compare_lane(poisoned, whole, lane, sides, shared=True)


def _tangents(point: Point) -> list[Finding]:
    if not is_pushed(point.case):
        return []
    axes, size = AxisTree.of(point.case.in_axes), point.case.axis_size
    out_axes = AxisTree.of(point.case.out_axes)
    form = (
        Form("tangents", pushed_batched, (axes, out_axes))
        if point.batched
        else Form("tangents", pushed_batch, (axes, out_axes, point.states, size))
    )
    program = program_of(point.function, form).call

    def tangents(lane: int) -> Outcome:
        own = Axes(None, 0, point.states)
        return point.run(
            f"a tangent in lane {lane}", program, (np.int32(lane), point.case.args, dict(point.case.kwargs)), {}, own
        )

    none = tangents(-1)
    if none.error is not None:
        return []  # a rule of its own may know no tangents; NaN has been tried
    sides = Sides("with a tangent in another lane", "without")
    for lane in range(size):
        pushed = tangents(lane)
        for other in range(size):
            found = _compare_lane(pushed, none, other, sides, shared=False) if other != lane else []
            if found:
                return [replace(each, where=f"the tangent of {each.where}") for each in found]
    return []


def _compare_lane(one: Outcome, whole: Outcome, lane: int, sides: Sides, *, shared: bool) -> list[Finding]:
    """Where one lane is not, to the last bit, what it was; and, if asked for, what all lanes share."""
    crash = crash_of(sides, one, whole)
    if crash is not None:
        return [crash]
    structure = differences_of_structure(sides, one, whole)
    if structure:
        return structure
    found = []
    for actual, expected in zip(one.leaves, whole.leaves, strict=True):
        if actual.axis is None:
            if shared and not actual.stream:
                finding = compare_arrays(actual.name, actual.value, expected.value, sides, Tol(0), by_entry=False)
                found += [_said(finding, "what all lanes share")] if finding is not None else []
            continue
        finding = compare_arrays(actual.name, front(actual)[lane], front(expected)[lane], sides, Tol(0), by_entry=False)
        found += [_said(finding, f"lane {lane}")] if finding is not None else []
    return found


def _said(finding: Finding, place: str) -> Finding:
    return replace(finding, text=f"{place}, {finding.text}", error=None)
