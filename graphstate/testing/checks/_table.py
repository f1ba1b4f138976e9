"""All checks, each with what it applies to: `check_module` and the suite go through this table."""

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from graphstate.graph._attributes import is_graph_object
from graphstate.random import DEFAULT
from graphstate.testing._arrays import is_key
from graphstate.testing._case import BatchCase
from graphstate.testing._closure import streams_in
from graphstate.testing._differentiated import axes_of_gradient
from graphstate.testing._leaves import specs_of
from graphstate.testing._point import Point
from graphstate.testing._tolerance import Tol

from ._compiling import check_dtypes, check_jit, check_no_leaks, check_no_retrace
from ._devices import check_pmap
from ._gradients import check_grad, check_remat, has_gradient
from ._graphs import check_pickle, check_roundtrip
from ._lanes import check_lane_isolation
from ._loops import check_ensemble_step, check_scan, is_scannable
from ._mapping import (
    check_batch_of_one,
    check_batch_size_independence,
    check_empty_batch,
    check_nested_vmap,
    check_permutation,
    check_vmap,
)
from ._random import check_rng, depends_on_keys

__all__ = ["CHECKS", "Check"]


class Check(NamedTuple):
    """A check, and what it applies to.

    Attributes:
        name: its name.
        run: the check.
        of_steps: whether it is for steps of members.
        condition: whether it applies to the function and case of a point.
        compiles_anew: whether it compiles again each time.
    """

    name: str
    run: Callable[..., None]
    of_steps: bool
    condition: Callable[[Point], bool]
    compiles_anew: bool = False

    def applies(self, fn: Any, case: BatchCase, *, batched: bool = False) -> bool:
        """Whether the check can judge this function at this case."""
        return self.condition(Point(self.name, "", fn, case, Tol(), batched))


def _always(point: Point) -> bool:
    return True


def _compares_batches(point: Point) -> bool:
    return not (point.batched and point.batch().drew)


def _draws(point: Point) -> bool:
    given = jax.tree.leaves((point.case.args, dict(point.case.kwargs)))
    may_draw = point.case.axis_size > 0 and (any(map(is_key, given)) or point.batch().drew)
    return may_draw and depends_on_keys(point)


def _has_parameters(point: Point) -> bool:
    return bool(axes_of_gradient(point.case, point.closure, point.states)) and has_gradient(point)


def _compares_gradients(point: Point) -> bool:
    return _has_parameters(point) and _compares_batches(point)


def _has_steps(point: Point) -> bool:
    leaves, specs = specs_of(point.case.args, dict(point.case.kwargs), point.case.in_axes)
    mapped = [leaf for leaf, spec in zip(leaves, specs, strict=True) if is_graph_object(leaf) and spec is not None]
    return is_scannable(point.case) and not any(streams_in(node) for node in mapped)


def _has_devices(point: Point) -> bool:
    return jax.device_count() > 1


def _has_graph(point: Point) -> bool:
    given = jax.tree.leaves((point.case.args, dict(point.case.kwargs)))
    return any(root is not DEFAULT for root in point.closure.roots) or any(map(is_graph_object, given))


def _can_be_pickled(point: Point) -> bool:
    roots = [root for root in point.closure.roots if root is not DEFAULT]
    try:
        pickle.dumps((roots, point.case.args, point.case.kwargs))
    except Exception:
        return False
    return _has_graph(point)


def _has_members(point: Point) -> bool:
    leaves, specs = specs_of(point.case.args, dict(point.case.kwargs), point.case.in_axes)
    return any(is_graph_object(leaf) and spec is not None for leaf, spec in zip(leaves, specs, strict=True))


_ANEW = (check_no_leaks, check_no_retrace, check_pickle, check_roundtrip)

CHECKS = tuple(
    Check(run.__name__, run, run is check_ensemble_step, condition, run in _ANEW)
    for run, condition in (
        (check_vmap, _compares_batches),
        (check_lane_isolation, _always),
        (check_permutation, _compares_batches),
        (check_batch_of_one, _compares_batches),
        (check_batch_size_independence, _compares_batches),
        (check_empty_batch, _always),
        (check_nested_vmap, _always),
        (check_jit, _always),
        (check_dtypes, _always),
        (check_no_retrace, _always),
        (check_no_leaks, _always),
        (check_grad, _compares_gradients),
        (check_remat, _has_parameters),
        (check_scan, _has_steps),
        (check_rng, _draws),
        (check_pmap, _has_devices),
        (check_roundtrip, _has_graph),
        (check_pickle, _can_be_pickled),
        (check_ensemble_step, _has_members),
    )
)
"""The checks, in the order in which their messages help most."""
