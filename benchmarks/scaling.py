"""What does each device do of a step that is spread over many, and what does it hear of the others?

Nothing is run: programs are compiled for up to 256 virtual devices, and looked at. XLA says how many operations the
program of one device has, and how much memory it takes besides arguments and results; the text of the program, which
collectives it holds. Operations and memory are given times the number of devices, as a ratio to those on one: 1 is a
fair share of the work, and the number of devices means that each does all of it. In a loop XLA counts one round.

"ensemble" is a train step of many members by `pmap`, "solver" a loop in each member that ends when that member says,
"data parallel" a train step of one model whose batch is divided: its gradients are summed over devices, and each has a
copy of the model. These are facts about programs. How fast they are on real devices is no question for this machine.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --devices 1 64 --programs solver --json
"""

import os

os.environ["JAX_NUM_CPU_DEVICES"] = "256"  # whatever was asked for: they run nothing

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
from _mlp import MLP, RATE
from _report import Limit, Row, Table, at_most, main
from _timing import Spread

import graphstate as gs

FAIR: Final = at_most(1.05)
COLLECTIVE: Final = re.compile(
    r" = .*?\b(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast)(?:-start)?\("
)
EXAMPLES: Final = 16
"""How many examples a member takes in one step."""


@dataclass(frozen=True, slots=True)
class Sizes:
    devices: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    programs: tuple[str, ...] = ("ensemble", "solver")
    members: int = 256
    width: int = 32
    layers: int = 2


QUICK = Sizes(devices=(1, 2, 64), members=64)


def measure(sizes: Sizes) -> list[Table]:
    mapped = [row for name in sizes.programs for row in _rows(name, sizes)]
    return [
        Table(f"A device's part of {sizes.members} members, times devices: ratio to one device", mapped),
        Table("A device's part of a divided batch, times devices: ratio to one device", _rows("data parallel", sizes)),
    ]


def _rows(name: str, sizes: Sizes) -> list[Row]:
    counts = sorted({1, *sizes.devices})
    found = {count: _facts(PROGRAMS[name](sizes, jax.devices()[:count])) for count in counts}
    return [_row(name, count, found[count], found[1]) for count in sizes.devices]


def _row(name: str, count: int, found: "Facts", alone: "Facts") -> Row:
    figures = {
        "operations": count * found.operations / alone.operations,
        "temporary memory": count * found.temporary / alone.temporary,
        "collectives": len(found.collectives),
    }
    which = ", ".join(sorted(set(found.collectives))) or "-"
    return Row(
        {"program": name, "devices": count, "which": which},
        {figure: Spread.of(number) for figure, number in figures.items()},
        LIMITS[name],
    )


# What programs hold


@dataclass(frozen=True, slots=True)
class Facts:
    """What XLA says of a program, for one of its devices."""

    operations: float
    temporary: int
    collectives: list[str]


def _facts(compiled: Any) -> Facts:
    return Facts(
        compiled.cost_analysis()["flops"],
        compiled.memory_analysis().temp_size_in_bytes,
        COLLECTIVE.findall(compiled.as_text()),
    )


# Programs


def _ensemble(sizes: Sizes, devices: list[jax.Device]) -> Any:
    members = gs.abstract(gs.vmap(lambda: _model(sizes), axis_size=sizes.members))
    rows = _array(EXAMPLES, sizes.width)
    return gs.pmap(_train, in_axes=(0, None, None), devices=devices).lower(members, rows, rows).compile()


def _solver(sizes: Sizes, devices: list[jax.Device]) -> Any:
    def solve(start: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda x: jnp.vdot(x, x) > 1, lambda x: x - 0.1 * jnp.tanh(x), start)

    return gs.pmap(solve, devices=devices).lower(_array(sizes.members, sizes.width)).compile()


def _data_parallel(sizes: Sizes, devices: list[jax.Device]) -> Any:
    mesh = gs.parallel.make_mesh(len(devices), devices=devices)
    rows = _array(sizes.members * EXAMPLES, sizes.width)
    return gs.parallel.data_parallel(_train, mesh).lower(gs.abstract(_model, sizes), rows, rows).compile()


def _model(sizes: Sizes) -> MLP:
    return MLP(sizes.layers, sizes.width)


def _train(model: MLP, x: jax.Array, y: jax.Array) -> jax.Array:
    loss, grads = gs.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
    gs.update(model, jax.tree.map(lambda p, g: p - RATE * g, gs.state(model, gs.ParamState), grads))
    return loss


def _array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


PROGRAMS: Final[Mapping[str, Callable[[Sizes, list[jax.Device]], Any]]] = {
    "ensemble": _ensemble,
    "solver": _solver,
    "data parallel": _data_parallel,
}
LIMITS: Final[Mapping[str, Mapping[str, Limit]]] = {
    "ensemble": {"operations": FAIR, "temporary memory": FAIR, "collectives": at_most(0)},
    "solver": {"operations": FAIR, "temporary memory": FAIR, "collectives": at_most(0)},
    "data parallel": {"operations": FAIR},
}


if __name__ == "__main__":
    main(__doc__, measure, Sizes(), QUICK)
