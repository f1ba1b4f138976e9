"""Who owns what is new when lanes end: the arguments and results that reach it give it its axis."""

from typing import Any

from graphstate._trace import describe
from graphstate.errors import AliasError
from graphstate.graph._axes import StateAxes
from graphstate.graph._flatten import flatten
from graphstate.graph._graphdef import GraphDef
from graphstate.graph._layout import record_of
from graphstate.graph._path import shorten_path, show_path
from graphstate.graph._state import State

from ._axes import Axis, Spec, Terms

__all__ = ["Owners", "check_outside"]


class Owners:
    """Which of the roots that come out of the lanes own a place, and what axis that gives it.

    Args:
        graphdef: what comes out; the children of its root are the roots.
        specs: the axes of each root.
        terms: the words of the transform.
    """

    def __init__(self, graphdef: GraphDef, specs: list[Spec], terms: Terms) -> None:
        self.graphdef = graphdef
        self.specs = specs
        self.terms = terms
        self._reachable = [graphdef.reachable(child) for child in graphdef.children[0]]

    def of(self, place: int) -> list[tuple[Spec, tuple[Any, ...]]]:
        """The spec of each root that reaches a place, and a path from there."""
        paths = {path[0]: path[1:] for path in reversed(self.graphdef.paths(place))}
        first = self.graphdef.path(place)[1:]
        return [(self.specs[root], paths.get(root, first)) for root in self.roots(place)]

    def roots(self, place: int) -> list[int]:
        """The numbers of the roots that reach a place."""
        return [root for root, reachable in enumerate(self._reachable) if place in reachable]

    def axes(self, place: int, value: Any) -> dict[Axis, tuple[Any, ...]]:
        """Every axis that a State or array is given, and a path that gives it."""
        found: dict[Axis, tuple[Any, ...]] = {}
        for spec, path in self.of(place):
            record = record_of(self.graphdef.heads[place], value)  # type: ignore[arg-type]
            axis = self.terms.choose(spec, (path,), record) if isinstance(spec, StateAxes) else spec
            found.setdefault(axis, path)
        return found

    def axis(self, place: int, value: Any) -> tuple[Axis, tuple[Any, ...]]:
        """The axis of a new State or array."""
        found = self.axes(place, value)
        if len(found) > 1:
            axes = ", ".join(f"{shorten_path(path)} {self.terms.placed(axis)}" for axis, path in found.items())
            raise AliasError(
                f"A State has one {self.terms.axis}, but a new one comes out of the {self.terms.lane}s with "
                f"{len(found)}: {axes}. Give all the same."
            )
        return next(iter(found.items()))


def check_outside(item: Any, spec: Spec, path: tuple[Any, ...], terms: Terms) -> None:
    """An object of the caller's may come out of the lanes only where it is not mapped."""
    flat = flatten(item)
    for place in flat.graphdef.leaves:
        leaf = flat.objects[place]
        inner = (*path, *flat.graphdef.path(place))
        record = record_of(flat.graphdef.heads[place], leaf)  # type: ignore[arg-type]
        axis = terms.choose(spec, (inner,), record) if isinstance(spec, StateAxes) else spec
        if axis is not None:
            raise AliasError(
                f"The result has {show_path(inner)} {terms.placed(axis)}, but that is "
                f"{describe(leaf) if isinstance(leaf, State) else 'an array'}, which was made outside and is the same "
                f"object in all {terms.lane}s. Make it inside, or leave it whole: "
                f"`{terms.out_axes}=StateAxes({{filter: None, ...: {axis!r}}})`; then it stays the same object."
            )
