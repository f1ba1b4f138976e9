"""The check of random numbers: judged by results, never by statistics."""

import itertools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from graphstate.errors import StateTypeError
from graphstate.graph import State
from graphstate.graph._attributes import is_graph_object
from graphstate.random._stream import KeyStream
from graphstate.testing._arrays import is_key, take_lanes
from graphstate.testing._case import BatchCase
from graphstate.testing._closure import states_in
from graphstate.testing._compare import compare_batches, compare_outcomes
from graphstate.testing._findings import Finding, Sides, plain
from graphstate.testing._leaves import rebuilt
from graphstate.testing._loop import front
from graphstate.testing._outcome import Axes, Outcome
from graphstate.testing._point import Point
from graphstate.testing._tolerance import Tol
from graphstate.testing._verdict import judge

from ._start import point_of

__all__ = ["check_rng", "depends_on_keys"]

_SEEDS = 16
"""Two lanes that agree under so many seeds draw the same numbers: even single bits agree by chance in 2**-16."""


def check_rng(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """Lanes draw different numbers, the same ones each time, whatever the number of lanes; the next call others.

    All lanes get the arguments of the first one, but for keys, so that only random numbers can tell them apart.

    Args:
        fn: as in `check_vmap`. It draws from a `RandomState` that it refers to or is given, or with keys among its
            arguments.
        case: as in `check_vmap`.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: two lanes, or two calls, draw alike; or a lane draws otherwise in a larger batch.
        StateTypeError: no result depends on any random number.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst, jax.numpy as jnp, numpy as np
        >>> dropout = gs.nn.Dropout(0.5, fit=True, rng=gs.random.RandomState(0))
        >>> case = gst.BatchCase(2, (np.ones((2, 8), "float32"),))
        >>> gst.check_rng(dropout, case)
        >>> gst.check_rng(lambda x: dropout(x[:1]) + 0 * x, case, batched=True)
        Traceback (most recent call last):
        graphstate.errors.PropertyError: check_rng: ...
    """
    point = point_of("check_rng", "random numbers are not those of the lanes", fn, case, tol, batched)
    if case.axis_size:
        alike = _alike(case, max(case.axis_size, 2))
        judge(replace(point, case=alike), _rng)


def depends_on_keys(point: Point) -> bool:
    """Whether some result of the first lane changes with the keys."""
    size = max(point.case.axis_size, 2)
    alike = replace(point, case=_alike(point.case, size), runs=[])
    outcomes = [_seeded(alike, seed) for seed in range(_SEEDS // 2)]
    return all(each.error is None for each in outcomes) and any(
        _by_lane(each, size) != _by_lane(outcomes[0], size) for each in outcomes
    )


def _alike(case: BatchCase, size: int) -> BatchCase:
    """The first lane many times, with the keys of all lanes."""
    change = _first_lane(size)
    args, kwargs = rebuilt(
        case.args, dict(case.kwargs), case.in_axes, lambda leaf, axis: leaf if axis is None else change(leaf, axis)
    )
    return replace(case, axis_size=size, args=args, kwargs=kwargs)


def _rng(point: Point) -> list[Finding]:
    size = point.case.axis_size
    first = _seeded(point, 0)
    if first.error is not None:
        raise first.error
    found = compare_outcomes(_seeded(point, 0), first, Sides("again", "the first time"), Tol(0))
    if found:
        return found
    pairs = set(itertools.combinations(range(size), 2))
    calls = any(_by_lane(_seeded(point, seed, keys=False), size) != _by_lane(first, size) for seed in (1, 2, 3))
    depends = False
    for seed in range(_SEEDS):
        outcome = _seeded(point, seed)
        lanes = _by_lane(outcome, size)
        depends = depends or lanes != _by_lane(first, size)
        pairs = {(one, other) for one, other in pairs if lanes[one] == lanes[other]}
        calls = calls and _repeats(point, seed)
        if not pairs and not calls and depends:
            break
    if not depends:
        raise StateTypeError(
            f"`check_rng` judges results that depend on random numbers, but those of `{point.name}` do not: other keys "
            "change nothing. Either nothing is drawn: switch drawing on (dropout by `fit=True`), or leave this check "
            "out. Or its key is fixed: take it as an argument, or draw from a `RandomState`."
        )
    return [*_of_lanes(pairs, size), *_of_calls(calls)] or _of_sizes(point, first)


def _of_lanes(pairs: set[tuple[int, int]], size: int) -> list[Finding]:
    if not pairs:
        return []
    one, other = min(pairs)
    rest = f", and {len(pairs) - 1} more pairs do" if len(pairs) > 1 else ""
    pattern = "all lanes draw with one key" if len(pairs) == size * (size - 1) // 2 else ""
    return [Finding("draws", f"lanes {one} and {other} draw the same numbers under {_SEEDS} seeds{rest}", pattern)]


def _of_calls(calls: bool) -> list[Finding]:
    text = f"a second call draws what the first has drawn, under {_SEEDS} seeds"
    return [Finding("draws", text, "the key is used twice: a stream is not advanced")] if calls else []


def _of_sizes(point: Point, first: Outcome) -> list[Finding]:
    size = point.case.axis_size
    larger = point.batch(_alike(point.case, size + 1), change=_first_lane(size + 1))
    smaller = point.batch(change=_first_lane(size))
    sides = Sides(f"among {size + 1} lanes", f"among {size}")
    return compare_batches(larger, smaller, sides, point.tol, lambda array: array, lambda array: array[:size])


def _first_lane(size: int) -> Any:
    """What repeats the first lane; keys are those of the lanes, and new ones beyond them."""

    def change(leaf: Any, axis: int) -> Any:
        if not is_key(leaf):
            return take_lanes(np.zeros(size, np.int64))(leaf, axis)
        keys = jnp.moveaxis(leaf, axis, 0)
        known = len(keys)
        return jnp.moveaxis(
            jnp.stack([keys[lane] if lane < known else _other(keys[lane % known], lane) for lane in range(size)]),
            0,
            axis,
        )

    return change


def _seeded(point: Point, seed: int, *, keys: bool = True) -> Outcome:
    """The batch with other streams, and other keys among its arguments."""
    program = point.batch_program(point.case.axis_size).call
    return _run(point, f"the batch with seed {seed}", program, seed, point.axes, keys=keys)


def _run(point: Point, label: str, program: Any, seed: int, axes: Axes, *, keys: bool = True) -> Outcome:
    case = point.case

    args, kwargs = jax.tree.map(
        lambda leaf: _other(leaf, seed) if keys and seed and is_key(leaf) else leaf, (case.args, dict(case.kwargs))
    )

    def prepare(args: Any, kwargs: Any) -> None:
        point.change_held(_first_lane(case.axis_size))
        graphs = [leaf for leaf in jax.tree.leaves((args, kwargs)) if is_graph_object(leaf)]
        for state in _states_of_keys((*point.closure.roots, *graphs)) if seed else ():
            state.value = _other(state.value, seed)

    return point.run(label, program, args, kwargs, axes, prepare)


def _states_of_keys(graph: Any) -> list[State]:
    return [held.state for held in states_in(graph) if isinstance(held.state, KeyStream)]


def _other(keys: Any, seed: int) -> Any:
    if not keys.ndim:
        return jax.random.fold_in(keys, seed)
    flat = keys.reshape(-1)
    return jax.vmap(lambda key: jax.random.fold_in(key, seed))(flat).reshape(keys.shape)


def _by_lane(outcome: Outcome, size: int) -> list[Any]:
    """The results of each lane, bit by bit."""
    columns = [front(leaf) for leaf in outcome.leaves if leaf.name.startswith("output") and leaf.axis is not None]
    return [tuple(column[lane].tobytes() for column in columns) for lane in range(size)]


def _repeats(point: Point, seed: int) -> bool:
    """Whether a second call, right after the first, draws the same."""
    program = point.batch_program(point.case.axis_size).call
    twice = Axes(point.case.in_axes, (point.case.out_axes,) * 2, point.states)

    def calls(*args: Any, **kwargs: Any) -> Any:
        return program(*args, **kwargs), program(*args, **kwargs)

    outcome = _run(point, "two calls", calls, seed, twice)
    outputs = [leaf for leaf in outcome.leaves if leaf.name.startswith("output")]
    half = len(outputs) // 2
    pairs = zip(outputs[:half], outputs[half:], strict=True)
    return all(plain(one.value).tobytes() == plain(other.value).tobytes() for one, other in pairs)
