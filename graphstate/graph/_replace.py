"""Replacing parts of Nodes, lists and dicts that are there already."""

from collections.abc import Mapping, Sequence
from typing import Any

from graphstate.errors import StructureError

from ._attributes import write_attribute
from ._flatten import build
from ._foreign import foreign_type
from ._graphdef import GraphDef
from ._heads import DictHead, Head, ListHead, NodeHead
from ._node import Node, check_changeable, touch
from ._path import Part, Path, as_part, show_path

__all__ = ["Replacement", "replace_part"]


def replace_part(head: Head, holder: Any, part: Part, value: Any) -> None:
    """Makes `value` the part of `holder`, which stands at a place with this head.

    Raises:
        TraceContextError: `holder` is a Node that was made outside of the trace in progress.
    """
    match head:
        case NodeHead(type=cls) if (foreign := foreign_type(cls)) is not None:
            foreign.set_attribute(holder, str(part), value)
        case NodeHead():
            _replace_attribute(holder, str(part), value)
        case ListHead():
            holder[part] = value
        case DictHead(keys=keys):
            holder[next(key.value for key in keys if as_part(key.value) == part)] = value
        case _:
            raise AssertionError(head)


def _replace_attribute(node: Node, name: str, value: Any) -> None:
    check_changeable(node, name)
    write_attribute(node, name, value)
    touch(node)


class Replacement:
    """New values for places of a graph; tuples and other pytrees that hold one are made anew.

    Args:
        graphdef: the structure of the graph.
        objects: the object at each place.
        values: what shall stand at a place; what stands there already is left out.

    Raises:
        StructureError: the root would have to be made anew.
        TraceContextError: a Node that holds one was made outside of the trace in progress.
    """

    __slots__ = ("_graphdef", "_objects", "_replaced", "_ways")

    def __init__(self, graphdef: GraphDef, objects: Sequence[Any], values: Mapping[int, Any]) -> None:
        self._graphdef, self._objects = graphdef, objects
        self._replaced = replaced = {place: value for place, value in values.items() if value is not objects[place]}
        for place in graphdef.build_order if replaced else ():
            children = graphdef.children[place]
            if not replaced.keys().isdisjoint(children):
                replaced[place] = build(
                    graphdef.heads[place], [replaced.get(child, objects[child]) for child in children]
                )
        if 0 in replaced:
            raise StructureError(
                "An array of a graph is replaced in the Node, list or dict that holds it, but "
                f"{show_path(_leaf_below(graphdef, values))} is held by the {type(objects[0]).__name__} that was "
                "given, which cannot be changed. Keep the array in a State, or as an attribute of a Node."
            )
        self._ways = [
            (parent, part, place)
            for place in replaced
            for parent, part in graphdef.references[place]
            if parent not in replaced
        ]
        for parent, part, _ in self._ways:
            if isinstance(objects[parent], Node):
                check_changeable(objects[parent], str(part))

    def apply(self) -> None:
        """Puts the values in their places."""
        for parent, part, place in self._ways:
            replace_part(self._graphdef.heads[parent], self._objects[parent], part, self._replaced[place])


def _leaf_below(graphdef: GraphDef, values: Mapping[int, Any]) -> Path:
    """The path of a replaced array that no Node, list or dict holds."""
    made = set(graphdef.build_order)
    for place in values:
        parent = place
        while parent > 0:
            parent = graphdef.edges[parent][0]
            if parent not in made:
                break
        else:
            return graphdef.path(place)
    raise AssertionError
