"""What a wrong batch looks like: the few patterns that most mistakes leave behind."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ._arrays import is_inexact

__all__ = ["pattern_of"]


def pattern_of(actual: Any, expected: Any, allowed: float = 0.0) -> str:
    """What `actual` looks like beside `expected`, in words; empty if like nothing known.

    Args:
        actual: [lanes, ...].
        expected: [lanes, ...].
        allowed: what difference counts as rounding.
    """
    if actual.shape != expected.shape:
        return _pattern_of_shapes(actual, expected)
    if is_inexact(actual):
        kind = np.complex128 if np.iscomplexobj(actual) else np.float64
        actual, expected = actual.astype(kind), expected.astype(kind)
    elif actual.dtype == bool:
        actual, expected = actual.astype(np.int64), expected.astype(np.int64)
    with np.errstate(all="ignore"):
        return next(_iter_patterns(actual, expected, _Near(actual, expected, allowed)), "")


class _Near:
    """Whether two arrays are equal but for rounding."""

    def __init__(self, actual: Any, expected: Any, allowed: float) -> None:
        finite = np.abs(expected[np.isfinite(expected)])
        exact = not np.issubdtype(expected.dtype, np.inexact)
        off = np.abs(actual - expected)
        off = off[np.isfinite(off)]
        # Far less than the difference itself, or a small one would look like every pattern.
        self.allowed = 0.0 if exact else min(max(allowed, 1e-5 * _largest(finite)), _largest(off) / 20)

    def __call__(self, one: Any, other: Any) -> bool:
        same = (
            (one == other) | (np.isnan(one) & np.isnan(other)) if np.issubdtype(one.dtype, np.inexact) else one == other
        )
        return bool(np.all(same | (np.abs(one - other) <= self.allowed)))


def _largest(sizes: Any) -> float:
    return float(sizes.max()) if sizes.size else 0.0


def _iter_patterns(actual: Any, expected: Any, near: _Near) -> Iterator[str]:
    if not expected.ndim:
        return
    size = len(expected)
    yield from _of_lanes(actual, expected, near, size)
    yield from _of_reductions(actual, expected, near, size)
    yield from _of_factors(actual, expected, near, size)
    if np.isnan(actual).any() and not np.isnan(expected).any():
        yield "NaN where none should be"
    yield from _of_single_lanes(actual, expected, near, size)


def _of_lanes(actual: Any, expected: Any, near: _Near, size: int) -> Iterator[str]:
    """Lanes that are right, but in other places."""
    found = [[other for other in range(size) if near(actual[lane], expected[other])] for lane in range(size)]
    if size < 2 or not all(found):
        return
    common = set.intersection(*map(set, found))
    if common and not near(expected, np.broadcast_to(expected[min(common)], expected.shape)):
        yield (
            f"every lane holds what lane {min(common)} should: an argument was broadcast instead of mapped, or one "
            "lane has written for all"
        )
    order = [lane if lane in places else places[0] for lane, places in enumerate(found)]
    if all(size - 1 - lane in places for lane, places in enumerate(found)):
        yield "lanes reversed"
    yield f"lanes permuted: lane by lane they hold what lanes {order[:8]} should"


def _of_reductions(actual: Any, expected: Any, near: _Near, size: int) -> Iterator[str]:
    """Lanes that hold something of all lanes."""
    if size < 2:
        return
    mean = expected.mean(0)
    if near(actual, np.broadcast_to(mean, actual.shape).astype(actual.dtype)):
        yield "every lane holds the mean over lanes"
    if near(actual, np.broadcast_to(expected.sum(0), actual.shape).astype(actual.dtype)):
        yield "every lane holds the sum over lanes"
    toward, off = (mean - expected).ravel(), (actual - expected).ravel()
    share = _share(off, toward)
    if share is not None and near(actual, expected + (share * toward).reshape(expected.shape)):
        yield f"every lane is moved by {share:.3g} of the way to the mean over lanes"


def _of_factors(actual: Any, expected: Any, near: _Near, size: int) -> Iterator[str]:
    """Right but for a factor."""
    if not np.issubdtype(expected.dtype, np.inexact):
        return
    factor = _share(actual.ravel(), expected.ravel())
    if factor is None or not near(actual, factor * expected):
        return
    if np.isclose(factor, size, rtol=1e-4):
        yield f"too large by a factor of the batch size, {size}: a sum where a mean should be"
    elif np.isclose(factor, 1 / size, rtol=1e-4):
        yield f"too small by a factor of the batch size, {size}: a mean where a sum should be"
    elif not np.isclose(factor, 1, rtol=1e-3):
        yield f"off by a factor of {factor:.4g} everywhere"


def _of_single_lanes(actual: Any, expected: Any, near: _Near, size: int) -> Iterator[str]:
    wrong = [lane for lane in range(size) if not near(actual[lane], expected[lane])]
    if wrong and len(wrong) < size:
        yield f"only in lane{'s' * (len(wrong) > 1)} {', '.join(map(str, wrong[:8]))}"


def _share(part: Any, whole: Any) -> float | None:
    """The number by which `whole` comes nearest to `part`."""
    finite = np.isfinite(part) & np.isfinite(whole)
    length = float(np.vdot(whole[finite], whole[finite]).real)
    if not finite.any() or length == 0:
        return None
    return float(np.vdot(whole[finite], part[finite]).real) / length


def _pattern_of_shapes(actual: Any, expected: Any) -> str:
    if sorted(actual.shape) == sorted(expected.shape):
        return "the axes are in another order: is the lane axis at another place?"
    if actual.shape == expected.shape[1:]:
        return "the lane axis is missing"
    if actual.shape[1:] == expected.shape:
        return "there is a lane axis too many"
    if actual.ndim == expected.ndim and actual.shape[1:] == expected.shape[1:]:
        return "there is another number of lanes"
    return ""
