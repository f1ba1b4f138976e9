"""What does a call of `graphstate.jit` cost, beside the same call in pure JAX?

MLPs of width 4, so that a call is nearly all dispatch: the forward pass, a train step of gradient descent written
by hand, and one of adam; the model passed as an argument, or closed over. Pure JAX is `jax.jit` on a list of dicts.

    python benchmarks/dispatch.py
    python benchmarks/dispatch.py --layers 2 20 200 1000 --steps forward --rounds 31 --json
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import jax
from _mlp import STEPS, WAYS
from _timing import Comparison, compare, machine, steady, table, time_of

FIRST_ROUNDS = 5
"""A first call takes seconds: more rounds are not worth the wait."""


def measure_steady(layers: int, step: str, rounds: int, seconds: float) -> Comparison:
    """Warm calls, in batches of about `seconds`."""
    calls = {way: STEPS[step][way](layers) for way in WAYS}
    return compare(steady(calls, seconds), rounds)


def measure_first(layers: int, step: str, rounds: int) -> Comparison:
    """First calls, which trace and compile: new functions, a new model, and none of JAX's caches each time."""
    return compare({way: _first(STEPS[step][way], layers) for way in WAYS}, min(rounds, FIRST_ROUNDS))


def _first(build: Callable[[int], Callable[[], Any]], layers: int) -> Callable[[], float]:
    def measure() -> float:
        jax.clear_caches()
        return time_of(build(layers))

    return measure


def main() -> None:
    """Measures, and prints what came."""
    options = _options()
    kinds = {
        "steady": lambda layers, step: measure_steady(layers, step, options.rounds, options.seconds),
        "first": lambda layers, step: measure_first(layers, step, options.rounds),
    }
    cases = [(layers, step) for layers in options.layers for step in options.steps]
    results = {kind: [(*case, kinds[kind](*case)) for case in cases] for kind in options.calls}
    print(_as_json(results) if options.json else _as_text(results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    kinds = ["steady", "first"]
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 20, 200], help="depths of the MLP")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="what a call does")
    parser.add_argument("--calls", nargs="+", choices=kinds, default=kinds, help="warm calls, first calls, or both")
    parser.add_argument("--rounds", type=int, default=21, help=f"of warm calls; of first calls {FIRST_ROUNDS} at most")
    parser.add_argument("--seconds", type=float, default=0.05, help="length of a batch of warm calls")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser.parse_args()


Results = dict[str, list[tuple[int, str, Comparison]]]


def _as_json(results: Results) -> str:
    tables = {
        kind: [{"layers": layers, "step": step, **asdict(found)} for layers, step, found in rows]
        for kind, rows in results.items()
    }
    return json.dumps({"machine": machine(), **tables}, indent=2)


def _as_text(results: Results) -> str:
    titles = {"steady": "A warm call", "first": "A first call (trace and compile)"}
    units = {"steady": ("us", 1e6), "first": ("ms", 1e3)}
    parts = [machine()]
    for kind, rows in results.items():
        unit, scale = units[kind]
        columns = [
            {"layers": layers, "step": step, f"{WAYS[0]}, {unit}": f"{found.base * scale:.0f}", **found.ratios}
            for layers, step, found in rows
        ]
        parts.append(f"{titles[kind]}: ratio to pure JAX, median (quartiles)\n\n{table(columns)}")
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
