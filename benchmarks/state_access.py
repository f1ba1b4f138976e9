"""What do reading and writing `State.value` cost, and what does it add to a model that is called without `jit`?

Reads and writes are measured outside of any transform, beside a property that reads and writes an attribute, written
in Python. They stand a hundred in a row, so that no loop is measured along with them. A call of an MLP is measured
beside the same code on dicts: once with layers written by hand as Nodes, which do the very same, and once with
each library's own linear layer, which may check and convert on top of it.

    python benchmarks/state_access.py
    python benchmarks/state_access.py --layers 200 --rounds 31 --json
"""

import timeit
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
from _calls import builds, calls
from _mlp import BASE, OURS, Call, Function, Params, Single
from _peers import is_installed
from _report import Row, Table, at_most, figures_of, main
from _timing import compare, steady

import graphstate as gs

READ, WRITE, CALL = at_most(2), at_most(4), at_most(1.1)
IN_A_ROW: Final = 100
BY_HAND: Final = "graphstate, by hand"
THEIRS: Final = ("equinox", "brainstate", "flax.nnx")
"""The peers whose calls differ where nothing is compiled or cached."""


@dataclass(frozen=True, slots=True)
class Sizes:
    layers: tuple[int, ...] = (2, 20)
    rounds: int = 21
    seconds: float = 0.02


QUICK = Sizes(layers=(1,), rounds=2, seconds=0.001)


class Plain:
    """What a State would be without transforms."""

    def __init__(self, value: jax.Array) -> None:
        self._value = value

    @property
    def value(self) -> jax.Array:
        return self._value

    @value.setter
    def value(self, value: jax.Array) -> None:
        self._value = value


class Eager(Single):
    """One model, and a step that is run as it is."""

    def compile(self, step: Function, jit: Function, vmap: Function) -> Function:
        return step


class Layer(gs.Node):
    def __init__(self, weight: jax.Array, bias: jax.Array) -> None:
        self.weight, self.bias = gs.ParamState(weight), gs.ParamState(bias)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.weight.value + self.bias.value


class ByHand(gs.Node):
    def __init__(self, params: Params) -> None:
        self.layers = [Layer(**given) for given in params]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x


def _by_hand(depth: int, scale: Single) -> Call:
    model, (x, _) = ByHand(scale.params(depth)), scale.example()
    return lambda: model(x)


def measure(sizes: Sizes) -> list[Table]:
    return [
        Table("Access: ratio to a property", [_access("read", sizes), _access("write", sizes)]),
        Table("A forward pass without `jit`: ratio to pure JAX", [_call(layers, sizes) for layers in sizes.layers]),
    ]


def _access(verb: str, sizes: Sizes) -> Row:
    measures = {name: _in_a_row(cell, verb, sizes.seconds) for name, cell in _cells(jnp.ones(4)).items()}
    found = compare(measures, sizes.rounds)
    return Row({"access": verb}, figures_of(found, "ns", base="property"), {OURS[0]: READ if verb == "read" else WRITE})


def _cells(value: jax.Array) -> dict[str, Any]:
    cells: dict[str, Any] = {"property": Plain(value), OURS[0]: gs.State(value)}
    if is_installed("brainstate"):
        import brainstate

        cells["brainstate"] = brainstate.State(value)
    return cells


def _in_a_row(cell: Any, verb: str, seconds: float) -> Callable[[], float]:
    line = {"read": "cell.value", "write": "cell.value = value"}[verb]
    timer = timeit.Timer("\n".join([line] * IN_A_ROW), globals={"cell": cell, "value": cell.value})
    timer.timeit(1)
    count = max(1, round(seconds / min(timer.repeat(3, 1))))
    return lambda: timer.timeit(count) / (count * IN_A_ROW)


def _call(layers: int, sizes: Sizes) -> Row:
    libraries = builds("forward")
    compared = {BASE: libraries[BASE], BY_HAND: _by_hand, OURS[0]: libraries[OURS[0]]}
    compared |= {name: libraries[name] for name in THEIRS if name in libraries}
    found = compare(steady(calls(compared, layers, Eager()), sizes.seconds), sizes.rounds)
    return Row({"layers": layers}, figures_of(found, "us"), {BY_HAND: CALL, OURS[0]: CALL})


if __name__ == "__main__":
    main(__doc__, measure, Sizes(), QUICK)
