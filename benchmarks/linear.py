"""Does the cost of a call grow with the number of States alone, and in proportion to it?

A call that writes every State of a model (adds a number to it), so that compiling stays short for thousands of States.
Its cost is to grow in proportion to the number of States, as that of pure JAX does with the number of arrays, and
neither with the calls that were made before nor with the other models that are alive, all of which have been passed to
the same compiled function. The last columns compare the ratio to pure JAX with that of the first row.

    python benchmarks/linear.py
    python benchmarks/linear.py --states 100 1000 10000 --json
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
from _mlp import BASE, OURS, Call, Function
from _report import Row, Table, at_most, figures_of, main
from _timing import compare, steady

import graphstate as gs

FLAT: Final = at_most(1.15)


@dataclass(frozen=True, slots=True)
class Sizes:
    states: tuple[int, ...] = (100, 200, 400, 1000, 2000)
    calls: tuple[int, ...] = (10, 1000, 100_000)
    models: tuple[int, ...] = (1, 10, 100, 1000)
    rounds: int = 21
    seconds: float = 0.05


QUICK = Sizes(states=(2, 4), calls=(1, 5), models=(1, 3), rounds=2, seconds=0.001)

SMALL: Final = 40
"""States of the model where their number is not what is asked."""


class Layer(gs.Node):
    def __init__(self) -> None:
        self.weight, self.bias = gs.ParamState(jnp.ones(4)), gs.ParamState(jnp.zeros(4))


class Model(gs.Node):
    def __init__(self, states: int) -> None:
        self.layers = [Layer() for _ in range(states // 2)]


def _pure(states: int) -> Call:
    params = [{"weight": jnp.ones(4), "bias": jnp.zeros(4)} for _ in range(states // 2)]
    step = jax.jit(lambda params: jax.tree.map(lambda param: param + 1, params))

    def call() -> Any:
        nonlocal params
        params = step(params)
        return params

    return call


def _grow(model: Model) -> None:
    for layer in model.layers:
        layer.weight.value += 1
        layer.bias.value += 1


def _calling(function: Function, model: Model, *args: Any) -> Call:
    last = model.layers[-1].bias

    def call() -> jax.Array:
        function(*args)
        return last.value  # so that the result is waited for

    return call


def _calls(states: int) -> dict[str, Call]:
    passed, closed = Model(states), Model(states)
    argument = _calling(gs.jit(_grow), passed, passed)
    return {BASE: _pure(states), OURS[0]: argument, OURS[1]: _calling(gs.jit(lambda: _grow(closed)), closed)}


def _row(labels: Mapping[str, int], calls: Mapping[str, Call], sizes: Sizes) -> Row:
    return Row(labels, figures_of(compare(steady(calls, sizes.seconds), sizes.rounds), "us"))


def _by_states(sizes: Sizes) -> list[Row]:
    return [_row({"States": number}, _calls(number), sizes) for number in sizes.states]


def _by_calls(sizes: Sizes) -> list[Row]:
    def after(count: int) -> Row:
        calls = _calls(SMALL)
        for call in calls.values():
            for _ in range(count):
                call()
        return _row({"calls before": count}, calls, sizes)

    return [after(count) for count in sizes.calls]


def _by_models(sizes: Sizes) -> list[Row]:
    def among(number: int) -> Row:
        step, models = gs.jit(_grow), [Model(SMALL) for _ in range(number)]
        for model in models:
            step(model)
        calls = _calls(SMALL) | {OURS[0]: _calling(step, models[0], models[0])}
        return _row({"models alive": number}, calls, sizes)

    return [among(number) for number in sizes.models]


def _beside_the_first(rows: Sequence[Row]) -> list[Row]:
    """Adds the ratios beside the medians of the first row, and the limit for that."""

    def beside(row: Row) -> Row:
        added = {f"{way}, beside the first row": row.figures[way] / rows[0].figures[way].median for way in OURS}
        return Row(row.labels, {**row.figures, **added}, dict.fromkeys(added, FLAT))

    return [beside(row) for row in rows]


def measure(sizes: Sizes) -> list[Table]:
    what = {"States": _by_states, "calls made before": _by_calls, "models alive": _by_models}
    title = "By the number of {}: ratio to pure JAX"
    return [Table(title.format(name), _beside_the_first(rows(sizes))) for name, rows in what.items()]


if __name__ == "__main__":
    main(__doc__, measure, Sizes(), QUICK)
