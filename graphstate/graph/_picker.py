"""Picking items out of a sequence at the speed of C."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

__all__ = ["Pick", "picker"]

Pick: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]


def picker(numbers: Sequence[int]) -> Pick:
    """What picks the items with these numbers out of a sequence, in this order."""
    if not numbers:
        return operator.itemgetter(slice(0))
    first, end = numbers[0], numbers[-1] + 1
    if end - first == len(numbers) and list(numbers) == list(range(first, end)):
        return operator.itemgetter(slice(first, end))
    return operator.itemgetter(*numbers)
