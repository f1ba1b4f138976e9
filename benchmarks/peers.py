"""What does a compiled call cost beside pure JAX, in graphstate and in its peers?

MLPs of width 4, so that a call is nearly all dispatch: the forward pass, and a train step of gradient descent written
by hand. Pure JAX is `jax.jit` on a list of dicts. All start from the same weights, and the losses are compared before
anything is measured. A peer that is not installed is left out; the extra `bench` installs them.

    python benchmarks/peers.py
    python benchmarks/peers.py --layers 2 20 200 --rounds 31 --json
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from _mlp import STEPS, WAYS, Call
from _peers import installed_peers, versions_of_peers
from _timing import Comparison, compare, machine, steady, table

WORK = {"forward": "forward pass", "descent": "train step"}


def build(layers: int, step: str) -> dict[str, Call]:
    """The call in each library, pure JAX first."""
    base, argument, closed_over = WAYS
    ours = {base: base, "graphstate": argument, "graphstate, closed over": closed_over}
    calls = {name: STEPS[step][way](layers) for name, way in ours.items()}
    return calls | {name: builders[step](layers) for name, builders in installed_peers().items()}


def check(calls: Mapping[str, Call]) -> None:
    """Refuses to measure calls that compute different things."""
    results = {name: [np.asarray(call()) for _ in range(2)] for name, call in calls.items()}
    base = next(iter(results.values()))
    for name, result in results.items():
        np.testing.assert_allclose(result, base, rtol=1e-4, atol=1e-6, err_msg=name)


def measure(layers: int, step: str, rounds: int, seconds: float) -> Comparison:
    """Warm calls, in batches of about `seconds`."""
    calls = build(layers, step)
    check(calls)
    return compare(steady(calls, seconds), rounds)


Results = list[tuple[int, str, Comparison]]


def main() -> None:
    """Measures, and prints what came."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 20, 200], help="depths of the MLP")
    parser.add_argument("--steps", nargs="+", choices=WORK, default=list(WORK), help="what a call does")
    parser.add_argument("--rounds", type=int, default=21, help="how often each call is measured")
    parser.add_argument("--seconds", type=float, default=0.05, help="length of one measurement")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    cases = [(layers, step) for step in options.steps for layers in options.layers]
    results = [(*case, measure(*case, options.rounds, options.seconds)) for case in cases]
    print(_as_json(results) if options.json else _as_text(results))


def _as_json(results: Results) -> str:
    rows = [{"layers": layers, "step": step, **asdict(found)} for layers, step, found in results]
    return json.dumps({"machine": machine(), "versions": versions_of_peers(), "steady": rows}, indent=2)


def _as_text(results: Results) -> str:
    rows: list[dict[str, Any]] = [
        {"layers": layers, "call": WORK[step], "pure JAX, us": f"{found.base * 1e6:.0f}", **found.ratios}
        for layers, step, found in results
    ]
    title = "A warm call: ratio to pure JAX, median (quartiles)"
    versions = ", ".join(f"{package} {version}" for package, version in versions_of_peers().items())
    return "\n\n".join([machine(), versions, title, table(rows)])


if __name__ == "__main__":
    main()
