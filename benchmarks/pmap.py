"""What does a warm call of `pmap` cost, beside `jit(shard_map(vmap(step)))` in pure JAX?

The steps are those of `ensemble.py`, for sixteen members that lie spread over virtual devices of the CPU, on which a
launch takes a time of its own: on one device the rest of a call is best seen. All that is mapped lies where it is
needed from the first call on, in pure JAX by hand. What several devices gain is no question that one CPU can answer.

    python benchmarks/pmap.py
    python benchmarks/pmap.py --devices 1 8 --layers 20 --json
"""

import os

os.environ.setdefault("NPROC", "32")  # the threads that XLA has for its devices
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

import functools
from dataclasses import dataclass
from typing import Any, Final

import jax
import numpy as np
from _calls import builds, calls
from _mlp import OURS, STEPS, Ensemble, Function, Params
from _report import Row, Table, at_most, figures_of, main
from _timing import compare, steady
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import graphstate as gs

HIGHEST: Final = at_most(1.2)
SPLIT: Final = PartitionSpec("lanes")


@dataclass(frozen=True, slots=True)
class Sizes:
    devices: tuple[int, ...] = (1, 8)
    members: int = 16
    layers: tuple[int, ...] = (2, 20)
    steps: tuple[str, ...] = tuple(STEPS)
    rounds: int = 21
    seconds: float = 0.05


QUICK = Sizes(devices=(2,), members=2, layers=(1,), rounds=2, seconds=0.001)


@dataclass(frozen=True)
class Spread(Ensemble):
    """Many models spread over devices, and a step that is mapped over them there."""

    devices: int = 1

    @functools.cached_property
    def mesh(self) -> Mesh:
        return Mesh(np.array(jax.devices()[: self.devices]), ("lanes",))

    def _put(self, tree: Any) -> Any:
        return jax.device_put(tree, NamedSharding(self.mesh, SPLIT))

    def stack(self, tree: Any) -> Any:
        return self._put(super().stack(tree))

    def params(self, depth: int) -> Params:
        return self._put(super().params(depth))  # type: ignore[no-any-return]

    def compile(self, step: Function, jit: Function, vmap: Function) -> Function:
        if jit is gs.jit:
            given = getattr(vmap, "keywords", {})
            return gs.pmap(step, devices=jax.devices()[: self.devices], **given)  # type: ignore[no-any-return]
        mapped: Any = jax.shard_map(vmap(step), mesh=self.mesh, in_specs=SPLIT, out_specs=SPLIT, check_vma=False)
        return jit(mapped)  # type: ignore[no-any-return]


def measure(sizes: Sizes) -> list[Table]:
    cases = [(step, layers, count) for step in sizes.steps for layers in sizes.layers for count in sizes.devices]
    title = f"A warm call for {sizes.members} members: ratio to pure JAX"
    return [Table(title, [_row(step, layers, count, sizes) for step, layers, count in cases])]


def _row(step: str, layers: int, count: int, sizes: Sizes) -> Row:
    scale = Spread(members=sizes.members, devices=count)
    warm = steady(calls(builds(step, peers=False), layers, scale), sizes.seconds)
    labels = {"step": step, "layers": layers, "devices": count}
    return Row(labels, figures_of(compare(warm, sizes.rounds), "us"), dict.fromkeys(OURS, HIGHEST))


if __name__ == "__main__":
    main(__doc__, measure, Sizes(), QUICK)
