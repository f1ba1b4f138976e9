"""Flattening an object graph into a `GraphDef` and its leaves, and building it again.

`flatten` walks the objects once, without recursion, and numbers every place as it meets it; `unflatten` makes the
objects first and joins them afterwards, so that sharing and cycles need no special case. Both know the kinds of
`_heads` and nothing else.
"""

import functools
import operator
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import jax
import numpy as np

from graphstate._compat import ArrayImpl
from graphstate._trace import current_home, note_write
from graphstate.errors import StructureError

from ._attributes import (
    has_extras,
    is_graph_object,
    read_attributes,
    set_extras,
    state_extras,
    write_attribute,
)
from ._blueprint import blueprint_of
from ._foreign import foreign_type
from ._graphdef import GraphDef, child_parts
from ._heads import (
    ArrayHead,
    DictHead,
    Head,
    ListHead,
    MethodHead,
    NodeHead,
    OutsideHead,
    PartialHead,
    PytreeHead,
    StateHead,
    StaticHead,
    StaticKey,
    TupleHead,
    WrapperHead,
    node_head,
    remembered,
    state_head,
)
from ._node import Node, check_changeable, touch
from ._path import Part, Path, as_part, part_order, show_path, write_path
from ._references import iter_reached
from ._state import State
from ._static import Static as Static
from ._summary import summarize_static
from ._wrappers import innermost, wraps_graph

__all__ = ["Flat", "Static", "flatten", "is_graph_object", "note_origins", "read_attributes", "unflatten"]

_ARRAY: Final = ArrayHead()
_LIST: Final = ListHead()
_TUPLE: Final = TupleHead()
_OUTSIDE: Final = OutsideHead()
_ATOMS: Final = frozenset({int, float, bool, str, bytes, complex, type(None), type, types.BuiltinFunctionType})
_NO_CHILDREN: Final[list[int]] = []
_CACHED_ATOMS: Final = frozenset({int, bool, str, type(None)})


class Flat:
    """A graph that was walked: its structure, its objects, and what tells whether it is still the same.

    Attributes:
        graphdef: the structure.
        objects: the object at each place.
        nodes: the Nodes, with `versions` as they were.
        containers: each list, dict and other container that can change, with its elements and keys as they were, and
            its place.
    """

    __slots__ = ("containers", "graphdef", "nodes", "objects", "versions")

    def __init__(self, graphdef: GraphDef, objects: list[Any], nodes: list[Node], containers: list[Any]) -> None:
        self.graphdef = graphdef
        self.objects = objects
        self.nodes = nodes
        self.versions = [node._graph_version for node in nodes]
        self.containers = containers

    @property
    def leaves(self) -> list[Any]:
        """The States and arrays, in order."""
        objects = self.objects
        return [objects[place] for place in self.graphdef.leaves]


# Reading objects


def state_head_of(state: State) -> StateHead:
    """The head of a State."""
    kind = type(state)
    metadata = (
        tuple(sorted((name, StaticKey(item)) for name, item in state._metadata.items())) if state._metadata else ()
    )
    extras = state_extras(state) if has_extras(kind) else None
    if not extras:
        return state_head(kind, state._tags, metadata, ())
    return state_head(kind, state._tags, metadata, tuple((name, StaticKey(extras[name])) for name in sorted(extras)))


