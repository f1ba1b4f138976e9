"""Shardings for the inputs and outputs of a compiled program, from prefix trees over arguments and result.

A Node is one leaf of such a tree: a sharding there holds for all its States, a mapping from filters to shardings
chooses for each. A State of an argument that is written keeps the sharding that it came in with, if one was given.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Sharding

from graphstate._lift.call._arguments import Joint, Shape, argument_names, function_name
from graphstate._lift.call._boundary import Departure, FromArgument, FromGraph, FromOutside, Restructuring
from graphstate.errors import AliasError, ShardingError
from graphstate.filters import to_predicate
from graphstate.graph._graphdef import GraphDef
from graphstate.graph._layout import record_of
from graphstate.graph._path import Path, shorten_path
from graphstate.graph._plan import plan_of
from graphstate.graph._selection import check_order

__all__ = ["InputShardings", "iter_leaves", "output_shardings"]


class InputShardings:
    """The shardings of the arguments of a call.

    Args:
        prefix: a prefix tree over the positional arguments; None for none.
        shape: what the arguments look like.
        joint: the graph that they make together.
        function: the user's function, for messages.

    Attributes:
        targets: for each State and array of the arguments' graph its sharding, or None.
        arrays: for each of the other arguments.

    Raises:
        ShardingError: the prefix tree does not fit the arguments.
        AliasError: one State has two shardings.
    """

    def __init__(self, prefix: Any, shape: Shape, joint: Joint, function: Callable[..., Any]) -> None:
        self._function = function
        self._names = argument_names(shape.treedef, function)
        marks, _ = jax.tree.unflatten(shape.treedef, range(shape.treedef.num_leaves))
        prefix = tuple(prefix) if isinstance(prefix, list) else prefix
        given = spread(prefix, marks, f"the positional arguments of `{function_name(function)}`", "in_shardings")
        self.arrays = [_of_array(given.get(spot), self._names[spot], "in_shardings") for spot in shape.rest]
        self.targets: list[Any] = [None] * len(joint.graphdef.leaves if shape.spots else ())
        self._labels: list[str] = [""] * len(self.targets)
        for number, spot in enumerate(shape.spots):
            self._place(joint.graphdef, number if len(shape.spots) > 1 else None, spot, given.get(spot))

    def __bool__(self) -> bool:
        return any(each is not None for each in (*self.targets, *self.arrays))

    def _place(self, graphdef: GraphDef, root: int | None, spot: int, spec: Any) -> None:
        chosen = _below(graphdef, root, spec)
        for number, paths in iter_leaves(graphdef, root):
            sharding = chosen.get(number)
            label = f"{self._names[spot]}.{shorten_path(paths[0])}" if paths[0] else self._names[spot]
            known, first = self.targets[number], self._labels[number]
            if first and known != sharding:
                raise AliasError(
                    f"A State has one sharding, but `{first}` and `{label}` are the same State, and `in_shardings` "
                    f"gives the first {known}, the second {sharding}. Give both the same, or clone one of them."
                )
            self.targets[number], self._labels[number] = sharding, label

    def check(self, values: Sequence[Any], arrays: Sequence[Any], spots: Sequence[int]) -> None:
        """Names the first input that lies otherwise than its sharding says; JAX does not know what it is called.

        Raises:
            ShardingError: there is one.
        """
        labels = [*self._labels, *(self._names[spot] for spot in spots)]
        for label, wanted, value in zip(labels, (*self.targets, *self.arrays), (*values, *arrays), strict=True):
            for leaf in jax.tree.leaves(value) if isinstance(wanted, Sharding) else ():
                if getattr(leaf, "committed", False) and not leaf.sharding.is_equivalent_to(wanted, leaf.ndim):
                    raise ShardingError(
                        f"`in_shardings` of `{function_name(self._function)}` says that `{label}` is sharded as "
                        f"{wanted}, but it was put somewhere else: {leaf.sharding}. Move it first, with "
                        "`jax.device_put(value, sharding)`, or give None, which takes it as it lies."
                    )


def spread(prefix: Any, marks: Any, what: str, parameter: str) -> dict[int, Any]:
    """What a prefix tree says for each leaf of `marks`, a tree of numbers.

    Raises:
        ShardingError: it is no prefix of the tree.
    """
    if prefix is None or not jax.tree_util.is_tree_node(type(prefix)):
        return dict.fromkeys(jax.tree.leaves(marks), prefix)
    if type(marks) is int:
        return {marks: prefix}
    (below, structure), (above, given) = _level(marks), _level(prefix)
    if structure != given:
        raise ShardingError(
            f"`{parameter}` must be a prefix tree of {what}: a sharding or None where these have leaves or subtrees. "
            f"But it has {prefix!r} where they have a {type(marks).__name__} of {len(below)}. A Node is one leaf."
        )
    found: dict[int, Any] = {}
    for part, mark in zip(above, below, strict=True):
        found |= spread(part, mark, what, parameter)
    return found


def _level(tree: Any) -> tuple[list[Any], Any]:
    return jax.tree.flatten(tree, is_leaf=lambda part: part is not tree)


def _of_array(spec: Any, name: str, parameter: str) -> Any:
    if isinstance(spec, Mapping | tuple | list) and jax.tree_util.is_tree_node(type(spec)):
        raise ShardingError(
            f"`{parameter}` takes a sharding or None for an array, but `{name}` is an array, and for it stands "
            f"{spec!r}. A choice by filter is for Nodes and States."
        )
    return spec


def _chosen(spec: Any, paths: Sequence[Path], record: Any) -> Any:
    """The sharding of one State: that of the first filter that matches it, None where none does."""
    if not isinstance(spec, Mapping):
        return spec
    check_order(tuple(spec))
    return next((sharding for each, sharding in spec.items() if to_predicate(each).matches(paths, record)), None)


def iter_leaves(graphdef: GraphDef, root: int | None) -> Iterator[tuple[int, list[Path]]]:
    """The leaves below one of several roots, by number, with their paths from there; of all where there is one root."""
    for number, place in enumerate(graphdef.leaves):
        paths = [path if root is None else path[1:] for path in graphdef.paths(place) if root in (None, *path[:1])]
        if paths:
            yield number, paths


def output_shardings(
    prefix: Any, departure: Departure, closed: Sequence[Any], kept: Mapping[int, Any], graphdef: GraphDef, several: bool
) -> tuple[Any, ...]:
    """The shardings of what a program returns.

    Args:
        prefix: a prefix tree over the result; None for none.
        departure: what comes out of the arguments' graph.
        closed: the States of the closure that are written.
        kept: the shardings that written States of the arguments came in with, by number.
        graphdef: the arguments' graph.
        several: whether it has several roots.

    Raises:
        ShardingError: the prefix tree does not fit the result.
    """
    marks = jax.tree.unflatten(departure.treedef, range(departure.treedef.num_leaves))
    given = spread(prefix, marks, "the result", "out_shardings")
    restructuring = departure.restructuring
    written, outer, fresh = dict(kept), dict[int, Any](), dict[int, Any]()
    results = []
    for mark, source in enumerate(departure.sources):
        spec = given.get(mark)
        match source:
            case FromArgument(root=root):
                written.update(_below(graphdef, root if several else None, spec))
                if restructuring is not None:
                    fresh.update(_by_place(restructuring.graphdef, root, spec))
            case FromGraph(place=place):
                assert restructuring is not None
                made = restructuring.graphdef
                by_place = _by_place(made, made.children[0].index(place), spec)
                fresh.update(by_place)
                written.update(_of_origins(restructuring, by_place, graphdef))
            case FromOutside():
                plan = plan_of(source.object)
                found = _below(plan.graphdef, None, spec)
                outer.update((id(plan.leaves[number]), sharding) for number, sharding in found.items())
            case _:
                results.append(_of_array(spec, f"leaf {mark} of the result", "out_shardings"))
    return (
        jax.tree.unflatten(departure.treedef, results) if departure.only_arrays else results,
        [written.get(number) for number in departure.written],
        [fresh.get(place) for place in (restructuring.fresh if restructuring is not None else ())],
        [outer.get(id(cell)) for cell in closed],
    )


def _by_place(graphdef: GraphDef, root: int, spec: Any) -> dict[int, Any]:
    return {graphdef.leaves[number]: sharding for number, sharding in _below(graphdef, root, spec).items()}


def _of_origins(restructuring: Restructuring, by_place: Mapping[int, Any], graphdef: GraphDef) -> dict[int, Any]:
    """The shardings of what was there before, by its number in the arguments' graph."""
    numbers = {place: number for number, place in enumerate(graphdef.leaves)}
    return {
        numbers[origin]: by_place[place]
        for place, origin in restructuring.origins
        if place in by_place and origin in numbers
    }


def _below(graphdef: GraphDef, root: int | None, spec: Any) -> dict[int, Any]:
    """The shardings that are given to the States and arrays below a root, by number."""
    found = {}
    for number, paths in iter_leaves(graphdef, root):
        record = record_of(graphdef.heads[graphdef.leaves[number]], None)  # type: ignore[arg-type] # leaves have such heads
        sharding = _chosen(spec, paths, record)
        if sharding is not None:
            found[number] = sharding
    return found
