"""Carrying a graph into a trace and back out of it.

`enter` builds inside of the trace copies of the Nodes and States in the arguments, so that user code may change
them freely. `leave` says what became of them: which States were written, what else changed, what the result is
made of. The static half of that answer, a `Departure`, is kept with the traced program; the values leave through
JAX; and `arrive`, outside, applies both to the caller's objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import jax

from graphstate._lift.watch._guard import cached_property_filled
from graphstate._lift.watch._seen import by_id
from graphstate._trace import Frame, check_in_place, commit, pack, unpack
from graphstate.errors import StateTypeError, TraceContextError
from graphstate.graph._attributes import cached_properties, is_graph_object
from graphstate.graph._axis_names import lane_axes, with_lanes, without_lanes
from graphstate.graph._flatten import Flat, flatten_within, unflatten
from graphstate.graph._graphdef import GraphDef
from graphstate.graph._heads import ArrayHead, StateHead
from graphstate.graph._node import Node
from graphstate.graph._replace import replace_part
from graphstate.graph._state import State

from ._arguments import WITH_IDENTITY, Arguments, is_array_like

__all__ = [
    "Departure",
    "FromArgument",
    "FromGraph",
    "FromOutside",
    "FromValues",
    "Inside",
    "Leaving",
    "Restructuring",
    "Source",
    "arrive",
    "check_containers",
    "enter",
    "leave",
    "not_an_array",
]


class Inside:
    """The copies of the arguments' graph in a trace.

    Attributes:
        graphdef: the structure that came in.
        objects: the copy at each place.
        initial: what each State holds (packed) and each array is, in order, before user code ran.
        roots: the copies of the arguments' graph objects.
        given: the arguments that the user's function gets.
    """

    __slots__ = ("given", "graphdef", "initial", "objects", "roots")

    def __init__(self, graphdef: GraphDef, objects: list[Any], roots: list[Any], initial: list[Any]) -> None:
        self.given: Any = ()
        self.graphdef = graphdef
        self.objects = objects
        self.roots = roots
        self.initial = initial


def enter(
    frame: Frame,
    arguments: Arguments,
    values: Sequence[Any],
    arrays: Sequence[Any],
    axes: Sequence[Any] | None = None,
) -> tuple[Inside, Any, Any]:
    """Builds the arguments in the trace of `frame`.

    Args:
        frame: the frame, entered.
        arguments: the arguments outside.
        values: the values of `arguments.targets`, as they are inside.
        arrays: the leaves that are no graph objects, as they are inside.
        axes: for each of `arguments.targets` the axis whose slice is inside; None for what is whole there.

    Returns:
        The copies, and `args` and `kwargs` to call the user's function with.
    """
    shape, graphdef = arguments.shape, _structure_inside(arguments, axes)
    leaves: list[Any] = [None] * len(arguments.leaves)
    for spot, value in zip(shape.rest, arrays, strict=True):
        leaves[spot] = value
    inside = _build(graphdef, arguments, values, len(shape.spots))
    for spot, root in zip(shape.spots, inside.roots, strict=True):
        leaves[spot] = root
    for target, place in zip(arguments.targets, graphdef.leaves, strict=True):
        if isinstance(target, State):
            copy = inside.objects[place]
            frame.aliases[id(target)], frame.origins[id(copy)] = copy, target
    inside.given = args, kwargs = jax.tree.unflatten(shape.treedef, leaves)
    return inside, args, kwargs


def _structure_inside(arguments: Arguments, axes: Sequence[Any] | None) -> GraphDef:
    """The structure of the arguments' graph, where the names of axes are those of what is inside."""
    graphdef = arguments.graphdef
    if axes is None or not arguments.roots:
        return graphdef
    return without_lanes(graphdef, lane_axes(zip(graphdef.leaves, axes, strict=True)))


def _build(graphdef: GraphDef, arguments: Arguments, values: Sequence[Any], count: int) -> Inside:
    if count == 0:
        return Inside(graphdef, [], [], [])
    places = graphdef.leaves
    initial = [
        pack(value) if isinstance(graphdef.heads[place], StateHead) else value
        for place, value in zip(places, values, strict=True)
    ]
    objects = unflatten(graphdef, initial)
    for place, target in zip(places, arguments.targets, strict=True):
        if isinstance(target, State):
            objects[place]._place = target._place
    roots = [objects[0]] if count == 1 else list(objects[0])
    return Inside(graphdef, objects, roots, initial)


# Leaving


