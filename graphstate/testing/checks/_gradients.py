"""Checks of derivatives: of each lane by itself, of the sum over lanes, and of what is computed again for them."""

from dataclasses import replace
from typing import Any

import numpy as np

from graphstate.errors import StateTypeError
from graphstate.testing._arrays import moved
from graphstate.testing._case import BatchCase
from graphstate.testing._compare import compare_outcomes
from graphstate.testing._differentiated import (
    axes_of_gradient,
    gradient_of_batch,
    gradient_of_batched,
    gradient_of_lane,
    gradient_of_remat,
)
from graphstate.testing._findings import Finding, Sides, compare_arrays, crash_of, plain
from graphstate.testing._loop import against_loop
from graphstate.testing._outcome import Outcome
from graphstate.testing._point import Point
from graphstate.testing._programs import AxisTree, Form, compiled, program_of, rematerialized
from graphstate.testing._tolerance import Tol
from graphstate.testing._verdict import judge

from ._start import point_of, refuse_draws

__all__ = ["check_grad", "check_remat", "has_gradient"]


def check_grad(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """The gradient of each lane is that of the lane by itself, and that of the sum over lanes is made of these.

    By what is mapped the gradient of the sum holds those of the lanes, by what the lanes share their sum. It is taken
    by all real arguments and by the `ParamState`s that `fn` is given or refers to.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: it is another one.
        StateTypeError: there is nothing to differentiate by.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst, numpy as np
        >>> gst.check_grad(gs.nn.Linear(3, 1), gst.BatchCase(2, (np.float32([[0, 1, 2], [3, 4, 5]]),)))
    """
    point = point_of("check_grad", "the gradient is not that of the lanes", fn, case, tol, batched)
    if not axes_of_gradient(case, point.closure, point.states):
        raise StateTypeError(
            f"`check_grad` needs something to differentiate by, but `{point.name}` is given no real array, and reaches "
            "no `ParamState`. Give it one, or use `check_vmap`."
        )
    if case.axis_size:
        judge(point, _grad)


def _grad(point: Point) -> list[Finding]:
    axes = axes_of_gradient(point.case, point.closure, point.states)
    out_axes = AxisTree.of(point.case.out_axes)
    lane = _lane_point(point, axes)
    if not point.batched:
        found = against_loop(lane)
        point.runs += lane.runs
        if found:
            return found
    whole = _total_point(point, axes, out_axes)
    total, parts = (
        whole.run("the gradient of the sum", whole.function, whole.case.args, whole.case.kwargs, whole.axes),
        [],
    )
    for index in range(point.case.axis_size):
        parts.append(lane.lane(index))
    point.runs += [*whole.runs, *lane.runs]
    refuse_draws(point, total)
    return _compare_sum(point, axes, total, parts)


def has_gradient(point: Point) -> bool:
    """Whether JAX can differentiate the function in reverse: it cannot through a `while_loop`, or a callback."""
    axes = axes_of_gradient(point.case, point.closure, point.states)
    return bool(point.case.axis_size) and _lane_point(point, axes).lane(0).error is None


def _lane_point(point: Point, axes: tuple[int | None, ...]) -> Point:
    """The gradient of a lane, as the function that is looked at."""
    out_axes = AxisTree.of(point.case.out_axes)
    wrap = gradient_of_batched if point.batched else gradient_of_lane
    function = program_of(point.function, Form("gradient", wrap, (_Roots(point.closure.roots), out_axes))).call
    own = axes if point.batched else 0
    return replace(point, function=function, case=replace(point.case, out_axes=own), runs=[])


def _total_point(point: Point, axes: tuple[int | None, ...], out_axes: AxisTree) -> Point:
    if point.batched:
        lane = _lane_point(point, axes)
        return replace(lane, function=lane.lane_program().call, runs=[])
    roots = _Roots(point.closure.roots)
    options = (roots, AxisTree.of(point.case.in_axes), out_axes, point.states, point.case.axis_size)
    gradient = program_of(point.function, Form("gradient of the sum", gradient_of_batch, options)).call
    function = program_of(gradient, Form("jit", compiled)).call
    return replace(point, function=function, case=replace(point.case, out_axes=axes), runs=[])


class _Roots(tuple[Any, ...]):
    """Nodes and States that are equal if they are the same, whatever their classes make of equality."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Roots) and list(map(id, self)) == list(map(id, other))

    def __hash__(self) -> int:
        return hash(tuple(map(id, self)))


def _compare_sum(point: Point, axes: tuple[int | None, ...], total: Outcome, parts: list[Outcome]) -> list[Finding]:
    sides = Sides("the gradient of the sum", "the lanes")
    for part in parts:
        crash = crash_of(sides, total, part)
        if crash is not None:
            return [crash]
    wholes = [leaf for leaf in total.leaves if leaf.name.startswith("output")]
    columns = [[leaf for leaf in part.leaves if leaf.name.startswith("output")] for part in parts]
    found = []
    for number, (whole, axis) in enumerate(zip(wholes, axes, strict=True)):
        values = [plain(column[number].value) for column in columns]
        actual = plain(whole.value)
        if axis is None:
            expected = np.sum(values, 0).astype(actual.dtype)
            summed = replace(sides, expected="the sum over lanes")
            finding = compare_arrays(f"gradient {whole.name[7:]}", actual, expected, summed, point.tol, by_entry=False)
        else:
            lanes = [moved(value, axis, 0)[0] for value in values] if point.batched else values
            finding = compare_arrays(
                f"gradient {whole.name[7:]}", moved(actual, axis, 0), np.stack(lanes), sides, point.tol
            )
        found += [finding] if finding is not None else []
    return found


def check_remat(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """Under `checkpoint` the function gives the same result, the same gradient and the same States.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`; the first lane is looked at, batched the whole.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: it does not, as where it depends on something that changes from run to run.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst, numpy as np
        >>> gst.check_remat(gs.nn.Linear(3, 1), gst.BatchCase(2, (np.float32([[0, 1, 2], [3, 4, 5]]),)))
    """
    point = point_of("check_remat", "`checkpoint` changes it", fn, case, tol, batched)
    if case.axis_size:
        judge(point, _remat)


def _remat(point: Point) -> list[Finding]:
    sides = Sides("with `checkpoint`", "without it")
    program = program_of(point.function, Form("remat", rematerialized)).call
    found = compare_outcomes(_first(point, program), _first(point, point.lane_program().call), sides, point.tol)
    if found or not axes_of_gradient(point.case, point.closure, point.states):
        return found
    outcomes = []
    for wrap in (gradient_of_remat, gradient_of_lane):
        out_axes = AxisTree.of(0)
        gradient = program_of(point.function, Form(wrap.__name__, wrap, (_Roots(point.closure.roots), out_axes))).call
        own = replace(point, case=replace(point.case, out_axes=0), runs=[])
        outcomes.append(_first(own, program_of(gradient, Form("jit", compiled)).call))
        point.runs += own.runs
    with_it, without = outcomes
    if without.error is not None and with_it.error is not None:
        return []  # what cannot be differentiated is computed once
    return compare_outcomes(with_it, without, sides, point.tol)


def _first(point: Point, program: Any) -> Outcome:
    """The first lane, or the batch, by a program."""
    if point.batched:
        return point.run("the batch", program, point.case.args, point.case.kwargs, point.axes)
    return point.lane(0, call=program)
