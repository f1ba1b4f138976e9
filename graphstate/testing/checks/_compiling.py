"""Checks of compiling: the same results, the same dtypes, no trace too many, nothing that outlives its trace."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax

from graphstate.errors import TraceCountError
from graphstate.testing._case import BatchCase
from graphstate.testing._compare import compare_outcomes
from graphstate.testing._findings import Finding, Sides, crash_of
from graphstate.testing._outcome import Axes, Leaf, Outcome
from graphstate.testing._point import Point
from graphstate.testing._programs import compiled
from graphstate.testing._tolerance import Tol
from graphstate.testing._verdict import fail, judge
from graphstate.transform import assert_max_traces

from ._start import point_of

__all__ = ["check_dtypes", "check_jit", "check_no_leaks", "check_no_retrace"]


def check_jit(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """Compiled, the function leaves behind what it does uncompiled, and a second call traces nothing.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`; the first and the last lane are looked at, batched the whole.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: it does not, only one of the two raises, or they raise different errors.

    Example:
        >>> import graphstate.testing as gst, numpy as np
        >>> gst.check_jit(lambda x: x if x > 0 else -x, gst.BatchCase(2, (np.float32([0, 1]),)))
        Traceback (most recent call last):
        graphstate.errors.PropertyError: check_jit: ...
    """
    point = point_of("check_jit", "compiled, it does something else", fn, case, tol, batched)
    judge(point, _jit)


def _jit(point: Point) -> list[Finding]:
    sides = Sides("compiled", "uncompiled")
    program = point.lane_program()
    for one in _forms(point):
        found = compare_outcomes(one(program.call), one(point.function), sides, point.tol)
        if found:
            return found
    if not _forms(point):
        return []
    with jax.check_tracer_leaks(False):
        _forms(point)[0](program.call)
        before = program.counted.count
        _forms(point)[0](program.call)
    if program.counted.count == before:
        return []
    text = f"a second call with the same types traces it again, {program.counted.count - before} times"
    return [Finding("traces", text)]


def _forms(point: Point) -> list[Callable[[Any], Outcome]]:
    """What is called: the batch, or the first and the last lane."""
    if point.batched:
        return [lambda call: point.run("the batch", call, point.case.args, point.case.kwargs, point.axes)]
    lanes = sorted({0, point.case.axis_size - 1} - {-1})
    return [lambda call, lane=lane: point.lane(lane, call=call) for lane in lanes]  # type: ignore[misc]


def check_dtypes(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """Dtypes are the same uncompiled, compiled and in all lanes, weak ones too; States keep theirs.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`.
        tol: not used: dtypes are compared exactly.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: they are not.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst, jax.numpy as jnp, numpy as np
        >>> mean = gs.State(jnp.float32(0))
        >>> def forget(x):
        ...     mean.value = mean.value.astype(jnp.bfloat16)
        >>> gst.check_dtypes(forget, gst.BatchCase(2, (np.float32([0, 1]),)))
        Traceback (most recent call last):
        graphstate.errors.PropertyError: check_dtypes: ...
    """
    point = point_of("check_dtypes", "dtypes change", fn, case, tol, batched)
    if case.axis_size:
        judge(replace(point, is_exact=True), _dtypes)


def _dtypes(point: Point) -> list[Finding]:
    one = _forms(point)[0]
    eager, traced = one(point.function), one(point.lane_program().call)
    untouched = one(lambda *args, **kwargs: None)
    found = _of_types(traced, eager, Sides("compiled", "uncompiled"))
    found = found or _of_types(point.batch(), point.lane(0), Sides("the batch", "one lane"))
    if found:
        return found
    before = {leaf.name: leaf for leaf in untouched.leaves}
    return [
        Finding(leaf.name, f"the dtype is {leaf.value.dtype} after a call, {before[leaf.name].value.dtype} before")
        for leaf in traced.leaves
        if leaf.name in before and leaf.value.dtype != before[leaf.name].value.dtype
    ]


def _of_types(actual: Outcome, expected: Outcome, sides: Sides) -> list[Finding]:
    crash = crash_of(sides, actual, expected)
    if crash is not None:
        return [crash]
    wanted = {leaf.name: _type(leaf) for leaf in expected.leaves}
    return [
        Finding(leaf.name, f"{sides.actual} {_type(leaf)}, {sides.expected} {wanted[leaf.name]}")
        for leaf in actual.leaves
        if wanted.get(leaf.name, _type(leaf)) != _type(leaf)
    ]


def _type(leaf: Leaf) -> str:
    weak = " (weak: from a Python number)" if getattr(leaf.value, "weak_type", False) else ""
    return f"{leaf.value.dtype}{weak}"


def check_no_retrace(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """Called again, with the States as they are by then, the compiled function is not traced again.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`.
        tol: not used.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: it is, with what has changed.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst, jax.numpy as jnp, numpy as np
        >>> seen = gs.State(jnp.zeros(0))
        >>> def grow(x):
        ...     seen.value = jnp.append(seen.value, 1)
        >>> gst.check_no_retrace(grow, gst.BatchCase(2, (np.float32([0, 1]),)))
        Traceback (most recent call last):
        graphstate.errors.PropertyError: check_no_retrace: ...
    """
    point = point_of("check_no_retrace", "it is traced again", fn, case, tol, batched)
    if case.axis_size:
        judge(replace(point, is_exact=True), _no_retrace)


_CALLS = 3


def _no_retrace(point: Point) -> list[Finding]:
    first = point.batch()
    if first.error is not None:
        raise first.error
    limit = 1
    counted = assert_max_traces(point.function, limit)
    program = compiled(counted) if point.batched else point.mapped_anew(counted)

    def calls(*args: Any, **kwargs: Any) -> None:
        for _ in range(_CALLS):
            program(*args, **kwargs)

    with jax.check_tracer_leaks(False):
        outcome = point.run("calls", calls, point.case.args, point.case.kwargs, Axes(None, None, point.states))
    if isinstance(outcome.error, TraceCountError):
        changed = outcome.error.differences or ("nothing that can be seen: it is transformed anew on each call",)
        return [
            Finding("traces", "a later call traces it again; since the call before has changed:\n" + "\n".join(changed))
        ]
    if outcome.error is not None:
        return [Finding("error", f"a later call raises {type(outcome.error).__name__}: {str(outcome.error)[:300]}")]
    return []


def check_no_leaks(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """Nothing that is traced outlives its trace, in a list, an attribute or a State.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`.
        tol: not used.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: something does.

    Example:
        >>> import graphstate.testing as gst, numpy as np
        >>> kept = []
        >>> gst.check_no_leaks(lambda x: kept.append(x), gst.BatchCase(2, (np.float32([0, 1]),)))
        Traceback (most recent call last):
        graphstate.errors.PropertyError: check_no_leaks: ...
    """
    point = point_of("check_no_leaks", "something outlives its trace", fn, case, tol, batched)
    judge(replace(point, is_exact=True), _no_leaks)


def _no_leaks(point: Point) -> list[Finding]:
    counted = assert_max_traces(point.function, 2**31)
    program = compiled(counted) if point.batched else point.mapped_anew(counted)
    with jax.checking_leaks():
        searched = point.run("the search for leaks", program, point.case.args, point.case.kwargs, point.axes)
    plain = point.batch()
    if searched.error is not None and plain.error is None:
        lines = [line for line in str(searched.error).splitlines() if line.strip()]
        fail(point, Finding("leak", "\n".join(lines[:8])))
    crash = crash_of(Sides("searched for leaks", "the batch"), searched, plain)
    return [crash] if crash is not None else []
