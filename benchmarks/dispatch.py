"""What does a warm call cost, beside the same call in pure JAX?

MLPs of width 4, so that a call is nearly all dispatch: the forward pass, a train step of gradient descent written
by hand, and one of adam; the model passed as an argument, or closed over. Pure JAX is `jax.jit` on a list of dicts.
Flat leaves are the floor below it: `jax.jit` on a flat list of arrays, whatever that costs to write.

The peers (extra `bench`) take the same steps from the same weights, but for adam, which each wraps in its own way; the
results are compared before anything is measured. Beyond `--peer-layers` they are left out: tracing takes minutes.

    python benchmarks/dispatch.py
    python benchmarks/dispatch.py --layers 2 20 --steps forward --rounds 31 --json
"""

from dataclasses import dataclass

import jax
from _calls import builds, calls, limits
from _mlp import STEPS, Single
from _report import Row, Table, figures_of, main
from _timing import compare, steady


@dataclass(frozen=True, slots=True)
class Sizes:
    layers: tuple[int, ...] = (2, 20, 200, 1000)
    steps: tuple[str, ...] = tuple(STEPS)
    peer_layers: int = 200
    rounds: int = 21
    seconds: float = 0.05


QUICK = Sizes(layers=(1, 2), peer_layers=1, rounds=2, seconds=0.001)


def measure(sizes: Sizes) -> list[Table]:
    cases = [(step, layers) for step in sizes.steps for layers in sizes.layers]
    return [Table("A warm call: ratio to pure JAX", [_row(step, layers, sizes) for step, layers in cases])]


def _row(step: str, layers: int, sizes: Sizes) -> Row:
    jax.clear_caches()  # the programs of all rows at once are more than a process may map into its memory
    compared = builds(step, flat=True, peers=layers <= sizes.peer_layers)
    found = compare(steady(calls(compared, layers, Single()), sizes.seconds), sizes.rounds)
    return Row({"step": step, "layers": layers}, figures_of(found, "us"), limits(layers))


if __name__ == "__main__":
    main(__doc__, measure, Sizes(), QUICK)
