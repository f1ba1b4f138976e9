"""What there is to make of a `GraphDef`: its objects, sorted by how they are made, and what they are filled with.

A blueprint is kept with its GraphDef, so that building the graph again costs little more than its objects do: those of
one kind are made, and filled, in one loop that calls no Python function for each.
"""

import itertools
import types
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from graphstate._compat import ArrayImpl
from graphstate._trace import Home, settle

from ._attributes import is_plain, write_attribute
from ._foreign import foreign_type
from ._graphdef import GraphDef
from ._heads import DictHead, Head, ListHead, NodeHead, StateHead, StaticHead
from ._node import Node, new_nodes
from ._picker import Pick, picker
from ._state import State

__all__ = ["Blueprint", "blueprint_of", "new_states"]


def blueprint_of(graphdef: GraphDef) -> "Blueprint":
    """The blueprint that is kept with a GraphDef."""
    return graphdef._cached("blueprint", Blueprint)  # type: ignore[no-any-return]


class Blueprint:
    """How the objects of a graph are made.

    Attributes:
        others: of all that is made before its children, but is no State and no plain Node: place, head and children.
    """

    __slots__ = ("_nodes", "_pick_objects", "_states", "_statics", "others")

    def __init__(self, graphdef: GraphDef) -> None:
        heads, children, leaves = graphdef.heads, graphdef.children, graphdef.leaves
        states: dict[int, tuple[StateHead, list[int]]] = {}
        nodes: dict[int, tuple[NodeHead, list[int]]] = {}
        statics: list[int] = []
        self._statics: list[Any] = []
        self.others: list[tuple[int, Head, Sequence[int]]] = []
        for place, head in enumerate(heads):
            if isinstance(head, StateHead):
                states.setdefault(id(head), (head, []))[1].append(place)
            elif isinstance(head, StaticHead):
                statics.append(place)
                self._statics.append(head.key.value)
            elif isinstance(head, NodeHead) and is_plain(head.type):
                nodes.setdefault(id(head), (head, []))[1].append(place)
            elif isinstance(head, NodeHead | ListHead | DictHead):
                self.others.append((place, head, children[place]))
        numbers = {place: number for number, place in enumerate(leaves)}
        self._states = [_States(head, picker([numbers[place] for place in places])) for head, places in states.values()]
        self._nodes = [_nodes(head, [children[place] for place in places]) for head, places in nodes.values()]
        # The leaves come first, then what is made, kind by kind, and then None for what is made later.
        order = [*statics]
        for _, places in (*states.values(), *nodes.values()):
            order += places
        order += [place for place, _, _ in self.others]
        numbers.update((place, number) for number, place in enumerate(order, len(leaves)))
        later = len(leaves) + len(order)
        self._pick_objects = picker([numbers.get(place, later) for place in range(len(heads))])

    def make(
        self, values: Sequence[Any], home: Home | None, without: Collection[int]
    ) -> tuple[list[Any], list[list[Any]]]:
        """New objects by place, still empty, and the Nodes that `fill` takes; None for what is made of its children.

        Args:
            values: for each leaf the packed value of the State, or the array.
            home: where the objects are born.
            without: places whose objects are there already; what comes for them is of no use.
        """
        made = [*values, *self._statics]
        for states in self._states:
            made += new_states(states.head, states.pick_values(values), home)
        nodes = [new_nodes(kind.type, kind.size, home) for kind in self._nodes]
        made += itertools.chain.from_iterable(nodes)
        made += [None if place in without else _empty(head) for place, head, _ in self.others]
        made.append(None)
        return list(self._pick_objects(made)), nodes

    def fill(self, nodes: Sequence[Sequence[Any]], objects: Sequence[Any]) -> None:
        """Gives Nodes that were made their attributes."""
        for kind, made in zip(self._nodes, nodes, strict=True):
            attributes = [node.__dict__ for node in made]
            for name, pick in kind.columns:
                for each, item in zip(attributes, pick(objects), strict=True):
                    each[name] = item


class _States(NamedTuple):
    """The States of one description.

    Attributes:
        head: the description.
        pick_values: picks their values from those of all leaves.
    """

    head: StateHead
    pick_values: Pick


class _Nodes(NamedTuple):
    """The Nodes of one class with attributes of the same names.

    Attributes:
        type: the class.
        size: how many they are.
        columns: each name, with what picks their attributes from the objects of all places.
    """

    type: type
    size: int
    columns: list[tuple[str, Pick]]


def _nodes(head: NodeHead, children: Sequence[Sequence[int]]) -> _Nodes:
    columns = map(picker, zip(*children, strict=True))
    return _Nodes(head.type, len(children), list(zip(head.names, columns, strict=True)))


_NOTHING: Final[types.MappingProxyType[str, Any]] = types.MappingProxyType({})


def new_states(head: StateHead, values: Sequence[Any], home: Home | None) -> list[State]:
    """States of one description that hold these packed values."""
    states: list[Any] = list(map(object.__new__, itertools.repeat(head.type, len(values))))
    tags = head.tags
    metadata = types.MappingProxyType({name: key.value for name, key in head.metadata}) if head.metadata else _NOTHING
    for state, value in zip(states, values, strict=True):
        state._home = home
        state._place = None
        state._tags = tags
        state._metadata = metadata
        state._plan = None
        if home is None and type(value) is ArrayImpl:
            state._value = value
        else:
            settle(state, value)
    for name, key in head.extras:
        for state in states:
            write_attribute(state, name, key.value)
    return states


def _empty(head: Head) -> Any:
    """A list, a dict or another object with attributes, still without them."""
    match head:
        case NodeHead(type=cls):
            foreign = foreign_type(cls)
            return foreign.create(cls) if foreign is not None else Node.__new__(cls)
        case ListHead():
            return []
        case DictHead():
            return {}
        case _:
            raise AssertionError(head)
