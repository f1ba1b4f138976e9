"""Pickles of object graphs: of any depth, with all that is shared between the objects of one pickle.

Pickling an object pickles its attributes, theirs, and so on, each inside of the other, which fails for a long chain.
Instead, the first Node of a graph that is met is pickled as a member of a `Group` of all the Nodes that it reaches:
first their classes, from which empty Nodes are made, then the attributes of each. A Node in an attribute is a member
again, so that nothing is nested deeper than one Node's attributes are, and States, lists and all else are left to the
pickler and its memory of what it has seen.
"""

import functools
import threading
import types
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp

from graphstate._compat import Tracer
from graphstate._trace import current_frame, current_home, outer_value, pack, settle, unpack
from graphstate.errors import TraceContextError

from ._attributes import read_attributes, state_extras, write_attribute
from ._foreign import foreign_type
from ._graphstate import GraphState
from ._layout import Layout
from ._node import Node, touch
from ._state import State, metadata_in
from ._summary import summarize_value

__all__ = ["freeze", "make_graphstate", "reduce_node", "reduce_state"]


class Group:
    """Nodes that are pickled together.

    It must live for as long as the pickler remembers it, and no longer: the pickler holds it, and Nodes are looked up
    in a table that does not. Whether a Node is found there decides only how compact the pickle is.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = list(nodes)

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            _make_group,
            ([type(node) for node in self.nodes],),
            list(map(_attributes, self.nodes)),
            None,
            None,
            _fill_group,
        )


class _Groups(threading.local):
    """The groups that picklers of this thread know, by the id of each Node; a group holds its Nodes."""

    def __init__(self) -> None:
        self.by_id: weakref.WeakValueDictionary[int, Group] = weakref.WeakValueDictionary()
        self.numbers: weakref.WeakKeyDictionary[Group, dict[int, int]] = weakref.WeakKeyDictionary()


_groups: Final = _Groups()


def reduce_node(node: Node) -> tuple[Any, ...]:
    """How a Node is pickled: as a member of a group."""
    group = _groups.by_id.get(id(node))
    if group is None:
        group = Group(_iter_nodes(node))
        _groups.numbers[group] = {id(each): number for number, each in enumerate(group.nodes)}
        for each in group.nodes:
            _groups.by_id[id(each)] = group
    return _member, (group, _groups.numbers[group][id(node)])


def _iter_nodes(root: Node) -> Iterable[Node]:
    """The Nodes that are reached from `root` and are in no group yet."""
    seen: dict[int, Any] = {id(root): root}
    pending: list[Any] = [root]
    while pending:
        value = pending.pop()
        if isinstance(value, Node):
            yield value
        for child in _children(value):
            if id(child) not in seen and not (
                isinstance(child, Node) and (id(child) in _groups.by_id or not _is_ours(child))
            ):
                seen[id(child)] = child
                pending.append(child)


def _is_ours(node: Node) -> bool:
    """Whether the class leaves pickling to `Node`."""
    return type(node).__reduce__ is Node.__reduce__ and type(node).__reduce_ex__ is object.__reduce_ex__


def _children(value: Any) -> Iterable[Any]:
    """What is reached from a value in one step, for the purpose of finding Nodes."""
    if isinstance(value, Node) or foreign_type(type(value)) is not None:
        return read_attributes(value).values()
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, functools.partial):
        return (value.func, *value.args, *value.keywords.values())
    return (value.__self__,) if isinstance(value, types.MethodType) else ()


def _attributes(node: Node) -> Any:
    """What is pickled of a Node: what its class says, else its attributes."""
    if type(node).__getstate__ is not object.__getstate__:
        return node.__getstate__()
    return {name: _freeze_leaf(item) for name, item in read_attributes(node).items()}


def _make_group(classes: list[type[Node]]) -> Group:
    return Group(Node.__new__(cls) for cls in classes)


def _fill_group(group: Group, attributes: list[Any]) -> None:
    for node, held in zip(group.nodes, attributes, strict=True):
        set_all = getattr(node, "__setstate__", None)
        if set_all is not None:
            set_all(held)
        else:
            # A `__getstate__` of its own may return a pair: what is in `__dict__`, and what is in slots.
            for part in held if isinstance(held, tuple) else (held,):
                for name, item in (part or {}).items():
                    write_attribute(node, name, _thaw_leaf(item))
        touch(node)


def _member(group: Group, number: int) -> Node:
    return group.nodes[number]


# States


def reduce_state(state: State) -> tuple[Any, ...]:
    """How a State is pickled: its value, with PRNG keys as key data, and what was given at construction."""
    value = freeze(unpack(outer_value(state)))
    held = (value, state._tags, dict(metadata_in(current_frame(), state)), dict(state_extras(state)))
    return _make_state, (type(state),), held, None, None, _fill_state


def _make_state(cls: type[State]) -> State:
    state: State = object.__new__(cls)
    state._home, state._place, state._plan = current_home(), None, None
    return state


def _fill_state(state: State, held: tuple[Any, frozenset[str], dict[str, Any], dict[str, Any]]) -> None:
    value, state._tags, metadata, extras = held
    state._metadata = types.MappingProxyType(metadata)
    for name, item in extras.items():
        write_attribute(state, name, item)
    settle(state, pack(thaw(value)))


def make_graphstate(layout: Layout, values: list[Any]) -> GraphState:
    """The GraphState of a layout and frozen values."""
    return GraphState._make(layout, thaw(values))


class _FrozenKey:
    """A PRNG key as data that any process can read."""

    __slots__ = ("data", "impl")

    def __init__(self, key: Any) -> None:
        self.data = jax.device_get(jax.random.key_data(key))
        self.impl = str(jax.random.key_impl(key))

    def key(self) -> jax.Array:
        """The key."""
        key: jax.Array = jax.random.wrap_key_data(jnp.asarray(self.data), impl=self.impl)
        return key


def freeze(value: Any) -> Any:
    """`value` with its PRNG keys as data.

    Raises:
        TraceContextError: it is being traced.
    """
    return jax.tree.map(_freeze_leaf, value)


def thaw(value: Any) -> Any:
    """What was frozen."""
    return jax.tree.map(_thaw_leaf, value)


def _thaw_leaf(leaf: Any) -> Any:
    return leaf.key() if isinstance(leaf, _FrozenKey) else leaf


def _freeze_leaf(leaf: Any) -> Any:
    if isinstance(leaf, Tracer):
        raise TraceContextError(
            f"A value that is being traced ({summarize_value(leaf)}) cannot be pickled. "
            "Pickle outside of the transformed function, where States hold arrays."
        )
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return _FrozenKey(leaf) if is_key else leaf
