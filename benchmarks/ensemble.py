"""What does a warm call for sixteen models at once cost, beside `jit(vmap(step))` in pure JAX?

The steps are those of `dispatch.py`, written for one member, mapped over a stacked model, an optimizer for each member
and an example for each, and compiled. Everything is mapped along the first axis.

    python benchmarks/ensemble.py
    python benchmarks/ensemble.py --members 64 --layers 20 --json
"""

from dataclasses import dataclass

from _calls import builds, calls, limits
from _mlp import STEPS, Ensemble
from _report import Row, Table, figures_of, main
from _timing import compare, steady


@dataclass(frozen=True, slots=True)
class Sizes:
    members: int = 16
    layers: tuple[int, ...] = (2, 20, 200)
    steps: tuple[str, ...] = tuple(STEPS)
    rounds: int = 21
    seconds: float = 0.05


QUICK = Sizes(members=2, layers=(1, 2), rounds=2, seconds=0.001)


def measure(sizes: Sizes) -> list[Table]:
    cases = [(step, layers) for step in sizes.steps for layers in sizes.layers]
    title = f"A warm call for {sizes.members} members: ratio to pure JAX"
    return [Table(title, [_row(step, layers, sizes) for step, layers in cases])]


def _row(step: str, layers: int, sizes: Sizes) -> Row:
    warm = steady(calls(builds(step), layers, Ensemble(members=sizes.members)), sizes.seconds)
    return Row({"step": step, "layers": layers}, figures_of(compare(warm, sizes.rounds), "us"), limits(layers))


if __name__ == "__main__":
    main(__doc__, measure, Sizes(), QUICK)
