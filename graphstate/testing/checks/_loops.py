"""Checks of steps: in a compiled loop, and of an ensemble that is trained."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from graphstate.errors import StateTypeError
from graphstate.graph import StateAxes, clone, stack, state, take, update
from graphstate.graph._attributes import is_graph_object
from graphstate.testing._arrays import moved
from graphstate.testing._case import BatchCase
from graphstate.testing._compare import compare_outcomes
from graphstate.testing._findings import Finding, Sides
from graphstate.testing._leaves import rebuilt, specs_of
from graphstate.testing._loop import compare_with_lanes
from graphstate.testing._outcome import Axes
from graphstate.testing._point import Point
from graphstate.testing._programs import AxisTree, Form, looped, program_of
from graphstate.testing._tolerance import Tol
from graphstate.testing._verdict import judge

from ._mapping import nested
from ._start import point_of, refuse_draws

__all__ = ["check_ensemble_step", "check_scan", "is_scannable"]


def check_scan(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """A compiled loop over the lanes, as steps, leaves behind what a Python loop does: States are carried.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`; its lanes are the steps. Batched, it is the first step, and again with its lanes in
            another order the second one.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: it does not, as where a State changes its type from step to step.
        StateTypeError: States that the function refers to are mapped, or a Node by `StateAxes`: steps share them.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst, jax.numpy as jnp, numpy as np
        >>> total = gs.State(jnp.float32(0))
        >>> def add(x):
        ...     total.value += x
        ...     return total.value
        >>> gst.check_scan(add, gst.BatchCase(3, (np.float32([1, 2, 3]),)))
    """
    point = point_of("check_scan", "a compiled loop differs from a Python loop", fn, case, tol, batched)
    if not is_scannable(case):
        raise StateTypeError(
            "`check_scan` makes steps of the lanes, which share what the function refers to, but the case maps States "
            "by `state_in_axes`, or a Node by `StateAxes`. Leave these out, or give the Node one axis in `in_axes`."
        )
    if case.axis_size:
        judge(point, _scan)


def is_scannable(case: BatchCase) -> bool:
    """Whether lanes can be steps."""
    _, specs = specs_of(case.args, dict(case.kwargs), case.in_axes)
    return case.state_in_axes is None and not any(isinstance(spec, StateAxes) for spec in specs)


def _scan(point: Point) -> list[Finding]:
    if point.batched:
        point = _as_steps(point)
    case = point.case
    args, kwargs = rebuilt(
        case.args, dict(case.kwargs), case.in_axes, lambda leaf, axis: leaf if axis is None else moved(leaf, axis, 0)
    )
    in_axes = jax.tree.map(lambda axis: None if axis is None else 0, case.in_axes, is_leaf=lambda leaf: leaf is None)
    axes, tree = Axes(in_axes, 0, point.states), AxisTree.of(in_axes)
    scanned = program_of(point.function, Form("scan", looped, (tree, case.axis_size))).call
    step = point.lane_program().call

    def loop(*args: Any, **kwargs: Any) -> Any:
        return _python_loop(step, args, kwargs, in_axes, case.axis_size)

    compiled = point.run("scan", scanned, args, kwargs, axes)
    stepwise = point.run("the loop", loop, args, kwargs, axes)
    return compare_outcomes(compiled, stepwise, Sides("the compiled loop", "the Python loop"), point.tol)


def _as_steps(point: Point) -> Point:
    """Two batches, one after the other."""
    return replace(nested(point), runs=point.runs)


def _python_loop(step: Any, args: Any, kwargs: Any, in_axes: Any, size: int) -> Any:
    """The step for each slice; mapped Nodes are taken apart for it, and hold their new values afterwards."""
    leaves, specs = specs_of(args, kwargs, in_axes)
    treedef = jax.tree.structure((args, kwargs))
    spots = [spot for spot, spec in enumerate(specs) if spec is not None and is_graph_object(leaves[spot])]
    nodes = tuple(leaves[spot] for spot in spots)
    has_lanes = bool(state(nodes))  # members without a State are all alike, and no axis says how many there are
    members, results = [], []
    for index in range(size):
        given = [
            leaf if spec is None or is_graph_object(leaf) else leaf[index]
            for leaf, spec in zip(leaves, specs, strict=True)
        ]
        member = take(nodes, index) if has_lanes else clone(nodes)
        for spot, node in zip(spots, member, strict=True):
            given[spot] = node
        inner, named = jax.tree.unflatten(treedef, given)
        results.append(arrays_of(step(*inner, **named)))
        members.append(member)
    if nodes:
        update(nodes, state(stack(members)))
    return jax.tree.map(lambda *each: jnp.stack(each), *results)


def arrays_of(result: Any) -> Any:
    """A result without Nodes and States: those are not stacked, since they are seen where they live."""
    return jax.tree.map(lambda leaf: None if is_graph_object(leaf) else jnp.asarray(leaf), result)


def check_ensemble_step(step: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """A step of all members at once is the step of each: two steps, with all that they leave in models and optimizers.

    Args:
        step: the step of one member, that `graphstate.vmap` maps; batched, of the whole ensemble.
        case: the members, their optimizers and their data as `args`.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: it is not, as where gradients are clipped by their norm over all members.
        StateTypeError: no argument is a stack of members.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst, jax, jax.numpy as jnp, numpy as np
        >>> members = gs.vmap(lambda seed: gs.nn.Linear(2, 1, rng=gs.random.RandomState(seed)))(jnp.arange(2))
        >>> def step(layer, x):
        ...     gradient = gs.grad(lambda layer: layer(x).sum())(layer)
        ...     gs.update(layer, jax.tree.map(lambda p, g: p - g, gs.state(layer), gradient))
        >>> gst.check_ensemble_step(step, gst.BatchCase(2, (members, np.float32([1, 2])), in_axes=(0, None)))
    """
    claim = "a step of all members is not the step of each"
    point = point_of("check_ensemble_step", claim, step, case, tol, batched)
    leaves, specs = specs_of(case.args, dict(case.kwargs), case.in_axes)
    if not any(is_graph_object(leaf) and spec is not None for leaf, spec in zip(leaves, specs, strict=True)):
        raise StateTypeError(
            "`check_ensemble_step` needs members among the arguments of its case, as `gs.stack` or `gs.vmap` of a "
            "constructor makes them, but no argument is a Node with a lane axis. Use `check_vmap` for other functions."
        )
    if case.axis_size:
        judge(point, _ensemble_step)


_STEPS = 2


def _ensemble_step(point: Point) -> list[Finding]:
    program, single = point.batch_program(point.case.axis_size).call, point.lane_program().call
    case = replace(point.case, out_axes=(point.case.out_axes,) * _STEPS)
    steps = replace(point, case=case, runs=point.runs)
    sides = Sides("all members", "each member", "member")
    whole = steps.run("steps of all members", _repeated(program), case.args, case.kwargs, steps.axes)
    refuse_draws(point, whole)
    parts = [steps.lane(index, call=_repeated(single)) for index in range(case.axis_size)]
    if steps.case.axis_size and any(leaf.stream for leaf in whole.leaves) and whole.drew:
        whole, parts = _first_step(point)
        steps = point
    return compare_with_lanes(steps, whole, parts, sides)


def _first_step(point: Point) -> Any:
    """One step only: the streams of a second one are split from where the first has left those of the whole."""
    return point.batch(), point.lanes()


def _repeated(step: Any) -> Any:
    def steps(*args: Any, **kwargs: Any) -> Any:
        return tuple(step(*args, **kwargs) for _ in range(_STEPS))

    return steps
