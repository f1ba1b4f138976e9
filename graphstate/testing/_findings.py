"""What a check has found: one difference, where it is, and how large."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._arrays import is_inexact, is_key
from ._outcome import Leaf, Outcome
from ._patterns import pattern_of
from ._tolerance import Tol, unit_of

__all__ = ["Finding", "Sides", "compare_arrays", "crash_of", "differences_of_structure", "largest_of", "shown_error"]


@dataclass(frozen=True)
class Sides:
    """How messages call the two sides of a comparison, and what an entry of the first axis is."""

    actual: str
    expected: str
    entry: str = "lane"


@dataclass(frozen=True)
class Finding:
    """One difference.

    Attributes:
        where: the output, State or argument.
        text: what differs, with both values.
        pattern: what it looks like, as "lanes reversed".
        error: how large it is, in units of the largest element; None where it is no matter of size.
        eps: the unit of the dtype, for these.
        largest: the largest element, for these.
    """

    where: str
    text: str
    pattern: str = ""
    error: float | None = None
    eps: float = 0.0
    largest: float = 0.0


def crash_of(sides: Sides, actual: Outcome, expected: Outcome) -> Finding | None:
    """Where one side has raised and the other has not, or something else.

    Raises:
        Exception: both raise the same: that of the expected side.
    """
    if actual.error is None and expected.error is None:
        return None
    if actual.error is not None and expected.error is not None:
        if type(actual.error) is type(expected.error):
            raise expected.error
        return Finding(
            "error",
            f"{sides.actual} raises {shown_error(actual.error)}\n{sides.expected} raises another error, "
            f"{shown_error(expected.error)}",
        )
    if actual.error is not None:
        return Finding("error", f"{sides.expected} works, but {sides.actual} raises {shown_error(actual.error)}")
    assert expected.error is not None
    return Finding("error", f"{sides.actual} works, but {sides.expected} raises {shown_error(expected.error)}")


def shown_error(error: Exception) -> str:
    """The type of an error, and all that it says: the way out comes last."""
    return f"{type(error).__name__}: {str(error).strip()}"


def differences_of_structure(sides: Sides, actual: Outcome, expected: Outcome) -> list[Finding]:
    """Where the two sides do not even hold the same things, or share them otherwise."""
    from graphstate.graph import diff  # which is long to import

    if actual.treedef != expected.treedef:
        text = f"{sides.actual} returns {actual.treedef}\n{sides.expected} returns {expected.treedef}"
        return [Finding("output", text)]
    if actual.graphdef == expected.graphdef:
        return []
    lines = diff(expected.graphdef, actual.graphdef)[:4]
    text = f"from {sides.expected} to {sides.actual} structure or sharing has changed (0/... are what goes in first)\n"
    return [Finding("structure", text + "\n".join(f"  {line}" for line in lines))]


def compare_arrays(
    where: str, actual: Any, expected: Any, sides: Sides, tol: Tol, *, by_entry: bool = True
) -> Finding | None:
    """The largest difference of two arrays, if there is one that is no rounding.

    Args:
        where: how messages call them.
        actual: the one that is judged.
        expected: the one that it should be.
        sides: how messages call the two.
        tol: what counts as rounding.
        by_entry: whether the first axis is that of the lanes.
    """
    actual, expected = plain(actual), plain(expected)
    if actual.shape != expected.shape:
        text = f"{sides.actual} has the shape {actual.shape}, {sides.expected} {expected.shape}"
        return Finding(where, text, pattern_of(actual, expected) if by_entry else "")
    if actual.dtype != expected.dtype:
        return Finding(where, f"{sides.actual} has the dtype {actual.dtype}, {sides.expected} {expected.dtype}")
    if not actual.size:
        return None
    error, scale = _errors(actual, expected)
    worst = int(np.argmax(error))
    allowed = tol.k * unit_of(actual.dtype) * scale
    if not error.flat[worst] > allowed:
        return None
    place = np.unravel_index(worst, actual.shape)
    one, other = actual[place], expected[place]
    spot = _spot(place, actual.shape, sides.entry if by_entry else "")
    text = f"{spot}{sides.actual} {_number(one)}, {sides.expected} {_number(other)}"
    pattern = pattern_of(actual, expected, allowed) if by_entry else ""
    if not is_inexact(actual):
        return Finding(where, text, pattern)
    relative = float(error.flat[worst]) / (scale or 1.0)
    eps = unit_of(actual.dtype)
    if np.isfinite(relative):
        text += f"; off by {relative:.2g} of the largest element = {relative / eps:.3g} eps, allowed {tol.k:g} eps"
    return Finding(where, text, pattern, relative, eps, scale)


def plain(array: Any) -> Any:
    """An array as NumPy has it, keys as their data."""
    if is_key(array):
        array = jax.random.key_data(array)
    return np.asarray(array)


def _errors(actual: Any, expected: Any) -> tuple[Any, float]:
    """How far apart the elements are, and the largest element that is expected."""
    if not is_inexact(actual):
        return (actual != expected).astype(np.float64), 0.0
    kind = np.complex128 if jnp.issubdtype(actual.dtype, jnp.complexfloating) else np.float64
    one, other = actual.astype(kind), expected.astype(kind)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(one - other)
    error = np.where((one == other) | (np.isnan(one) & np.isnan(other)), 0.0, error)
    error = np.where(np.isnan(error), np.inf, error)
    return error, largest_of(other)


def largest_of(array: Any) -> float:
    """The largest finite element; 0 where there is none."""
    sizes = np.abs(array[np.isfinite(array)])
    return float(sizes.max()) if sizes.size else 0.0


def _spot(place: Sequence[Any], shape: Sequence[int], entry: str) -> str:
    place = tuple(map(int, place))
    if not entry:
        return f"index {place}: " if place else ""
    rest = f", index {place[1:]}" if place[1:] else ""
    return f"{entry} {place[0]} of {shape[0]}{rest}: "


def _number(number: Any) -> str:
    return str(number)


def iter_pairs(actual: Outcome, expected: Outcome) -> Iterator[tuple[Leaf, Leaf]]:
    """The leaves of two outcomes of one structure, side by side."""
    return zip(actual.leaves, expected.leaves, strict=True)
