"""Checks of lanes: all at once, in another order, in larger and smaller batches, in a map of maps."""

import operator
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from graphstate.graph import StateAxes
from graphstate.testing._arrays import stacked, take_lanes
from graphstate.testing._case import BatchCase
from graphstate.testing._compare import compare_batches
from graphstate.testing._findings import Finding, Sides, crash_of
from graphstate.testing._leaves import rebuilt
from graphstate.testing._loop import against_loop, compare_with_lanes
from graphstate.testing._outcome import Outcome
from graphstate.testing._point import Point
from graphstate.testing._programs import AxisTree, Form, inner_map, program_of
from graphstate.testing._tolerance import Tol
from graphstate.testing._verdict import judge

from ._start import point_of, refuse_draws

__all__ = [
    "check_batch_of_one",
    "check_batch_size_independence",
    "check_empty_batch",
    "check_nested_vmap",
    "check_permutation",
    "check_vmap",
    "nested",
]


def check_vmap(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """All lanes at once leave behind what one lane after another does: results, States and sharing.

    Args:
        fn: a function, a method, or a Node with a `__call__`, of the arguments of one lane; batched, of all lanes.
        case: the arguments of all lanes, and their axes.
        tol: what difference counts as rounding.
        batched: whether `fn` takes the batch as a whole; it is then compared with itself on batches of one.

    Raises:
        PropertyError: they do not, one of the two raises, or an operation gives something else each time.

    Example:
        >>> import graphstate.testing as gst, jax.numpy as jnp, numpy as np
        >>> case = gst.BatchCase(2, (np.float32([[0, 1], [2, 4]]),))
        >>> gst.check_vmap(jnp.cumsum, case)
        >>> gst.check_vmap(lambda x: x - x.mean(), case, batched=True)  # of all lanes
        Traceback (most recent call last):
        graphstate.errors.PropertyError: check_vmap: ...
    """
    point = point_of("check_vmap", "all lanes at once differ from one after another", fn, case, tol, batched)
    judge(point, _vmap)


def _vmap(point: Point) -> list[Finding]:
    if not point.case.axis_size:
        return _empty(point)
    findings = against_loop(point)
    refuse_draws(point, point.runs[0].outcome)
    return findings


def check_permutation(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """Lanes in another order give the same results in that order.

    Random numbers are those of the lane's number, whatever lies in it: they are drawn alike in all lanes here.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: they give others.

    Example:
        >>> import graphstate.testing as gst, jax.numpy as jnp, numpy as np
        >>> gst.check_permutation(jnp.tanh, gst.BatchCase(3, (np.arange(3.0),)))
    """
    point = point_of("check_permutation", "lanes in another order give other results", fn, case, tol, batched)
    judge(point, _permutation)


def _permutation(point: Point) -> list[Finding]:
    size = point.case.axis_size
    before = point.batch(rng="same")
    refuse_draws(point, before)
    sides = Sides("the permuted batch", "the batch, permuted afterwards,")
    # A map that rolls the lanes does not show when they are rolled, one that reverses them not when they are reversed.
    for order in (np.arange(size)[::-1], np.roll(np.arange(size), 1)):
        after = point.batch(point.case.permuted(order.tolist()), rng="same", change=take_lanes(order))
        found = compare_batches(after, before, sides, point.tol, operator.itemgetter(order))
        if found:
            return found
    return []


def check_batch_of_one(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """A batch of one lane gives what the lane gives by itself; batched, what it gives in the whole batch.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: it gives something else, as where a `squeeze` takes the lane axis away.

    Example:
        >>> import graphstate.testing as gst, jax.numpy as jnp, numpy as np
        >>> gst.check_batch_of_one(jnp.sum, gst.BatchCase(2, (np.ones((2, 3)),)))
    """
    point = point_of("check_batch_of_one", "a batch of one differs from its lane", fn, case, tol, batched)
    judge(point, _batch_of_one)


def _batch_of_one(point: Point) -> list[Finding]:
    if not point.case.axis_size:
        return []
    one = _resized(point, 1)
    refuse_draws(point, one)
    if not point.batched:
        lane = point.lane(0, eagerly=one.error is not None)
        return compare_with_lanes(point, one, [lane], Sides("the batch of one", "the lane"))
    sides = Sides("the batch of one", "the whole batch")
    return compare_batches(one, point.batch(), sides, point.tol, lambda array: array[:1])


def check_batch_size_independence(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """A lane does not depend on how many others there are.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: it does.

    Example:
        >>> import graphstate.testing as gst, numpy as np
        >>> case = gst.BatchCase(2, (np.ones((2, 3)),))
        >>> gst.check_batch_size_independence(lambda x: x / len(x), case, batched=True)
        Traceback (most recent call last):
        graphstate.errors.PropertyError: check_batch_size_independence: ...
    """
    claim = "lanes change with the number of lanes"
    point = point_of("check_batch_size_independence", claim, fn, case, tol, batched)
    judge(point, _batch_size_independence)


def _batch_size_independence(point: Point) -> list[Finding]:
    size = point.case.axis_size
    if not size:
        return []
    whole, larger = point.batch(), _resized(point, size + 1)
    refuse_draws(point, whole)
    sides = Sides(f"a batch of {size + 1}", f"the batch of {size}")
    return compare_batches(larger, whole, sides, point.tol, lambda array: array, lambda array: array[:size])


def check_empty_batch(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """A batch without lanes works, and has the structure, shapes and dtypes that any batch has.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`; its lanes are left out.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: it does not.

    Example:
        >>> import graphstate.testing as gst, jax.numpy as jnp, numpy as np
        >>> gst.check_empty_batch(jnp.negative, gst.BatchCase(2, (np.ones(2),)), batched=True)
    """
    point = point_of("check_empty_batch", "a batch without lanes is not like others", fn, case, tol, batched)
    judge(point, _empty)


def _empty(point: Point) -> list[Finding]:
    empty = _resized(point, 0)
    if not point.case.axis_size:
        if empty.error is not None:
            raise empty.error
        return [finding for leaf in empty.leaves if (finding := _without_lanes(leaf, None)) is not None]
    whole = point.batch()
    sides = Sides("the empty batch", "the batch")
    crash = crash_of(sides, empty, whole)
    if crash is not None:
        return [crash]
    if empty.treedef != whole.treedef or len(empty.leaves) != len(whole.leaves):
        return [Finding("output", f"the empty batch returns {empty.treedef}\nthe batch returns {whole.treedef}")]
    pairs = zip(empty.leaves, whole.leaves, strict=True)
    return [finding for one, other in pairs if (finding := _without_lanes(one, other)) is not None]


def _without_lanes(one: Any, other: Any) -> Finding | None:
    """Whether an array of the empty batch is like that of another one, but for its lanes."""
    shape = list(np.shape(one.value if other is None else other.value))
    if one.axis is not None and -len(shape) <= one.axis < len(shape):
        shape[one.axis] = 0
    wanted = tuple(shape), (one if other is None else other).value.dtype
    if (one.value.shape, one.value.dtype) == wanted:
        return None
    return Finding(
        one.name, f"the empty batch has {one.value.dtype}{list(one.value.shape)}, but {wanted[1]}{shape} is like others"
    )


def _resized(point: Point, size: int) -> Outcome:
    """The batch with another number of lanes."""
    index = np.arange(size) % max(point.case.axis_size, 1)
    return point.batch(point.case.with_batch(size), change=take_lanes(index))


def check_nested_vmap(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """A map of the map gives what the map gives for each entry.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`; the outer map has it twice, the second time with its lanes in another order.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`; the batched function itself is mapped then.

    Raises:
        PropertyError: it does not.

    Example:
        >>> import graphstate.testing as gst, jax.numpy as jnp, numpy as np
        >>> gst.check_nested_vmap(jnp.tanh, gst.BatchCase(3, (np.arange(3.0),)))
    """
    point = point_of("check_nested_vmap", "a map of the map differs from the map", fn, case, tol, batched)
    if case.axis_size:
        judge(point, lambda point: against_loop(nested(point)))


def nested(point: Point) -> Point:
    """The map itself as the function of one lane."""
    case, function = point.case, point.function
    order = np.roll(np.arange(case.axis_size), 1)

    def doubled(leaf: Any, axis: int | None) -> Any:
        return leaf if axis is None else stacked([leaf, take_lanes(order)(leaf, axis)])

    args, kwargs = rebuilt(case.args, dict(case.kwargs), case.in_axes, doubled)
    states = {each: None if axis is None else 0 for each, axis in point.states.by_filter().items()}
    outer = replace(
        case,
        axis_size=2,
        args=args,
        kwargs=kwargs,
        in_axes=_outer(case.in_axes),
        out_axes=_outer(case.out_axes),
        state_in_axes=StateAxes(states),
    )
    if not point.batched:
        axes = AxisTree.of(case.in_axes), AxisTree.of(case.out_axes)
        function = program_of(function, Form("inner vmap", inner_map, (*axes, point.states, case.axis_size))).call

    def setup(outer: Point) -> None:
        outer.change_held(lambda leaf, axis: stacked([leaf, leaf]))

    return replace(point, function=function, case=outer, batched=False, setup=setup)


def _outer(axes: Any) -> Any:
    """The axes of the outer map: the first one of all that the inner one maps."""

    def change(axis: Any) -> Any:
        if isinstance(axis, StateAxes):
            return StateAxes({each: None if inner is None else 0 for each, inner in axis.by_filter().items()})
        return None if axis is None else 0

    return jax.tree.map(change, axes, is_leaf=lambda leaf: leaf is None)