@dataclass(frozen=True, slots=True)
class FromArgument:
    """A result that is one of the arguments' graph objects."""

    root: int


@dataclass(frozen=True, slots=True)
class FromGraph:
    """A result that is an object of the graph that comes out."""

    place: int


@dataclass(frozen=True, slots=True)
class FromOutside:
    """A result that is an object of the caller's, reached through a closure."""

    ref: Any

    @property
    def object(self) -> Any:
        """The object; the caller holds it, else the closure could not have been found unchanged."""
        return self.ref.get()


@dataclass(frozen=True, slots=True)
class FromValues:
    """A result that is an array."""


Source = FromArgument | FromGraph | FromOutside | FromValues
_ARRAY: Final = FromValues()


@dataclass(frozen=True, slots=True)
class Restructuring:
    """How the graph of the arguments and the results is built outside.

    Attributes:
        graphdef: the structure; its root is the tuple of the arguments' roots and the results' graph objects.
        origins: for each place that has one, the place of the same object in the graph that came in.
        outside: weak references to objects of the caller's, by place.
        fresh: the places whose values leave through JAX.
    """

    graphdef: GraphDef
    origins: tuple[tuple[int, int], ...]
    outside: tuple[tuple[int, Any], ...]
    fresh: tuple[int, ...]

    def is_known(self, place: int) -> bool:
        """Whether the object at a place, or a part of it, was there before."""
        known = {each for each, _ in (*self.origins, *self.outside)}
        return not known.isdisjoint(self.graphdef.reachable(place))

    def stacked(self, axes: Sequence[Any], name: Any) -> "Restructuring":
        """The same, of lanes whose values were stacked.

        Args:
            axes: for each of `fresh` its lane axis; None for what has none.
            name: the name of the lane axis.
        """
        lanes = lane_axes(zip(self.fresh, axes, strict=True))
        return replace(self, graphdef=with_lanes(self.graphdef, lanes, name))


@dataclass(frozen=True, slots=True)
class Departure:
    """The static half of what comes out of a trace.

    Attributes:
        treedef: the structure of the result.
        sources: where each leaf of the result comes from.
        written: which of the arguments' States and arrays were replaced, by their number among the leaves.
        restructuring: what else changed; None where nothing did.
        is_same: whether the arguments' graph kept its structure.
        only_arrays: whether the result holds no graph objects.
    """

    treedef: Any
    sources: tuple[Source, ...]
    written: tuple[int, ...]
    restructuring: Restructuring | None
    is_same: bool
    only_arrays: bool


@dataclass(slots=True)
class Leaving:
    """What comes out of a trace: the static half, and three lists of values.

    Attributes:
        departure: the static half.
        results: the arrays of the result.
        written: the values of the States that were written.
        fresh: the values of new States and arrays.
    """

    departure: Departure
    results: list[Any]
    written: list[Any]
    fresh: list[Any]


def leave(frame: Frame, inside: Inside, result: Any, transform: str) -> Leaving:
    """What became of the arguments' graph, and what the result is made of.

    Raises:
        StateTypeError: a leaf of the result is neither a graph object nor an array.
        TraceContextError: a container read from a State was changed in place, or a list or dict among the arguments
            has got other Nodes or States.
    """
    _check_given(inside, transform)
    leaves, treedef = jax.tree.flatten(result)
    written, values = _written(inside)
    objects = [leaf for leaf in leaves if is_graph_object(leaf)]
    results = [leaf for leaf in leaves if not is_graph_object(leaf)]
    if any(not is_array_like(leaf) for leaf in results):
        raise not_an_array(result, transform)
    if not objects and not inside.roots:
        departure = Departure(treedef, (_ARRAY,) * len(leaves), (), None, True, True)
        return Leaving(departure, results, [], [])
    out = flatten_inside(frame, (*inside.roots, *objects))
    _check_cached_properties(inside)
    count = len(inside.roots)
    unchanged = not inside.roots or _is_unchanged(inside, out)
    if unchanged:
        arrays = _replaced_arrays(inside, out)
        written, values = (*written, *arrays), [*values, *arrays.values()]
    roots = {id(root): number for number, root in reversed(list(enumerate(inside.roots)))}
    sources = [_source(leaf, out, count + position, roots) for position, leaf in enumerate(objects)]
    restructuring: Restructuring | None = None
    fresh: list[Any] = []
    if not unchanged or any(isinstance(source, FromGraph) for source in sources):
        restructuring, fresh = _restructure(inside, out)
    following = iter(sources)
    placed = tuple(next(following) if is_graph_object(leaf) else _ARRAY for leaf in leaves)
    departure = Departure(treedef, placed, written, restructuring, unchanged, not objects)
    return Leaving(departure, results, values, fresh)


