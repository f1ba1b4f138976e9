"""The arguments of one call: which of them are graph objects, and the one graph that they make together."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final

import jax
import numpy as np

from graphstate._trace import Frame, copied, immutable, local, outer_value, unpack
from graphstate.errors import StateTypeError
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._axis_names import named_places, seen_in
from graphstate.graph._graphdef import GraphDef
from graphstate.graph._heads import DictHead, ListHead, NodeHead, StateHead
from graphstate.graph._path import shorten_path
from graphstate.graph._picker import picker
from graphstate.graph._plan import Plan, plan_of
from graphstate.graph._state import State
from graphstate.graph._walked import walk

__all__ = [
    "WITH_IDENTITY",
    "Arguments",
    "Joint",
    "Shape",
    "argument_names",
    "function_name",
    "gather",
    "is_array_like",
    "make_shape",
    "shown",
    "target_names",
]

WITH_IDENTITY: Final = (NodeHead, StateHead, ListHead, DictHead)
"""The heads of objects of which it matters which they are: what is changed in place."""

_ARRAY_TYPES: Final = (jax.Array, np.ndarray, np.generic, bool, int, float, complex, jax.ShapeDtypeStruct)


def is_array_like(value: Any) -> bool:
    """Whether JAX takes `value` as an array."""
    return (
        isinstance(value, _ARRAY_TYPES)
        or hasattr(value, "__jax_array__")
        or (hasattr(value, "shape") and hasattr(value, "dtype"))
    )


class Shape:
    """What arguments of one treedef and these leaf types look like.

    Attributes:
        spots: which leaves are graph objects.
        rest: which leaves are arrays.
        pick_rest: gives these, of the leaves of a call.
    """

    __slots__ = ("pick_rest", "rest", "serial", "spots", "treedef", "types")

    def __init__(
        self, serial: int, treedef: Any, types: tuple[type, ...], spots: tuple[int, ...], rest: tuple[int, ...]
    ) -> None:
        self.serial = serial
        self.treedef = treedef
        self.types = types
        self.spots = spots
        self.rest = rest
        self.pick_rest = picker(rest)


class Joint:
    """The graph that several objects make together.

    Attributes:
        graphdef: its structure; the root is the object itself where there is just one, else the tuple of them.
        picks: for each object which of its leaves were not met before; None for all of them.
        only_states: whether all leaves are States.
    """

    __slots__ = ("graphdef", "only_states", "picks")

    def __init__(self, roots: Sequence[Any], plans: Sequence[Plan]) -> None:
        self.picks: tuple[tuple[int, ...] | None, ...]
        self.only_states = all(plan.only_states for plan in plans)
        if len(roots) == 1:
            self.graphdef = plans[0].graphdef
            self.picks = (None,)
            return
        self.graphdef = walk(tuple(roots)).graphdef
        met: set[int] = set()
        self.picks = tuple(_fresh_leaves(root, plan, met) for root, plan in zip(roots, plans, strict=True))

    def leaves(self, plans: Sequence[Plan]) -> list[Any]:
        """The States and arrays of the joint graph, in order."""
        if len(plans) == 1:
            return plans[0].leaves
        found: list[Any] = []
        for plan, pick in zip(plans, self.picks, strict=True):
            found += plan.leaves if pick is None else [plan.leaves[index] for index in pick]
        return found


def _fresh_leaves(root: Any, plan: Plan, met: set[int]) -> tuple[int, ...] | None:
    """Which leaves of a plan are not reached through objects that were `met`, which this plan's then join."""
    objects, graphdef = plan.objects(root), plan.graphdef
    fresh = tuple(
        index for index, place in enumerate(graphdef.leaves) if id(objects[_owner(graphdef, place)]) not in met
    )
    met.update(id(item) for item, head in zip(objects, graphdef.heads, strict=True) if isinstance(head, WITH_IDENTITY))
    return None if len(fresh) == len(plan.leaves) else fresh


def _owner(graphdef: GraphDef, place: int) -> int:
    """The object with an identity that a place is, or is part of."""
    while not isinstance(graphdef.heads[place], WITH_IDENTITY) and place > 0:
        place = graphdef.edges[place][0]
    return place