class _Walk:
    """One walk over a graph."""

    def __init__(self, is_outside: Callable[[Any], bool] | None = None) -> None:
        self.is_outside = is_outside
        self.outside: dict[int, Any] = {}
        self.heads: list[Head] = []
        self.children: list[list[int]] = []
        self.objects: list[Any] = []
        self.ways: list[tuple[int, int]] = []
        self.nodes: list[Node] = []
        self.containers: list[Any] = []
        self.functions: dict[int, int] = {}
        self.has_slashes = False
        self.pending: list[tuple[Any, list[int], int, int]] = []
        self.places: dict[int, int] = {}

    def run(self, root: Any) -> Flat:
        self.pending.append((root, [0], 0, -1))
        pending, places, heads, children, objects, ways = (
            self.pending, self.places, self.heads, self.children, self.objects, self.ways,
        )  # fmt: skip
        while pending:
            value, siblings, position, parent = pending.pop()
            kind = type(value)
            # Most places are arrays and plain static values, which need no second look.
            if kind is ArrayImpl or kind in _CACHED_ATOMS:
                siblings[position] = len(heads)
                heads.append(_ARRAY if kind is ArrayImpl else _atom_head(kind, value))
                children.append(_NO_CHILDREN)
                objects.append(value)
                ways.append((parent, position))
                continue
            place = places.get(id(value))
            if place is None:
                place = len(heads)
                objects.append(value)
                ways.append((parent, position))
                self.visit(value, place)
            siblings[position] = place
        graphdef = GraphDef(tuple(heads), tuple(map(tuple, children)))
        for place in self.functions.values():
            self._check_function(place)
        if self.has_slashes:
            _check_written_paths(graphdef)
        return Flat(graphdef, objects, self.nodes, self.containers)

    def add(self, head: Head, values: Sequence[Any] = (), *, parts: Sequence[Part] | None = None) -> None:
        """Enters a place; its children are met in the order of `parts`, else in their own."""
        place = len(self.heads)
        self.heads.append(head)
        if not values:
            self.children.append(_NO_CHILDREN)
            return
        children = [0] * len(values)
        self.children.append(children)
        fresh = [(value, children, position, place) for position, value in enumerate(values)]
        if parts is not None:
            fresh.sort(key=lambda item: part_order(parts[item[2]]))
        fresh.reverse()
        self.pending += fresh

    def visit(self, value: Any, place: int) -> None:
        kind = type(value)
        if self.is_outside is not None and self.is_outside(value):
            self.places[id(value)] = place
            self.outside[place] = value
            self.add(_OUTSIDE)
        elif isinstance(value, State):
            self.places[id(value)] = place
            self._visit_state(value, place)
        elif isinstance(value, Node):
            self.places[id(value)] = place
            self.nodes.append(value)
            self._visit_attributes(kind, read_attributes(value))
        elif kind in _ATOMS:
            self.add(StaticHead(StaticKey(value)))
            if kind is types.BuiltinFunctionType:
                self.functions.setdefault(id(value), place)
        elif kind is list:
            self.places[id(value)] = place
            self.containers.append((value, list(value), None, place))
            self.add(_LIST, value)
        elif kind is tuple:
            self.add(_TUPLE, value)
        elif kind is dict:
            self._visit_dict(value, place)
        else:
            self._visit_other(value, place)

    def _visit_attributes(self, kind: type, attributes: Mapping[str, Any]) -> None:
        names = tuple(sorted(attributes))
        self.has_slashes = self.has_slashes or _may_collide(names)
        self.add(node_head(kind, names), [attributes[name] for name in names])

    def _visit_state(self, state: State, place: int) -> None:
        if has_extras(type(state)):
            extras = state_extras(state)
            self.containers.append((state, list(extras.values()), list(extras), place))
            for name, item in extras.items():
                self._check_hashable(item, place, f"its attribute {name!r}")
                self._check_is_apart(item, place, f"attribute {name!r}")
        self.add(state_head_of(state))

    def _visit_dict(self, value: dict[Any, Any], place: int) -> None:
        self.places[id(value)] = place
        written = list(value)
        self.containers.append((value, list(value.values()), written, place))
        keys = sorted(written, key=lambda key: part_order(as_part(key)))
        positions = {key: position for position, key in enumerate(keys)}
        parts = tuple(map(as_part, keys))
        for key in keys:
            self._check_is_apart(key, place, "a key")
        self._check_parts(parts, place)
        head = DictHead(tuple(map(StaticKey, keys)), tuple(positions[key] for key in written))
        self.add(head, [value[key] for key in keys])

    def _visit_other(self, value: Any, place: int) -> None:
        if isinstance(value, np.ndarray | jax.Array | jax.ShapeDtypeStruct):
            self.add(_ARRAY)
        elif (foreign := foreign_type(type(value))) is not None:
            self.places[id(value)] = place
            attributes = dict(foreign.attributes(value))
            self.containers.append((value, list(attributes.values()), list(attributes), place))
            self._visit_attributes(type(value), attributes)
        elif isinstance(value, types.MethodType) and is_graph_object(value.__self__):
            self.add(MethodHead(StaticKey(value.__func__)), (value.__self__,))
        elif wraps_graph(value):
            self.add(WrapperHead(StaticKey(value._graph_wrapping)), (value.__wrapped__,))
        elif type(value) in (functools.partial, jax.tree_util.Partial):
            self._visit_partial(value, place)
        elif jax.tree_util.is_tree_node(type(value)):
            self._visit_pytree(value, place)
        else:
            self._visit_static(value, place)

    def _visit_partial(self, value: functools.partial[Any], place: int) -> None:
        self.places[id(value)] = place
        self._note_keywords(value, place)
        names = tuple(sorted(value.keywords))
        values = [value.func, *value.args, *(value.keywords[name] for name in names)]
        head = PartialHead(type(value), len(value.args), names)
        self.has_slashes = self.has_slashes or _may_collide(names)
        self.add(head, values, parts=child_parts(head))

    def _note_keywords(self, value: functools.partial[Any], place: int) -> None:
        """A partial's keywords are a dict that anyone can change."""
        self.containers.append((value, list(value.keywords.values()), list(value.keywords), place))

    def _visit_pytree(self, value: Any, place: int) -> None:
        treedef: Any
        keyed, treedef = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda part: part is not value)
        parts = tuple(_pytree_part(path) for path, _ in keyed)
        values = [item for _, item in keyed]
        if not isinstance(value, tuple):
            self.places[id(value)] = place
        if not isinstance(value, tuple) and not getattr(type(value), "_is_immutable", False):
            self.containers.append((value, values, treedef, place))
        self._check_hashable(treedef.node_data()[1], place, "the static part of this pytree")
        self._check_parts(parts, place)
        self.add(PytreeHead(treedef, parts), values, parts=parts)

    def _visit_static(self, value: Any, place: int) -> None:
        self._check_hashable(value, place, "it")
        self._check_hides_nothing(value, place)
        if isinstance(wrapped := innermost(value), functools.partial):
            self._note_keywords(wrapped, place)  # a Node may come to stand there
        if callable(value) and (isinstance(value, types.FunctionType) or hasattr(value, "__wrapped__")):
            self.functions.setdefault(id(value), place)
        self.add(StaticHead(StaticKey(value)))

    # Errors

    def _path(self, place: int) -> Path:
        parts: list[Part] = []
        while place > 0:
            place, position = self.ways[place]
            parts.append((child_parts(self.heads[place]) or range(position + 1))[position])
        return tuple(reversed(parts))

    def _check_hashable(self, value: Any, place: int, what: str) -> None:
        try:
            hash(value)
        except (TypeError, ValueError):
            owner = self.objects[place]
            raise StructureError(
                f"A static value must be hashable, but at {show_path(self._path(place))} there is a "
                f"{type(owner).__name__} and {what} cannot be hashed: {summarize_static(value)}. Use a list, tuple or "
                "dict, register its class with `graph.register_node_type`, or wrap it in `graph.Static`."
            ) from None

    def _check_parts(self, parts: Sequence[Part], place: int) -> None:
        """Children of one object must be told apart by what is written of them."""
        written = list(map(str, parts))
        self.has_slashes = self.has_slashes or _may_collide(tuple(written))
        if len(set(written)) < len(written):
            twice = next(text for text in written if written.count(text) > 1)
            raise StructureError(
                "The paths of a graph must differ when they are written, but the "
                f"{type(self.objects[place]).__name__} at {show_path(self._path(place))} has two keys that are "
                f"written {twice!r}. Use keys whose text differs."
            )

    def _check_hides_nothing(self, value: Any, place: int) -> None:
        """A static object must not hide Nodes and States from the graph."""
        if isinstance(value, frozenset):
            inside = [("an element", item) for item in value]
        elif isinstance(value, type | types.ModuleType | types.FunctionType) or (
            callable(value) and hasattr(value, "__wrapped__")
        ):
            return
        else:
            inside = list(getattr(value, "__dict__", {}).items())
        for name, item in inside:
            self._check_is_apart(item, place, name)

    def _check_is_apart(self, item: Any, place: int, name: str) -> None:
        if is_graph_object(item):
            raise StructureError(
                f"The {type(self.objects[place]).__name__} at {show_path(self._path(place))} holds a "
                f"{type(item).__name__} ({name}) where the graph does not reach, so that it would be missed. Make its "
                "class a `Node`, use a list, tuple or dict, register the class with `graph.register_node_type`, or "
                "wrap the object in `graph.Static`."
            )

    def _check_function(self, place: int) -> None:
        """A function must not reach the graph that it is part of: a copy would go on using the original."""
        for name, value in iter_reached(self.objects[place]):
            # A function may name a partial of static values: what reaches Nodes through one is found by itself.
            if id(value) in self.places and not isinstance(value, functools.partial):
                function = self.objects[place]
                raise StructureError(
                    f"The function {summarize_static(function)} at {show_path(self._path(place))} refers to the graph "
                    f"that it is part of ({name} is {show_path(self._path(self.places[id(value)]))}): a copy would "
                    "still use the original. Make it a method, keep a bound method (`self.f = self._f`, or "
                    "`self.f = jit(self._f)`), or use `functools.partial(f, self)`."
                )


