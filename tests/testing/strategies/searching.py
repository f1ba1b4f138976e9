"""Searches of strategies in tests: what hypothesis finds simplest, and what it draws."""

from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import Phase, strategies

_QUIET = hypothesis.settings(
    database=None,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def simplest(strategy: Any, condition: Callable[[Any], Any] = lambda value: True, examples: int = 2000) -> Any:
    """The simplest value for which a condition holds; `hypothesis.find` would go on and vary what does not matter."""
    phases = (Phase.generate, Phase.shrink)
    settings = hypothesis.settings(_QUIET, max_examples=examples, phases=phases)
    return hypothesis.find(strategy, condition, settings=settings)


def some(strategy: Any, examples: int = 100) -> list[Any]:
    """Values that a strategy draws, the same on every run."""
    values = []

    @hypothesis.settings(_QUIET, max_examples=examples, phases=(Phase.generate,))
    @hypothesis.given(strategies.data())
    def collect(data: Any) -> None:
        values.append(data.draw(strategy))

    collect()
    return values
