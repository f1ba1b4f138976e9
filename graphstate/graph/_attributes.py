"""What objects of the graph are, and what their attributes are: `__dict__`, slots, or what a registration says."""

import functools
from collections.abc import Mapping
from typing import Any

from ._foreign import foreign_type
from ._heads import remembered
from ._node import HIDDEN_SLOTS, Node
from ._state import State

__all__ = [
    "attribute_slots",
    "cached_properties",
    "has_extras",
    "is_graph_object",
    "is_plain",
    "read_attributes",
    "set_extras",
    "state_extras",
    "write_attribute",
]

_HIDDEN = HIDDEN_SLOTS | {name for base in State.__mro__ for name in getattr(base, "__slots__", ())}


def is_graph_object(value: Any) -> bool:
    """Whether `value` is a Node, a State, or an object of a registered class."""
    return isinstance(value, Node | State) or foreign_type(type(value)) is not None


@remembered
def _class_attributes(cls: type) -> tuple[tuple[str, ...], frozenset[str]]:
    """The slots of `cls` that hold attributes, and the names that are cached properties and so no structure."""
    slots: dict[str, None] = {}
    cached = set()
    for base in cls.__mro__:
        declared = base.__dict__.get("__slots__", ())
        for name in (declared,) if isinstance(declared, str) else declared:
            slots[_mangled(base, name)] = None
        cached |= {name for name, item in base.__dict__.items() if isinstance(item, functools.cached_property)}
    return tuple(name for name in slots if name not in _HIDDEN), frozenset(cached)


def _mangled(cls: type, name: str) -> str:
    """A slot `__x` of a class `_C` is the attribute `_C__x`."""
    if not name.startswith("__") or name.endswith("__"):
        return name
    return f"_{cls.__name__.lstrip('_')}{name}"


def attribute_slots(cls: type) -> tuple[str, ...]:
    """The slots of a class of Nodes or States that hold attributes."""
    return _class_attributes(cls)[0]


def cached_properties(node: Any) -> frozenset[str]:
    """The names of the cached properties of a Node that have been read."""
    names = _class_attributes(type(node))[1]
    return frozenset(name for name in names if name in vars(node)) if names else names


def read_attributes(node: Any) -> Mapping[str, Any]:
    """The attributes of a Node, or of an object of a registered class, by name."""
    if not isinstance(node, Node):
        foreign = foreign_type(type(node))
        assert foreign is not None
        return foreign.attributes(node)
    slots, cached = _class_attributes(type(node))
    attributes = node.__dict__
    if cached:
        attributes = {name: item for name, item in attributes.items() if name not in cached}
    return {**attributes, **_held(node, slots)} if slots else attributes


@remembered
def is_plain(cls: type) -> bool:
    """Whether all attributes of the objects of a class stand in their `__dict__`."""
    return issubclass(cls, Node) and not attribute_slots(cls)


@remembered
def has_extras(cls: type) -> bool:
    """Whether States of a class may have attributes beside their value."""
    return cls.__dictoffset__ != 0 or bool(attribute_slots(cls))


def state_extras(state: State) -> Mapping[str, Any]:
    """What a subclass of State keeps beside the value: its `__dict__` and its own slots."""
    return {**getattr(state, "__dict__", {}), **_held(state, attribute_slots(type(state)))}


def _held(value: Any, slots: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in slots if hasattr(value, name)}


def set_extras(state: State, wanted: Mapping[str, Any]) -> None:
    """Makes these what a subclass of State keeps beside the value."""
    present = state_extras(state)
    for name in present.keys() - wanted.keys():
        object.__delattr__(state, name)
    for name, item in wanted.items():
        if name not in present or present[name] is not item:
            write_attribute(state, name, item)


def write_attribute(target: Any, name: str, value: Any) -> None:
    """Sets an attribute of a Node or State as it stands, whatever its class makes of `setattr`."""
    if name in _class_attributes(type(target))[0]:
        object.__setattr__(target, name, value)
    else:
        target.__dict__[name] = value
