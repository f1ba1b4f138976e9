"""Classes that are no Nodes but were made graph nodes by their users."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from graphstate.errors import StructureError

__all__ = ["Foreign", "foreign_type", "register_node_type"]


class Foreign(NamedTuple):
    """How the objects of a registered class are read, written and made."""

    attributes: Callable[[Any], Mapping[str, Any]]
    set_attribute: Callable[[Any, str, Any], None]
    create: Callable[[type], Any]


_registered: dict[type, Foreign] = {}


def register_node_type(
    cls: type,
    *,
    attributes: Callable[[Any], Mapping[str, Any]],
    set_attribute: Callable[[Any, str, Any], None],
    create: Callable[[type], Any],
) -> None:
    """Makes the objects of a foreign class nodes of the graph.

    Args:
        cls: the class; its subclasses are not registered with it.
        attributes: the attributes of an object, by name.
        set_attribute: sets one attribute of an object.
        create: an empty object of the class, to be filled by `set_attribute`.

    Raises:
        StructureError: `cls` is registered already.

    Example:
        >>> import graphstate as gs
        >>> class Point:
        ...     pass
        >>> gs.graph.register_node_type(Point, attributes=vars, set_attribute=setattr, create=object.__new__)
        >>> point = Point()
        >>> point.x = gs.State(1.0)
        >>> list(gs.states(point))
        [('x',)]
    """
    if cls in _registered:
        raise StructureError(f"{cls.__name__} is registered as a node type already; a class is registered once.")
    _registered[cls] = Foreign(attributes, set_attribute, create)


def foreign_type(cls: type) -> Foreign | None:
    """How objects of `cls` are handled; None where it is not registered."""
    return _registered.get(cls)