@remembered
def _may_collide(parts: tuple[str, ...]) -> bool:
    """Whether paths with one of these parts may be written as others are."""
    return any("/" in part or not part for part in parts)


def _check_written_paths(graphdef: GraphDef) -> None:
    """Where parts contain a slash, two different paths may be written alike."""
    known: dict[str, int] = {}
    for place in range(len(graphdef.heads)):
        text = write_path(graphdef.path(place))
        if known.setdefault(text, place) != place:
            first, second = graphdef.path(known[text]), graphdef.path(place)
            raise StructureError(
                f"The paths of a graph must differ when they are written, but {first!r} and {second!r} are both "
                f"written {text!r}. Use keys and attribute names without a slash, that are not empty."
            )


@remembered
def _atom_head(kind: type, value: Any) -> StaticHead:
    """The one head of a plain static value; `kind` tells 1 from True."""
    return StaticHead(StaticKey(value))


def _pytree_part(path: Any) -> Part:
    key = path[0]
    for attribute in ("name", "key", "idx"):
        if hasattr(key, attribute):
            return as_part(getattr(key, attribute))
    return str(key)


def flatten(root: Any) -> Flat:
    """Walks the graph that starts at `root`: a Node, a State, or any pytree of these."""
    return _Walk().run(root)


def flatten_within(root: Any, is_outside: Callable[[Any], bool]) -> tuple[Flat, dict[int, Any]]:
    """As `flatten`, but stops at the Nodes and States that `is_outside`; returns these too, by place."""
    walk = _Walk(is_outside)
    return walk.run(root), walk.outside


