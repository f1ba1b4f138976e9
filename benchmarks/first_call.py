"""What does the first call cost, which traces and compiles, beside the same call in pure JAX?

Each measurement builds a new model and new functions, clears JAX's caches, collects garbage, and times one call of a
forward pass or train step of `dispatch.py`. The programs that XLA compiles are alike, so what differs is mostly
tracing: Python code that runs once for each layer.

Two clocks are read. Wall time is what a user waits; CPU time (of all threads of the process) is that of the work
done, and is hardly disturbed by what else the machine does. Where XLA compiles on several threads it is the longer.

    python benchmarks/first_call.py
    python benchmarks/first_call.py --layers 20 --steps descent --rounds 9 --json
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import jax
from _calls import builds
from _mlp import OURS, STEPS, Build, Single
from _report import Limit, Row, Table, at_most, figures_of, main
from _timing import alternate, ratios_of, time_of

LIMITS: Final = dict(zip(OURS, (at_most(1.1), at_most(1.25)), strict=True))
BOUNDED: Final = (20, 200)
"""The numbers of layers that the limits are for."""


@dataclass(frozen=True, slots=True)
class Sizes:
    layers: tuple[int, ...] = (20, 200)
    steps: tuple[str, ...] = tuple(STEPS)
    rounds: int = 5


QUICK = Sizes(layers=(1,), steps=("descent",), rounds=1)


def measure(sizes: Sizes) -> list[Table]:
    cases = [(step, layers) for step in sizes.steps for layers in sizes.layers]
    rows = [_rows(step, layers, sizes.rounds) for step, layers in cases]
    clocks = ("wall time", "CPU time")
    return [
        Table(f"The first call, {clock}: ratio to pure JAX", column)
        for clock, column in zip(clocks, zip(*rows, strict=True), strict=True)
    ]


def _rows(step: str, layers: int, rounds: int) -> tuple[Row, Row]:
    """By wall time and by CPU time, from the same calls."""
    compared = builds(step)
    for build in compared.values():
        _measure(build, 1)()  # what is imported or set up once is no part of any call
    taken = alternate({name: _measure(build, layers) for name, build in compared.items()}, rounds)
    wall, cpu = (
        ratios_of({name: [pair[clock] for pair in pairs] for name, pairs in taken.items()}) for clock in (0, 1)
    )
    limits: dict[str, Limit] = LIMITS if layers in BOUNDED else {}
    labels = {"step": step, "layers": layers}
    return Row(labels, figures_of(wall, "ms"), limits), Row(labels, figures_of(cpu, "ms"), limits)


def _measure(build: Build, layers: int) -> Callable[[], tuple[float, float]]:
    def first() -> tuple[float, float]:
        call = build(layers, Single())
        jax.clear_caches()
        gc.collect()
        cpu = time.process_time()
        wall = time_of(call)
        return wall, time.process_time() - cpu

    return first


if __name__ == "__main__":
    main(__doc__, measure, Sizes(), QUICK)
