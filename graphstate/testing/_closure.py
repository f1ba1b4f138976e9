"""What a function holds beside its arguments: Nodes and States, left as they were after each run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from graphstate._lift.watch._watch import Watch
from graphstate._trace import commit, outer_value
from graphstate.graph import State
from graphstate.graph._attributes import is_graph_object, read_attributes, write_attribute
from graphstate.graph._flatten import flatten
from graphstate.graph._foreign import foreign_type
from graphstate.graph._layout import record_of
from graphstate.graph._node import Node, touch
from graphstate.random import DEFAULT
from graphstate.random._stream import KeyStream

__all__ = ["Closure", "Held", "kept", "states_in", "streams_in"]


class Held(NamedTuple):
    """A State that a function holds.

    Attributes:
        state: the State.
        paths: its paths in the Node that it belongs to.
        record: what filters look at.
    """

    state: State
    paths: Any
    record: Any


class Closure:
    """The Nodes and States that a function refers to, and the default stream of random keys.

    Args:
        function: the function; a Node that is one, or that is just looked at, belongs to it.

    Attributes:
        names: how the function calls them.
        roots: what they are.
    """

    def __init__(self, function: Any) -> None:
        found = {id(root): (name, root) for name, root in Watch((function,), {}).roots() if root is not function}
        if is_graph_object(function):
            found = {id(function): (type(function).__name__, function), **found}
        found.setdefault(id(DEFAULT), ("random.DEFAULT", DEFAULT))
        self.names = tuple(name for name, _ in found.values())
        self.roots = tuple(root for _, root in found.values())

    def states(self) -> list[Held]:
        """The States, each once."""
        return [held for root in self.roots for held in states_in(root)]


def states_in(root: Any) -> list[Held]:
    """The States of a graph."""
    flat = flatten(root)
    return [
        Held(item, flat.graphdef.paths(place), record_of(flat.graphdef.heads[place], item))  # type: ignore[arg-type]
        for place in flat.graphdef.leaves
        if isinstance(item := flat.objects[place], State)
    ]


def streams_in(root: Any) -> list[KeyStream]:
    """The streams of random keys in a graph that each lane has to have one of its own of."""
    states = [held.state for held in states_in(root)]
    return [state for state in states if isinstance(state, KeyStream) and not state.value.ndim]


@contextmanager
def kept(*roots: Any) -> Iterator[None]:
    """A block after which values and structure of these graphs are again what they were."""
    undo = [_undo(item) for item in flatten(roots).objects]
    try:
        yield
    finally:
        for restore in undo:
            restore()


def _undo(item: Any) -> Callable[[], None]:
    """What makes an object again what it is now."""
    if isinstance(item, State):
        value = outer_value(item)
        return lambda: commit([(item, value)]) if _packed(item) is not value else None
    if isinstance(item, Node):
        attributes = dict(read_attributes(item))
        return lambda: _restore_node(item, attributes)
    if (foreign := foreign_type(type(item))) is not None:
        given = dict(foreign.attributes(item))
        return lambda: _restore_foreign(item, given, foreign.set_attribute)
    if type(item) is list:
        elements = list(item)
        return lambda: _restore_list(item, elements)
    if type(item) is dict:
        entries = dict(item)
        return lambda: _restore_dict(item, entries)
    if isinstance(item, np.ndarray) and item.flags.writeable:
        numbers = item.copy()
        return lambda: np.copyto(item, numbers)
    return lambda: None


def _packed(state: State) -> Any:
    """What a State holds, if it can still be read."""
    try:
        return outer_value(state)
    except Exception:
        return None


def _restore_node(node: Node, attributes: dict[str, Any]) -> None:
    present = dict(read_attributes(node))
    if present.keys() == attributes.keys() and all(present[name] is attributes[name] for name in present):
        return
    for name in present.keys() - attributes.keys():
        object.__delattr__(node, name)
    for name, value in attributes.items():
        write_attribute(node, name, value)
    touch(node)


def _restore_foreign(item: Any, given: dict[str, Any], set_attribute: Callable[[Any, str, Any], None]) -> None:
    for name, value in given.items():
        set_attribute(item, name, value)


def _restore_list(items: list[Any], elements: list[Any]) -> None:
    if len(items) != len(elements) or any(one is not other for one, other in zip(items, elements, strict=True)):
        items[:] = elements


def _restore_dict(items: dict[Any, Any], entries: dict[Any, Any]) -> None:
    if list(items) != list(entries) or any(items[key] is not value for key, value in entries.items()):
        items.clear()
        items.update(entries)


def map_value(state: State, change: Callable[[Any], Any]) -> None:
    """Changes every array of a State."""
    state.value = jax.tree.map(change, state.value)