def is_unchanged(flat: Flat) -> bool:
    """Whether the graph is still as it was walked: no attribute set, no container changed."""
    if list(map(_version, flat.nodes)) != flat.versions:
        return False
    return are_unchanged(flat.containers)


def are_unchanged(containers: list[Any]) -> bool:
    """Whether containers hold the very elements that they held."""
    for container, elements, keys, _ in containers:
        if type(container) is list:
            if len(container) != len(elements) or not all(map(operator.is_, container, elements)):
                return False
        elif not _same_elements(container, elements, keys):
            return False
    return True


_version: Final[Callable[[Node], int]] = operator.attrgetter("_graph_version")


def _same_elements(container: Any, elements: list[Any], keys: Any) -> bool:
    if isinstance(container, State):
        extras = state_extras(container)
        return list(extras) == keys and all(map(operator.is_, extras.values(), elements))
    held = container.keywords if isinstance(container, functools.partial) else container
    if type(held) is dict:
        return list(held) == keys and all(map(operator.is_, held.values(), elements))
    foreign = foreign_type(type(container))
    if foreign is not None:
        attributes = foreign.attributes(container)
        return list(attributes) == keys and all(map(operator.is_, attributes.values(), elements))
    now, treedef = jax.tree.flatten(container, is_leaf=lambda part: part is not container)
    return bool(treedef == keys) and all(map(operator.is_, now, elements))