class Out:
    """The graph that comes out, with the caller's own objects left out of it by place."""

    __slots__ = ("flat", "outside")

    def __init__(self, flat: Flat, outside: dict[int, Any]) -> None:
        self.flat = flat
        self.outside = outside


def flatten_inside(frame: Frame, roots: tuple[Any, ...]) -> Out:
    """Walks what was born in the trace of `frame`, and stops at the caller's own objects."""

    def is_outside(value: Any) -> bool:
        if isinstance(value, Node):
            return value._graph_home is not frame.home
        return isinstance(value, State) and value._home is not frame.home

    return Out(*flatten_within(roots, is_outside))


def _check_given(inside: Inside, transform: str) -> None:
    """Raises where the arguments' containers, which are copies, have got or lost a graph object: it would be lost."""
    given = jax.tree_util.tree_leaves_with_path(inside.given)
    now = [(path, leaf) for path, leaf in given if is_graph_object(leaf)]
    if len(now) == len(inside.roots) and all(leaf is root for (_, leaf), root in zip(now, inside.roots, strict=True)):
        return
    known = set(map(id, inside.roots))
    new = [f"a {type(leaf).__name__} is new at {_shown(path)}" for path, leaf in now if id(leaf) not in known]
    fewer = f"{len(now)} instead of {len(inside.roots)}"
    raise TraceContextError(
        f"A list or dict that was passed to a function in `{transform}` holds other Nodes or States than before: "
        f"{new[0] if new else fewer if len(now) < len(inside.roots) else 'they stand elsewhere'}. In a transform it is "
        "a copy, so that this would be lost. Return a new one, as `[*layers, layer]`, or let a Node hold it: what "
        "changes in a Node comes out."
    )


def _shown(path: Sequence[Any]) -> str:
    """How messages call a place in `(args, kwargs)`."""
    first, inner = path[1], jax.tree_util.keystr(tuple(path[2:]))
    return f"argument {first.idx}{inner}" if isinstance(first, jax.tree_util.SequenceKey) else f"`{first.key}{inner}`"


def check_containers(inside: Inside) -> None:
    """Raises where a container read from a State of the arguments was changed in place."""
    for item in inside.objects:
        if isinstance(item, State):
            check_in_place(item._held)


def _check_cached_properties(inside: Inside) -> None:
    for item in inside.objects:
        if isinstance(item, Node) and (filled := cached_properties(item)):
            raise cached_property_filled(item, min(filled))


def _written(inside: Inside) -> tuple[tuple[int, ...], list[Any]]:
    numbers, values = [], []
    for number, (place, before) in enumerate(
        zip(inside.graphdef.leaves if inside.roots else (), inside.initial, strict=True)
    ):
        state = inside.objects[place]
        if not isinstance(state, State):
            continue
        now = state._held
        check_in_place(now)
        if now is not before:
            numbers.append(number)
            values.append(unpack(now))
    return tuple(numbers), values


def _is_unchanged(inside: Inside, out: Out) -> bool:
    """Whether the arguments' graph has the structure that it came in with; arrays may have been replaced."""
    entered = len(inside.graphdef.heads)
    heads, children, objects = out.flat.graphdef.heads, out.flat.graphdef.children, out.flat.objects
    shift = _shift(inside)
    if len(heads) < entered + shift:
        return False
    for place in range(1 - shift, entered):
        moved = place + shift
        if heads[moved] != inside.graphdef.heads[place]:
            return False
        if children[moved] != tuple(child + shift for child in inside.graphdef.children[place]):
            return False
        if isinstance(heads[moved], WITH_IDENTITY):
            if objects[moved] is not inside.objects[place]:
                return False
        elif isinstance(heads[moved], ArrayHead) and objects[moved] is not inside.objects[place]:
            parent, _ = inside.graphdef.edges[place]
            if not isinstance(inside.graphdef.heads[parent], WITH_IDENTITY):
                return False
    return True


def _shift(inside: Inside) -> int:
    """How places were renumbered: what comes out starts with the tuple of roots, what came in only with several."""
    return 0 if len(inside.roots) > 1 else 1


def _replaced_arrays(inside: Inside, out: Out) -> dict[int, Any]:
    """The arrays, by number, that were replaced by others."""
    shift = _shift(inside)
    return {
        number: out.flat.objects[place + shift]
        for number, place in enumerate(inside.graphdef.leaves if inside.roots else ())
        if isinstance(inside.graphdef.heads[place], ArrayHead)
        and out.flat.objects[place + shift] is not inside.objects[place]
    }


