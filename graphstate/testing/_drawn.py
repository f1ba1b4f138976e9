"""Lanes that hypothesis draws, for checks that are called with strategies."""

from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
from hypothesis import strategies as st

from .strategies import batched

__all__ = ["draw_lanes"]

_SIZE = 2


def draw_lanes(examples: Sequence[Any], number: int, run: Callable[[tuple[Any, ...]], None]) -> None:
    """Runs something for the lanes of so many examples, and shrinks to the simplest that fails.

    Args:
        examples: strategies, and values that all examples have.
        number: how many are drawn.
        run: takes the arguments of all lanes.
    """
    strategies = [each if isinstance(each, st.SearchStrategy) else st.just(each) for each in examples]

    @hypothesis.settings(
        max_examples=number,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(batched(*strategies, axis_size=_SIZE, in_axes=0))
    def check(case: Any) -> None:
        run(case.args)

    check()
