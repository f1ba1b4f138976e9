"""Comparing ways of doing one thing on a machine whose clock is noisy.

All ways run within each round, one after the other, and the first of them is the base. Noise that comes and goes
reaches a whole round, so what counts is the ratio to the base within a round: its median over the rounds, and the
quartiles that tell how far to trust it. Absolute times describe the machine and are given for the base alone.
"""

import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

__all__ = ["Call", "Comparison", "Spread", "compare", "machine", "steady", "table", "time_of"]

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Spread:
    """A ratio over many rounds: its median between its quartiles."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How long the base takes, in seconds (median), and the ratios of the others to it, by name."""

    base: float
    ratios: Mapping[str, Spread]


def compare(measures: Mapping[str, Callable[[], float]], rounds: int) -> Comparison:
    """Takes every measure once a round, in turns forwards and backwards.

    Args:
        measures: what returns the seconds that one way takes; the first is the base.
        rounds: how often each is taken.
    """
    names = list(measures)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            times[name].append(measures[name]())
    base = times[names[0]]
    return Comparison(statistics.median(base), {name: _spread(np.divide(times[name], base)) for name in names[1:]})


def _spread(ratios: Any) -> Spread:
    low, median, high = np.percentile(ratios, (25, 50, 75))
    return Spread(float(low), float(median), float(high))


def time_of(call: Call, count: int = 1) -> float:
    """Seconds that one call takes, over `count` calls in a row; what JAX still computes at the end is waited for."""
    start = time.perf_counter()
    for _ in range(count):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / count


def steady(calls: Mapping[str, Call], seconds: float) -> dict[str, Callable[[], float]]:
    """Measures of calls that are warm: each runs long enough for batches of about `seconds`, after it was compiled."""
    for call in calls.values():
        time_of(call, 3)
    return {name: _batch(call, seconds) for name, call in calls.items()}


def _batch(call: Call, seconds: float) -> Callable[[], float]:
    count = math.ceil(seconds / min(time_of(call, 3) for _ in range(3)))
    return lambda: time_of(call, count)


def machine() -> str:
    """What the figures depend on besides the code, in one line."""
    devices = jax.devices()
    return f"jax {jax.__version__}, Python {platform.python_version()}, {len(devices)} x {devices[0].device_kind}"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as aligned columns of Markdown, under the names of the first row."""
    lines = [list(rows[0]), *([str(cell) for cell in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([padded[0], rule, *padded[1:]])
