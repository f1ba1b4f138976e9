"""Which values filters select, first match wins.

What filters by type, tag and path select from a layout is looked up once and kept there; a function is asked each time.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from graphstate.errors import FilterError, some_of
from graphstate.filters import Filter, lasting_key, to_predicate

from ._heads import ArrayHead
from ._layout import Layout, kind_of, record_of
from ._path import write_path
from ._picker import Pick, picker

__all__ = ["Part", "check_exhaustive", "check_order", "partition"]


class Part(NamedTuple):
    """The values that one filter selects.

    Attributes:
        numbers: which they are.
        layout: their layout.
        pick: picks them from all values.
    """

    numbers: Sequence[int]
    layout: Layout
    pick: Pick


def partition(layout: Layout, values: Sequence[Any], filters: Sequence[Filter]) -> Sequence[Part]:
    """For each filter the values that it is the first to match."""
    key = lasting_key(filters)
    if key is not None and not layout.only_states:
        # Which class an array is of is no part of the layout.
        key = (
            key,
            tuple(
                isinstance(value, np.ndarray)
                for (_, head), value in zip(layout.leaves, values, strict=True)
                if isinstance(head, ArrayHead)
            ),
        )
    return layout.kept.get(key, lambda: _looked_up(layout, values, filters))


def _looked_up(layout: Layout, values: Sequence[Any], filters: Sequence[Filter]) -> Sequence[Part]:
    check_order(filters)
    if len(filters) == 1 and filters[0] is ...:
        return [_part(layout, range(len(layout.leaves)))]
    predicates = [to_predicate(each) for each in filters]
    found: list[list[int]] = [[] for _ in filters]
    for index, ((_, head), value) in enumerate(zip(layout.leaves, values, strict=True)):
        record = record_of(head, value)
        paths = layout.all_paths(index)
        for numbers, predicate in zip(found, predicates, strict=True):
            if predicate.matches(paths, record):
                numbers.append(index)
                break
    return [_part(layout, numbers) for numbers in found]


def _part(layout: Layout, numbers: Sequence[int]) -> Part:
    return Part(numbers, layout.select(numbers), picker(numbers))


def check_order(filters: Sequence[Any]) -> None:
    """Refuses `...` before another filter, which would select nothing."""
    for position, each in enumerate(filters[:-1], start=1):
        if each is ...:
            raise FilterError(
                f"`...` selects all that is left, so it must be the last filter, but it is number {position} "
                f"of {len(filters)}. Move it to the end."
            )


def check_exhaustive(layout: Layout, parts: Sequence[Part], call: str) -> None:
    """Refuses filters that leave values over."""
    if sum(len(part.numbers) for part in parts) == len(layout.leaves):
        return
    chosen = {index for part in parts for index in part.numbers}
    left = [index for index in range(len(layout.leaves)) if index not in chosen]
    names = [f"{write_path(layout.path(index)) or '(root)'} ({kind_of(layout.leaves[index][1])})" for index in left]
    raise FilterError(
        f"`{call}` needs a filter for every state, but none of its {len(parts)} filters matches:\n{some_of(names)}\n"
        "Add `...` as the last filter to collect the rest."
    )
