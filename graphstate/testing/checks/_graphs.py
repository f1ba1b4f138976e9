"""Checks of graphs: taken apart and put together again, by `split` and `merge` or by a pickle, they are the same."""

import pickle
import types
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax

from graphstate.errors import StateTypeError
from graphstate.graph import State, StateAxes, graphdef, merge, split, states
from graphstate.graph._attributes import is_graph_object
from graphstate.random import DEFAULT
from graphstate.testing._case import BatchCase
from graphstate.testing._closure import Closure
from graphstate.testing._compare import compare_outcomes
from graphstate.testing._findings import Finding, Sides
from graphstate.testing._outcome import Axes, Outcome, observe
from graphstate.testing._point import Point
from graphstate.testing._tolerance import Tol
from graphstate.testing._verdict import judge

__all__ = ["check_pickle", "check_roundtrip"]


def check_roundtrip(fn: Any, case: BatchCase | None = None, *, tol: Tol | None = None, batched: bool = False) -> None:
    """`merge(*split(node))` makes an equal graph: structure, sharing, values; with a case, results too.

    Args:
        fn: a Node; or a function, whose Nodes and States are looked at, and those among the arguments of the case.
        case: as in `check_vmap`. Calls are compared where `fn` is a Node or a method of one.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: it makes another one, differs from time to time, or changes the original.
        StateTypeError: there is no Node and no State.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst, numpy as np
        >>> gst.check_roundtrip(gs.nn.Linear(2, 3), gst.BatchCase(2, (np.ones((2, 2), "float32"),)))
    """
    _check("check_roundtrip", "split and merged, it is another", fn, case, tol, batched, _WAYS)


def check_pickle(fn: Any, case: BatchCase | None = None, *, tol: Tol | None = None, batched: bool = False) -> None:
    """A pickle of a Node makes an equal graph: structure, sharing, values; with a case, results too.

    Args:
        fn: as in `check_roundtrip`.
        case: as in `check_roundtrip`.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: it makes another one, or cannot be made.
        StateTypeError: there is no Node and no State.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst
        >>> gst.check_pickle(gs.nn.Linear(2, 3))
    """
    _check("check_pickle", "pickled, it is another", fn, case, tol, batched, {"the pickled copy": _pickled})


def _pickled(graph: Any) -> Any:
    return pickle.loads(pickle.dumps(graph))


def _by_kinds(graph: Any) -> Any:
    """Split by the type of each State, and the rest."""
    kinds: dict[Any, None] = dict.fromkeys(type(each) for each in states(graph).values())
    definition, *parts = split(graph, *sorted(kinds, key=lambda kind: kind.__name__), ...)
    return merge(definition, *reversed(parts))


_WAYS = {"split and merged": lambda graph: merge(*split(graph)), "split by type and merged": _by_kinds}


def _check(
    check: str,
    claim: str,
    fn: Any,
    case: BatchCase | None,
    tol: Tol | None,
    batched: bool,
    ways: Mapping[str, Callable[[Any], Any]],
) -> None:
    point = Point(check, claim, fn, case or BatchCase(0, ()), tol or Tol(), batched)
    roots = tuple(root for root in point.closure.roots if root is not DEFAULT)
    given = () if case is None else jax.tree.leaves((case.args, dict(case.kwargs)))
    graph = (*roots, *(leaf for leaf in given if is_graph_object(leaf)))
    if not graph:
        raise StateTypeError(
            f"`{check}` takes a graph apart, but `{point.name}` is no Node, and refers to none and to no State. Give "
            "the Node itself."
        )
    judge(point, lambda point: _compare_graphs(graph, ways))
    if case is not None and case.axis_size and callable(fn):
        judge(point, lambda point: _compare_calls(point, roots, ways))


def _compare_graphs(graph: tuple[Any, ...], ways: Mapping[str, Callable[[Any], Any]]) -> list[Finding]:
    before = _seen(graph)
    for name, way in ways.items():
        try:
            copies = [way(graph), way(graph)]
        except Exception as error:
            return [Finding("error", f"{name}: {type(error).__name__}: {str(error)[:600]}")]
        for copy, side in zip(copies, (name, f"{name} a second time"), strict=True):
            found = compare_outcomes(_seen(copy), before, Sides(side, "the original"), Tol(0))
            if found:
                return found
            if graphdef(copy) != graphdef(graph) or hash(graphdef(copy)) != hash(graphdef(graph)):
                return [Finding("structure", f"{side}, the GraphDef is not equal to that of the original")]
            shared = {id(each) for each in states(graph).values()} & {id(each) for each in states(copy).values()}
            if shared:
                return [Finding("sharing", f"{side}, {len(shared)} States are still those of the original")]
        found = compare_outcomes(_seen(graph), before, Sides("the original, afterwards", "before"), Tol(0))
        if found:
            return found
    return []


class _NoClosure(Closure):
    """Stands for a function that holds nothing."""

    def __init__(self) -> None:
        self.names = ()
        self.roots = ()


def _seen(graph: Any) -> Outcome:
    return observe(_NoClosure(), (graph,), {}, None, Axes(None, None, StateAxes({})))


def _compare_calls(point: Point, roots: tuple[Any, ...], ways: Mapping[str, Callable[[Any], Any]]) -> list[Finding]:
    """Calls of the copy of a Node, or of a method of it, and of the original."""
    for name, way in ways.items():
        copy = _rebound(point.function, way)
        if copy is None:
            return []
        other = replace(point, function=copy, runs=[])
        found = compare_outcomes(_call(other), _call(point), Sides(name, "the original"), point.tol)
        if found:
            return found
    return []


def _rebound(function: Any, way: Callable[[Any], Any]) -> Any:
    if is_graph_object(function) and not isinstance(function, State):
        return way(function)
    if isinstance(function, types.MethodType) and is_graph_object(function.__self__):
        return types.MethodType(function.__func__, way(function.__self__))
    return None


def _call(point: Point) -> Outcome:
    if point.batched:
        return point.batch()
    return point.lane(0)
