"""What do split, merge, clone and a listing of the States cost, beside Flax NNX and BrainState?

A model of 200 objects with two States each, written alike in the three libraries, and each library's own functions. No
array is copied or computed with: this is the price of walking objects. The base is graphstate.

    python benchmarks/graph_ops.py
    python benchmarks/graph_ops.py --layers 20 200 1000 --json
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jax.numpy as jnp
from _peers import is_installed
from _report import Row, Table, at_least, figures_of, main
from _timing import Call, compare, steady

import graphstate as gs

LIMITS: Final = {"flax.nnx": at_least(10), "brainstate": at_least(5)}


@dataclass(frozen=True, slots=True)
class Sizes:
    layers: tuple[int, ...] = (200,)
    rounds: int = 21
    seconds: float = 0.05


QUICK = Sizes(layers=(2,), rounds=2, seconds=0.001)


def _graphstate(layers: int) -> dict[str, Call]:
    class Layer(gs.Node):
        def __init__(self) -> None:
            self.weight, self.bias = gs.ParamState(jnp.ones((4, 4))), gs.ParamState(jnp.zeros(4))

    class Model(gs.Node):
        def __init__(self) -> None:
            self.layers = [Layer() for _ in range(layers)]

    model = Model()
    graphdef, values = gs.split(model)
    return {
        "split": lambda: gs.split(model),
        "merge": lambda: gs.merge(graphdef, values),
        "clone": lambda: gs.clone(model),
        "states": lambda: gs.states(model),
    }


def _flax(layers: int) -> dict[str, Call]:
    from flax import nnx

    class Layer(nnx.Module):
        def __init__(self) -> None:
            self.weight, self.bias = nnx.Param(jnp.ones((4, 4))), nnx.Param(jnp.zeros(4))

    class Model(nnx.Module):
        def __init__(self) -> None:
            self.layers = nnx.List([Layer() for _ in range(layers)])

    model = Model()
    graphdef, values = nnx.split(model)
    return {
        "split": lambda: nnx.split(model),
        "merge": lambda: nnx.merge(graphdef, values),
        "clone": lambda: nnx.clone(model),
        "states": lambda: nnx.state(model),
    }


def _brainstate(layers: int) -> dict[str, Call]:
    import brainstate

    class Layer(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = brainstate.ParamState(jnp.ones((4, 4))), brainstate.ParamState(jnp.zeros(4))

    class Model(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [Layer() for _ in range(layers)]

    model = Model()
    graphdef, values = brainstate.graph.treefy_split(model)
    return {
        "split": lambda: brainstate.graph.treefy_split(model),
        "merge": lambda: brainstate.graph.treefy_merge(graphdef, values),
        "clone": lambda: brainstate.graph.clone(model),
        "states": lambda: brainstate.graph.states(model),
    }


PEERS: Final[Mapping[str, tuple[str, Callable[[int], dict[str, Call]]]]] = {
    "flax.nnx": ("flax", _flax),
    "brainstate": ("brainstate", _brainstate),
}


def measure(sizes: Sizes) -> list[Table]:
    rows = [row for layers in sizes.layers for row in _rows(layers, sizes)]
    return [Table("Walking a model: how many times the cost of graphstate", rows)]


def _rows(layers: int, sizes: Sizes) -> list[Row]:
    ours = _graphstate(layers)
    theirs = {name: build(layers) for name, (package, build) in PEERS.items() if is_installed(package)}
    limits: Mapping[str, Any] = {name: LIMITS[name] for name in theirs if layers == 200}

    def row(verb: str) -> Row:
        compared = {"graphstate": ours[verb]} | {name: verbs[verb] for name, verbs in theirs.items()}
        found = compare(steady(compared, sizes.seconds), sizes.rounds)
        return Row({"call": verb, "States": 2 * layers}, figures_of(found, "us", base="graphstate"), limits)

    return [row(verb) for verb in ours]


if __name__ == "__main__":
    main(__doc__, measure, Sizes(), QUICK)
