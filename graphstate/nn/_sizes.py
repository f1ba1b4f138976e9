"""Sizes, rates and choices of layers: what they can be."""

import math
import numbers
import operator
from collections.abc import Sequence
from typing import Any

from ._errors import RangeError

__all__ = ["as_choice", "as_divisor", "as_epsilon", "as_rate", "as_size", "as_sizes"]


def as_size(layer: str, name: str, value: Any, *, least: int = 1) -> int:
    """A whole number from `least` on, whatever integer type it came in.

    Raises:
        RangeError: it is none.
    """
    try:
        size = operator.index(value)
    except TypeError:
        size = least - 1
    if size < least or isinstance(value, bool):
        kind = "positive whole number" if least == 1 else f"whole number from {least} on"
        raise RangeError(
            f"{layer} needs a {kind} as `{name}`, but got {value!r}. Sizes come first, options by their names."
        )
    return size


def as_sizes(layer: str, name: str, value: Any, count: int | None = None, *, least: int = 1) -> tuple[int, ...]:
    """A tuple of whole numbers; one number stands for `count` of them, or for a tuple of one.

    Raises:
        RangeError: the value is neither, or a tuple of another length than `count`.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        return (as_size(layer, name, value, least=least),) * (1 if count is None else count)
    if count is not None and len(value) != count:
        raise RangeError(f"{layer} needs {count} numbers as `{name}`, one an axis, or one for all, but got {value!r}.")
    return tuple(as_size(layer, name, each, least=least) for each in value)


def as_rate(layer: str, name: str, value: Any, meaning: str) -> float:
    """A number from 0 to 1.

    Raises:
        RangeError: it is none.
    """
    if not isinstance(value, numbers.Real) or not 0 <= float(value) <= 1:
        raise RangeError(f"{layer} needs a `{name}` from 0 to 1, {meaning}, but got {value!r}.")
    return float(value)


def as_epsilon(layer: str, value: Any) -> float:
    """A finite number from 0 on, as is added to what is divided by.

    Raises:
        RangeError: it is none.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= float(value) < math.inf:
        raise RangeError(f"{layer} needs a finite number from 0 on as `epsilon`, but got {value!r}.")
    return float(value)


def as_divisor(layer: str, name: str, value: Any, **divided: int) -> int:
    """A positive whole number that divides each of `divided`, given by its name.

    Raises:
        RangeError: it is none, or does not divide one of them.
    """
    size = as_size(layer, name, value)
    for other, whole in divided.items():
        if whole % size:
            raise RangeError(
                f"{layer} splits {other}={whole} into equal parts, but {name}={size} does not divide it. "
                f"Choose a divisor of {whole}."
            )
    return size


def as_choice(layer: str, name: str, value: Any, choices: Sequence[str]) -> str:
    """One of the words that `name` can be.

    Raises:
        RangeError: it is another.
    """
    if not isinstance(value, str) or value not in choices:
        raise RangeError(f"{layer} needs as `{name}` one of {', '.join(map(repr, choices))}, but got {value!r}.")
    return value
