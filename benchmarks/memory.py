"""Does a step need more memory than in pure JAX, and does anything stay behind?

The first table is exact: what XLA reserves for one call, which is the arguments, the results that do not take the place
of an argument, and what lies in between (`compile().memory_analysis()`). A donated step is `donate_states=True` beside
`donate_argnums=0` by hand. The limit leaves room for one bias, which XLA sometimes holds for longer in one program
than in another that computes the same in another order.

The second repeats a step of `dispatch.py`, whose values change with each call, and counts what is there afterwards
that was not there before: objects that the collector knows, arrays, and the highest resident set so far. Last, model,
function and call are dropped: how many arrays are still alive?

    python benchmarks/memory.py
    python benchmarks/memory.py --calls 100000 --layers 2 --json
"""

import gc
import resource
import sys
from dataclasses import dataclass, field
from typing import Any, Final

import jax
from _calls import builds
from _mlp import BASE, OURS, STEPS, Build, Call, Function, Single
from _report import Row, Table, at_most, main
from _timing import Spread

import graphstate as gs

MIB: Final = 2**20
SAME: Final = at_most(1.001)
BEHIND: Final = {
    "objects": at_most(100),  # some come and go by themselves; one for each call would be thousands
    "arrays": at_most(0),
    "resident set, MiB": at_most(0.5),  # what the allocator holds in reserve
    "arrays, all dropped": at_most(0),
}


@dataclass(frozen=True, slots=True)
class Sizes:
    width: int = 256
    layers: int = 20
    steps: tuple[str, ...] = ("descent", "adam")
    calls: int = 10_000


QUICK = Sizes(width=8, layers=2, steps=("descent",), calls=50)


def measure(sizes: Sizes) -> list[Table]:
    reserved = [_reserved(step, donates, sizes) for step in sizes.steps for donates in (False, True)]
    loops = [_loop(step, name, build, sizes) for step in sizes.steps for name, build in builds(step).items()]
    return [
        Table(f"Memory for one call at width {sizes.width}: ratio to pure JAX", reserved),
        Table(f"What {sizes.calls:,} calls leave behind", loops),
    ]


# One call


@dataclass(frozen=True)
class Analysed(Single):
    """One model, and a step whose memory is noted before it is called."""

    donates: bool = False
    needed: list[int] = field(default_factory=list)

    def compile(self, step: Function, jit: Function, vmap: Function) -> Function:
        donation: dict[str, Any] = {"donate_states": True} if jit is gs.jit else {"donate_argnums": 0}
        compiled = jit(step, **(donation if self.donates else {}))

        def analysed(*args: Any) -> Any:
            self.needed.append(_bytes(compiled.lower(*args).compile().memory_analysis()))
            return compiled(*args)

        return analysed


def _bytes(analysis: Any) -> int:
    results = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return int(analysis.argument_size_in_bytes + results + analysis.temp_size_in_bytes)


def _reserved(step: str, donates: bool, sizes: Sizes) -> Row:
    needed = {way: _needed(STEPS[step][way], donates, sizes) for way in (BASE, *OURS)}
    figures = {f"{BASE}, MiB": Spread.of(needed[BASE] / MIB)}
    figures |= {way: Spread.of(needed[way] / needed[BASE]) for way in OURS}
    labels = {"step": step, "layers": sizes.layers, "what is written is": "donated" if donates else "kept"}
    return Row(labels, figures, dict.fromkeys(OURS, SAME))


def _needed(build: Build, donates: bool, sizes: Sizes) -> int:
    scale = Analysed(sizes.width, donates)
    build(sizes.layers, scale)()
    return scale.needed[0]


# Many calls


def _loop(step: str, name: str, build: Build, sizes: Sizes) -> Row:
    alone = _arrays()
    call = build(sizes.layers, Single())
    _repeat(call, sizes.calls // 10)  # caches fill, and the allocator takes what it wants
    before = _counted()
    _repeat(call, sizes.calls)
    after = _counted()
    del call
    left = {"arrays, all dropped": Spread.of(_arrays() - alone)}
    figures = {what: Spread.of(after[what] - before[what]) for what in before} | left
    return Row({"step": step, "way": name}, figures, BEHIND if name in OURS else {})


def _repeat(call: Call, count: int) -> None:
    for _ in range(count):
        result = call()
    result.block_until_ready()


def _counted() -> dict[str, float]:
    return {"objects": _objects(), "arrays": _arrays(), "resident set, MiB": _resident() / MIB}


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def _arrays() -> int:
    gc.collect()
    return len(jax.live_arrays())


def _resident() -> int:
    """The highest so far, in bytes."""
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else 1024 * highest


if __name__ == "__main__":
    main(__doc__, measure, Sizes(), QUICK)
