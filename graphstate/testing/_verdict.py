"""From findings to a verdict: rounding is a warning, what differs from itself is told apart, all else fails."""

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import jax
import numpy as np

from graphstate._trace import user_stacklevel
from graphstate.errors import PropertyError
from graphstate.graph._attributes import is_graph_object

from ._arrays import is_inexact
from ._findings import Finding, largest_of, plain, shown_error
from ._outcome import Outcome
from ._pasting import code_of
from ._point import Point, Run
from ._tolerance import RoundingWarning

__all__ = ["Comparison", "fail", "judge"]

Comparison: TypeAlias = Callable[[Point], list[Finding]]

_EPS = float(np.finfo(np.float64).eps)
_FALL = 1e4
"""A difference that falls by so much in double precision is rounding."""

_LINES, _CHARACTERS = 60, 6000
_LINES_KEPT, _CHARACTERS_KEPT = 10, 500  # for the case
_SHOWN = 4
_WRAPPED = re.compile(r"(?<![\w.])(?:__wrapped__\.)+(?=\w)")


def judge(point: Point, compare: Comparison) -> None:
    """Compares, and raises if something is found that is no rounding.

    Raises:
        PropertyError: something is.
    """
    findings = _found(point, compare)
    if not findings:
        return
    unsteady = _unsteady(point)
    if unsteady is not None:
        raise _error(
            point,
            [*findings],
            f"two identical runs of {unsteady} differ: an operation gives something else each time (a callback, "
            "numpy's random numbers, a reduction in no fixed order), so that nothing can be said of batching",
        )
    wide = None if point.is_exact else _in_doubles(point, compare, findings)
    if wide is None:
        if point.is_exact or not _are_in_doubles(findings) or not _is_small_beside_the_rest(point, findings):
            raise _error(point, findings, "")
        _warn(
            f"{point.check}: {point.name} differs at {findings[0].where} by less than {point.tol.k:g} units in the "
            "last place of the largest of all outputs. That is taken for rounding: nothing is wider than double "
            "precision to tell it by."
        )
        return
    narrow, doubled = wide
    if all(doubled[where] * _FALL <= error for where, error in narrow.items()):
        if not _is_small_beside_the_rest(point, findings):
            _warn_of_rounding(point, narrow, doubled)
        return
    worst = max(narrow, key=lambda where: doubled[where])
    raise _error(
        point, findings, f"in double precision the difference is {doubled[worst]:.2g} of the largest: no rounding"
    )


def _is_small_beside_the_rest(point: Point, findings: list[Finding]) -> bool:
    """Whether it is within the tolerance of the largest of all outputs, as in a gradient that is small in one layer."""
    leaves = [plain(leaf.value) for run in point.runs for leaf in run.outcome.leaves if leaf.name.startswith("output")]
    largest = max((largest_of(leaf) for leaf in leaves if is_inexact(leaf)), default=0.0)
    return all((each.error or 0.0) * each.largest <= point.tol.k * each.eps * largest for each in findings)


def _are_in_doubles(findings: list[Finding]) -> bool:
    """Whether all are a matter of size, in the widest dtype that there is."""
    return all(each.error is not None and each.eps == _EPS for each in findings)


def _warn_of_rounding(point: Point, narrow: dict[str, float], doubled: dict[str, float]) -> None:
    worst = max(narrow, key=lambda where: narrow[where])
    _warn(
        f"{point.check}: {point.name} differs by {narrow[worst]:.2g} of the largest element at {worst}, and by "
        f"{doubled[worst]:.2g} in double precision: that is rounding in an ill-conditioned computation, and no "
        f"mistake in batching. Compute in another order, or give a larger `tol=Tol(k=...)` than {point.tol.k:g}."
    )


def _warn(text: str) -> None:
    warnings.warn(text, RoundingWarning, stacklevel=user_stacklevel())


def _found(point: Point, compare: Comparison) -> list[Finding]:
    """What is found; where the comparison cannot even begin, since the function works uncompiled only, that."""
    try:
        return compare(point)
    except Exception as error:
        crash = _crash(point, error)
        if crash is None:
            raise
        raise _error(point, [crash], "") from error


def _crash(point: Point, error: Exception) -> Finding | None:
    """An error that `vmap` or `jit` alone makes of the function, if it is one."""
    if not point.case.axis_size or not callable(point.function):
        return None
    transformed = point.batch()
    if type(transformed.error) is not type(error) or point.eager().error is not None:
        return None
    side = "compiled" if point.batched else "vmap"
    return Finding("error", f"uncompiled works, but {side} raises {shown_error(error)}")


