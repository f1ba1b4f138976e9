"""Comparing ways of doing one thing on a machine whose clock is noisy.

All ways run within each round, one after the other, and the first of them is the base. Noise that comes and goes
reaches a whole round, so what counts is the ratio to the base within a round: its median over the rounds, and the
quartiles that tell how far to trust it. Absolute times describe the machine and are given for the base alone.
"""

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Call", "Comparison", "Spread", "alternate", "compare", "ratios_of", "steady", "time_of"]

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over many rounds: its median between its quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, figures: ArrayLike) -> "Spread":
        """That of figures taken one a round; a single one has no spread."""
        return cls(*np.percentile(figures, (25, 50, 75)).tolist())

    def __truediv__(self, figure: float) -> "Spread":
        return Spread(self.low / figure, self.median / figure, self.high / figure)

    def __str__(self) -> str:
        low, median, high = map(_digits, (self.low, self.median, self.high))
        return median if self.low == self.high else f"{median} ({low} to {high})"


def _digits(figure: float) -> str:
    if figure == round(figure) and abs(figure) != 1:
        return f"{figure:,.0f}"
    return f"{figure:.2f}" if abs(figure) < 10 else f"{figure:,.{1 if abs(figure) < 100 else 0}f}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How long the base takes, in seconds, and the ratios of the others to it, by name."""

    base: float
    ratios: Mapping[str, Spread]


def alternate(measures: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """Takes every measure once a round, in turns forwards and backwards, and returns what came by name."""
    names = list(measures)
    taken: dict[str, list[Any]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            taken[name].append(measures[name]())
    return taken


def ratios_of(times: Mapping[str, ArrayLike]) -> Comparison:
    """Compares times that were taken in the same rounds; the first is the base."""
    names = list(times)
    base = times[names[0]]
    return Comparison(float(np.median(base)), {name: Spread.of(np.divide(times[name], base)) for name in names[1:]})


def compare(measures: Mapping[str, Callable[[], float]], rounds: int) -> Comparison:
    """Compares what returns the seconds that one way takes; the first is the base."""
    return ratios_of(alternate(measures, rounds))


def time_of(call: Call, count: int = 1, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that one call takes, over `count` calls in a row; what JAX still computes at the end is waited for."""
    start = clock()
    for _ in range(count):
        result = call()
    jax.block_until_ready(result)
    return (clock() - start) / count


def steady(calls: Mapping[str, Call], seconds: float) -> dict[str, Callable[[], float]]:
    """Measures of calls that are warm: each runs long enough for batches of about `seconds`, after it was compiled.

    The garbage of one way is collected before the next one's turn, and what was there before, modules for the most
    part, is not searched for more: else a batch that happens to fall on a full collection takes twice as long.
    """
    for call in calls.values():
        time_of(call, 3)
    gc.unfreeze()  # what an earlier comparison has left
    gc.collect()
    gc.freeze()
    return {name: _batch(call, seconds) for name, call in calls.items()}


def _batch(call: Call, seconds: float) -> Callable[[], float]:
    count = math.ceil(seconds / min(time_of(call, 3) for _ in range(3)))

    def measure() -> float:
        gc.collect()
        return time_of(call, count)

    return measure