class Arguments:
    """The arguments of one call.

    Attributes:
        leaves: all leaves of `(args, kwargs)`, graph objects among them.
        shape: which of them are what.
        roots: the graph objects, with their `plans`.
        joint: the graph of all of them.
        graphdef: its structure, as it is where the caller runs.
        targets: the States and arrays of that graph, in order.
    """

    __slots__ = ("graphdef", "joint", "leaves", "plans", "roots", "shape", "targets")

    def __init__(self, leaves: Sequence[Any], shape: Shape, joint: Joint | None = None) -> None:
        self.leaves = leaves
        self.shape = shape
        self.roots = [leaves[spot] for spot in shape.spots]
        self.plans = [plan_of(root) for root in self.roots]
        self.joint = joint or Joint(self.roots, self.plans)
        self.targets = self.joint.leaves(self.plans)
        frame, graphdef = local.frame, self.joint.graphdef
        self.graphdef: GraphDef = graphdef if frame is None else self._seen_in(frame, graphdef)

    def _seen_in(self, frame: Frame, graphdef: GraphDef) -> GraphDef:
        if not self.roots or not named_places(graphdef):
            return graphdef
        return seen_in(frame, graphdef, dict(zip(graphdef.leaves, self.targets, strict=True)))

    def objects(self) -> Sequence[Any]:
        """The object at each place of the joint graph."""
        if len(self.plans) == 1:
            return self.plans[0].objects(self.roots[0])
        return walk(tuple(self.roots)).objects

    def values(self) -> list[Any]:
        """The values of `targets`, as they are where the caller runs."""
        return [unpack(outer_value(leaf)) if isinstance(leaf, State) else leaf for leaf in self.targets]

    def held(self) -> list[Any]:
        """As `values`, but packed, and for a trace inside of the one that the caller runs in.

        A stream of random keys is handed on unread, and containers are copied: what the trace does to them in place
        must not reach the caller's.
        """
        return [copied(outer_value(leaf)) if isinstance(leaf, State) else immutable(leaf) for leaf in self.targets]

    def arrays(self) -> list[Any]:
        """The leaves that are no graph objects."""
        return [self.leaves[spot] for spot in self.shape.rest]


def make_shape(
    serial: int,
    leaves: Sequence[Any],
    treedef: Any,
    types: tuple[type, ...],
    transform: str,
    function: Callable[..., Any],
) -> Shape:
    """The shape of these arguments.

    Raises:
        StateTypeError: an argument is neither a graph object nor an array.
    """
    spots = tuple(spot for spot, leaf in enumerate(leaves) if is_graph_object(leaf))
    rest = tuple(spot for spot, leaf in enumerate(leaves) if not is_graph_object(leaf))
    for spot in rest:
        if not is_array_like(leaves[spot]):
            name = argument_names(treedef, function)[spot]
            leaf = leaves[spot]
            raise StateTypeError(
                f"`{transform}` takes Nodes, States and pytrees of arrays, but argument `{name}` of "
                f"`{function_name(function)}` is {str(leaf)[:60]!r} of type {type(leaf).__name__}. "
                + _way_out(transform, name, leaf)
            )
    return Shape(serial, treedef, types, spots, rest)


def _way_out(transform: str, name: str, leaf: Any) -> str:
    if name == "self" or (hasattr(leaf, "__dict__") and not callable(leaf)):
        way = f"Make {type(leaf).__name__} a subclass of `graphstate.Node`"
    else:
        way = "Bind it with `functools.partial`, or read it from the closure"
    return f"{way}, or name it in `static_argnames`." if transform == "jit" else f"{way}."


def function_name(function: Any) -> str:
    """How messages call a function."""
    return getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or type(function).__name__


def shown(value: Any) -> str:
    """How messages call a value of a kind that was not expected."""
    if isinstance(value, jax.Array | np.ndarray):
        return f"an array of shape {np.shape(value)}"
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"


def argument_names(treedef: Any, function: Callable[..., Any]) -> list[str]:
    """How messages call each leaf of `(args, kwargs)`."""
    marks = jax.tree.unflatten(treedef, list(range(treedef.num_leaves)))
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = []
    for path, _ in jax.tree_util.tree_leaves_with_path(marks):
        first, inner = path[1], path[2:]
        name = str(first.key) if path[0].idx == 1 else _positional_name(parameters, first.idx)
        names.append(name + jax.tree_util.keystr(inner))
    return names


def _positional_name(parameters: list[inspect.Parameter], index: int) -> str:
    for position, parameter in enumerate(parameters):
        if parameter.kind is parameter.VAR_POSITIONAL:
            return f"{parameter.name}[{index - position}]"
        if position == index:
            return parameter.name
    return f"argument {index}"


def gather(args: tuple[Any, ...], kwargs: dict[str, Any], transform: str, function: Callable[..., Any]) -> Arguments:
    """The arguments of a call that nothing is remembered of."""
    leaves, treedef = jax.tree.flatten((args, kwargs))
    return Arguments(leaves, make_shape(0, leaves, treedef, tuple(map(type, leaves)), transform, function))


def target_names(arguments: Arguments, function: Callable[..., Any]) -> list[str]:
    """How messages call each of the `targets`: the argument, and the path in it."""
    names = argument_names(arguments.shape.treedef, function)
    labels = [names[spot] for spot in arguments.shape.spots]
    graphdef = arguments.graphdef
    found = []
    for place in graphdef.leaves:
        path = graphdef.path(place)
        if len(labels) == 1:
            label, inner = labels[0], path
        else:
            label, inner = labels[int(path[0])], path[1:]
        found.append(f"{label}.{shorten_path(inner)}" if inner else label)
    return found