def fail(point: Point, finding: Finding) -> None:
    """Raises for one finding that no further run can change.

    Raises:
        PropertyError: always.
    """
    raise _error(point, [finding], "")


def _unsteady(point: Point) -> str | None:
    """What differs from itself: one of the runs, or the function uncompiled, for what is drawn when it is traced."""
    for run in point.runs:
        if _is_unsteady(run):
            return run.label
    if not point.case.axis_size or not callable(point.function):
        return None
    point.eager()
    run = point.runs.pop()  # what it returns is none of the outputs that are judged
    return f"{run.label}, uncompiled," if _is_unsteady(run) else None


def _is_unsteady(run: Run) -> bool:
    return bool(_bits(run.outcome) != _bits(run.again()))


def _bits(outcome: Outcome) -> Any:
    if outcome.error is not None:
        return type(outcome.error)
    return [(leaf.name, plain(leaf.value).tobytes()) for leaf in outcome.leaves]


def _in_doubles(
    point: Point, compare: Comparison, findings: list[Finding]
) -> tuple[dict[str, float], dict[str, float]] | None:
    """The differences as they are and in double precision, if all are a matter of size and that can be had."""
    narrow = {finding.where: finding.error for finding in findings if finding.error is not None}
    if len(narrow) < len(findings) or any(finding.eps <= _EPS for finding in findings):
        return None
    try:
        with jax.enable_x64(True):
            found = compare(point.widened())
    except Exception:  # it cannot be run in doubles: nothing speaks for rounding
        return None
    doubled = {finding.where: finding.error for finding in found}
    if any(error is None for error in doubled.values()):
        return None
    return narrow, {where: doubled.get(where) or 0.0 for where in narrow}


def _error(point: Point, findings: list[Finding], remark: str) -> PropertyError:
    findings = [replace(finding, text=_unwrapped(point, finding.text)) for finding in findings]
    head = f"{point.check}: `{point.name}`: {point.claim}"
    lines = [head]
    for finding in findings[:_SHOWN]:
        lines += _entry(finding.where, finding.text, is_whole=finding.where == "error")
        if finding.pattern:
            lines += _entry("  looks like", finding.pattern)
    if len(findings) > _SHOWN:
        lines.append(f"  and {len(findings) - _SHOWN} more differences (`error.differences`)")
    if remark:
        lines += _entry("note", remark)
    text = _cut(lines, _LINES - _LINES_KEPT, _CHARACTERS - _CHARACTERS_KEPT)
    code = _pasted(point, len(text))
    case = [*_entry("case", code, is_whole=True), *_stand_ins(point, code)]
    return PropertyError(
        _cut([text, *case], _LINES, _CHARACTERS),
        check=point.check,
        case=point.case,
        differences=[f"{finding.where}: {finding.text}" for finding in findings],
    )


def _unwrapped(point: Point, text: str) -> str:
    """A text that calls objects as users do, who do not see that the function is wrapped before it is run."""
    return _WRAPPED.sub("", text).replace("`__wrapped__`", f"`{point.name}`")


def _entry(label: str, text: str, *, is_whole: bool = False) -> list[str]:
    lines = text.splitlines() or [""]
    first, *rest = lines if is_whole else map(_clipped, lines[:10])
    return [f"  {label}: {first}", *(f"      {line}" for line in rest)]


def _cut(lines: list[str], most: int, characters: int) -> str:
    """Lines as one text, with " ..." at its end where it is too long."""
    whole = "\n".join(lines)
    kept = "\n".join(whole.split("\n")[:most])
    return whole if len(whole) <= characters and kept == whole else f"{kept[: characters - 4]} ..."


def _clipped(line: str) -> str:
    return line if len(line) <= 400 else f"{line[:396]} ..."


def _pasted(point: Point, used: int) -> str:
    code = code_of_case(point)
    room = _CHARACTERS - used - 200
    if len(code) <= room:
        return code
    shapes = jax.tree.map(lambda leaf: f"{np.shape(leaf)}", (point.case.args, point.case.kwargs))
    return f"too long to show: `error.case` has it; shapes {str(shapes)[:300]}"


def _stand_ins(point: Point, code: str) -> list[str]:
    """What the parts of a case stand for that no code makes."""
    leaves = jax.tree.leaves((point.case.args, dict(point.case.kwargs)))
    names = dict.fromkeys(type(leaf).__name__ for leaf in leaves if is_graph_object(leaf))
    shown = ", ".join(f"`<{name}>` stands for the {name}" for name in names if f"<{name}>" in code)
    return _entry("where", f"{shown} of your case: `error.case` has it") if shown else []


def code_of_case(point: Point) -> str:
    """The case as code to paste."""
    return code_of(point.case)