# Building objects


def unflatten(graphdef: GraphDef, values: Sequence[Any], *, existing: Mapping[int, Any] | None = None) -> list[Any]:
    """The objects of a graph, by place; the first is the root.

    Args:
        graphdef: the structure.
        values: for each leaf of `graphdef` the packed value of the State, or the array.
        existing: objects that are used, and changed where they differ, instead of new ones.
    """
    existing = existing or {}
    blueprint = blueprint_of(graphdef)
    objects, nodes = blueprint.make(values, current_home(), existing)
    note_write()
    for place, item in existing.items():
        objects[place] = item
    at = objects.__getitem__
    for place in graphdef.build_order:
        if objects[place] is None:
            objects[place] = build(graphdef.heads[place], list(map(at, graphdef.children[place])))
    blueprint.fill(nodes, objects)
    for place, head, children in blueprint.others:
        if place not in existing:
            _fill(head, objects[place], list(map(at, children)))
    for place, item in existing.items():
        _fill(graphdef.heads[place], item, list(map(at, graphdef.children[place])))
    return objects


def note_origins(graphdef: GraphDef, objects: Sequence[Any], originals: Sequence[Any]) -> None:
    """Says that the States of a graph were created where those of its original were."""
    for place in graphdef.state_places:
        objects[place]._place = originals[place]._place


def build(head: Head, children: Sequence[Any]) -> Any:
    """What cannot be changed after it was made, from its children."""
    match head:
        case TupleHead():
            return tuple(children)
        case PytreeHead(treedef=treedef):
            return jax.tree.unflatten(treedef, children)
        case MethodHead(function=function):
            return types.MethodType(function.value, children[0])  # type: ignore[arg-type] # it was a method's function
        case WrapperHead(wrapping=wrapping):
            how: Any = wrapping.value
            return how.wrap(children[0])
        case PartialHead(type=kind, positional=positional, names=names):
            function, *arguments = children
            return kind(function, *arguments[:positional], **dict(zip(names, arguments[positional:], strict=True)))
        case _:
            raise AssertionError(head)


def _fill(head: Head, target: Any, values: list[Any]) -> None:
    """Gives a Node, list or dict its children; one that has them already is left alone."""
    match head:
        case NodeHead(type=cls, names=names):
            _fill_node(foreign_type(cls), target, dict(zip(names, values, strict=True)))
        case ListHead():
            if len(target) != len(values) or not all(map(operator.is_, target, values)):
                target[:] = values
        case DictHead(keys=keys, order=order):
            wanted = {keys[position].value: values[position] for position in order}
            if list(target) != list(wanted) or not all(map(operator.is_, target.values(), wanted.values())):
                target.clear()
                target.update(wanted)
        case StateHead(type=cls, extras=extras) if extras or has_extras(cls):
            set_extras(target, {name: key.value for name, key in extras})


def _fill_node(foreign: Any, target: Any, wanted: dict[str, Any]) -> None:
    present = read_attributes(target)
    changed = {name: item for name, item in wanted.items() if name not in present or not _same(present[name], item)}
    gone = [name for name in present if name not in wanted]
    if foreign is not None:
        for name in gone:
            delattr(target, name)
        for name, item in changed.items():
            foreign.set_attribute(target, name, item)
    elif changed or gone:
        check_changeable(target, next(iter([*changed, *gone])))
        for name in gone:
            object.__delattr__(target, name)
        for name, item in changed.items():
            write_attribute(target, name, item)
        touch(target)


def _same(present: Any, wanted: Any) -> bool:
    if present is wanted:
        return True
    return type(present) in _ATOMS and type(present) is type(wanted) and StaticKey(present) == StaticKey(wanted)