def _source(leaf: Any, out: Out, child: int, roots: dict[int, int]) -> Source:
    if id(leaf) in roots:
        return FromArgument(roots[id(leaf)])
    place = out.flat.graphdef.children[0][child]
    if place in out.outside:
        return FromOutside(by_id(leaf))
    return FromGraph(place)


def _restructure(inside: Inside, out: Out) -> tuple[Restructuring, list[Any]]:
    origin = {id(item): place for place, item in enumerate(inside.objects)}
    arrays = {id(inside.objects[place]) for place in inside.graphdef.leaves} if inside.roots else set()
    origins, fresh, values = [], [], []
    graphdef = out.flat.graphdef
    for place, (head, item) in enumerate(zip(graphdef.heads, out.flat.objects, strict=True)):
        known = origin.get(id(item))
        if place in out.outside:
            continue
        if (isinstance(head, WITH_IDENTITY) and known is not None) or (
            isinstance(head, ArrayHead) and known is not None and id(item) in arrays
        ):
            origins.append((place, known))
        elif isinstance(head, StateHead):
            fresh.append(place)
            values.append(unpack(item._held))
        elif isinstance(head, ArrayHead):
            fresh.append(place)
            values.append(item)
    return Restructuring(
        graphdef, tuple(origins), tuple((place, by_id(item)) for place, item in out.outside.items()), tuple(fresh)
    ), values


def not_an_array(result: Any, transform: str) -> StateTypeError:
    for path, leaf in jax.tree_util.tree_leaves_with_path(result):
        if not is_graph_object(leaf) and not is_array_like(leaf):
            where = jax.tree_util.keystr(path)
            return StateTypeError(
                f"A function transformed by `{transform}` returns Nodes, States and pytrees of arrays, but its "
                f"result{where and f' at {where}'} "
                f"is {str(leaf)[:60]!r} of type {type(leaf).__name__}. Return it from outside of the transform, or "
                "keep it as a static attribute of a Node."
            )
    raise AssertionError


# Arriving


def arrive(
    departure: Departure,
    arguments: Arguments,
    results: Sequence[Any],
    written: Sequence[Any],
    fresh: Sequence[Any],
) -> Any:
    """Applies what came out of a trace to the caller's objects; returns the result."""
    targets = arguments.targets
    if departure.written:
        replaced = list(zip(departure.written, written, strict=True))
        commit([(targets[number], pack(value)) for number, value in replaced if isinstance(targets[number], State)])
        _replace_arrays(
            arguments, {number: value for number, value in replaced if not isinstance(targets[number], State)}
        )
    if departure.restructuring is None and departure.only_arrays:
        return jax.tree.unflatten(departure.treedef, results)
    objects = [] if departure.restructuring is None else _rebuild(departure.restructuring, arguments, fresh)
    arrays = iter(results)
    leaves = [_place(source, arguments, objects, arrays) for source in departure.sources]
    return jax.tree.unflatten(departure.treedef, leaves)


def _replace_arrays(arguments: Arguments, arrays: dict[int, Any]) -> None:
    """Puts new arrays where the old ones were: attributes of Nodes, elements of lists and dicts."""
    if not arrays:
        return
    graphdef, objects = arguments.graphdef, arguments.objects()
    for number, value in arrays.items():
        parent, part = graphdef.edges[graphdef.leaves[number]]
        replace_part(graphdef.heads[parent], objects[parent], part, value)


def _place(source: Source, arguments: Arguments, objects: list[Any], arrays: Any) -> Any:
    match source:
        case FromValues():
            return next(arrays)
        case FromArgument(root=root):
            return arguments.roots[root]
        case FromOutside():
            return source.object
        case FromGraph(place=place):
            return objects[place]


def _rebuild(restructuring: Restructuring, arguments: Arguments, fresh: Sequence[Any]) -> list[Any]:
    before = arguments.objects() if arguments.roots else []
    existing = {place: before[origin] for place, origin in restructuring.origins}
    existing.update((place, ref.get()) for place, ref in restructuring.outside)
    graphdef = restructuring.graphdef
    values = dict(zip(restructuring.fresh, fresh, strict=True))
    leaf_values = [
        pack(values[place]) if place in values and isinstance(graphdef.heads[place], StateHead) else values.get(place)
        for place in graphdef.leaves
    ]
    return unflatten(graphdef, leaf_values, existing=existing)
