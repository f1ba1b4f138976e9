"""The names that a State gives to the axes of its array, and what maps do to them.

`State(value, axes=("embed", "mlp"))` says what each axis is. A map that stacks lanes adds an axis to the array and so
a name: its own, or None. In a lane the axis is not there, and neither is its name.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from graphstate._trace import Frame

from ._graphdef import GraphDef
from ._heads import Head, StateHead, StaticKey
from ._state import AXES, State, metadata_in, without_name

__all__ = ["lane_axes", "named_places", "seen_in", "unnamed", "with_lanes", "without_lanes"]


def named_places(graphdef: GraphDef) -> Sequence[int]:
    """The places of the States that name their axes."""
    return graphdef._cached("named_places", _named_places)  # type: ignore[no-any-return]


def lane_axes(axes: Iterable[tuple[int, Any]]) -> dict[int, int]:
    """The places with a lane axis, and where that is, of pairs of a place and what a map has for it."""
    return {place: axis for place, axis in axes if isinstance(axis, int)}


def with_lanes(graphdef: GraphDef, lanes: Mapping[int, int], name: Hashable) -> GraphDef:
    """The structure of a graph whose States have got a lane axis.

    Args:
        graphdef: the structure in a lane.
        lanes: for each place of a State that got one, where its array has it now.
        name: the name of that axis.
    """
    return _renamed(
        graphdef, {place: _with_name(names, lanes[place], name) for place, names in _named(graphdef, lanes)}
    )


def without_lanes(graphdef: GraphDef, lanes: Mapping[int, int]) -> GraphDef:
    """The structure of a graph as a lane sees it.

    Args:
        graphdef: the structure outside.
        lanes: for each place of a State that has a lane axis, where its array has it.
    """
    return _renamed(graphdef, {place: without_name(names, lanes[place]) for place, names in _named(graphdef, lanes)})


def seen_in(frame: Frame | None, graphdef: GraphDef, objects: Mapping[int, Any] | Sequence[Any]) -> GraphDef:
    """The structure of a graph as code that runs in `frame` sees it: its States may be mapped there.

    Args:
        frame: the innermost frame; None where nothing is being traced.
        graphdef: the structure as it was found.
        objects: the object at each place where there are names.
    """
    if frame is None:
        return graphdef
    changed = {}
    for place in named_places(graphdef):
        state = objects[place]
        if isinstance(state, State):
            changed[place] = metadata_in(frame, state).get(AXES)
    return _renamed(graphdef, changed)


def unnamed(head: Head) -> Head:
    """A head without the names of axes, as GraphStates have it: values in a lane map together with those outside."""
    if isinstance(head, StateHead) and head.metadata and _names(head) is not None:
        return replace(head, metadata=tuple([item for item in head.metadata if item[0] != AXES]))
    return head


def _named_places(graphdef: GraphDef) -> tuple[int, ...]:
    return tuple([place for place in graphdef.state_places if _names(graphdef.heads[place]) is not None])


def _names(head: Head) -> Any:
    """The names of the axes, or None."""
    assert isinstance(head, StateHead)
    return next((key.value for name, key in head.metadata if name == AXES), None) if head.metadata else None


def _named(graphdef: GraphDef, lanes: Mapping[int, int]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The places with a lane axis whose States name their axes, and these names."""
    for place in named_places(graphdef):
        names = _names(graphdef.heads[place])
        if place in lanes and isinstance(names, tuple):
            yield place, names


def _with_name(names: tuple[Any, ...], axis: int, name: Hashable) -> tuple[Any, ...]:
    position = axis % (len(names) + 1)
    return (*names[:position], name, *names[position:])


def _renamed(graphdef: GraphDef, changed: Mapping[int, Any]) -> GraphDef:
    """The structure with other names at these places: the same object each time, so that it keeps what it has found."""
    keys = {place: StaticKey(names) for place, names in changed.items() if names != _names(graphdef.heads[place])}
    if not keys:
        return graphdef
    return graphdef.kept.get((_renamed, *keys.items()), lambda: _with_keys(graphdef, keys))


def _with_keys(graphdef: GraphDef, keys: Mapping[int, StaticKey]) -> GraphDef:
    heads = list(graphdef.heads)
    for place, names in keys.items():
        head = heads[place]
        assert isinstance(head, StateHead)
        heads[place] = replace(
            head, metadata=tuple([(name, names if name == AXES else key) for name, key in head.metadata])
        )
    return GraphDef(tuple(heads), graphdef.children)
