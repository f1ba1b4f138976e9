"""Copies of object graphs: `clone`, `copy.copy` and `copy.deepcopy`.

The whole graph is walked once and built once, so that deep graphs are no trouble, and every copy is entered in the
memo of `copy.deepcopy`, so that what is shared by several objects of one copy is shared by their copies.
"""

from typing import Any

import jax
import numpy as np

from graphstate._trace import current_frame, current_home, outer_value, pack, unpack

from ._attributes import read_attributes, write_attribute
from ._blueprint import new_states
from ._flatten import flatten_within, note_origins, state_head_of, unflatten
from ._heads import DictHead, ListHead, NodeHead, PytreeHead, StateHead
from ._node import Node
from ._plan import read_arrays
from ._state import State, metadata_in
from ._walked import Walked, walk, walked

__all__ = ["clone", "copy_graph", "copy_node", "copy_state", "copy_value"]


def clone(node: Any) -> Any:
    """A deep copy of a graph: Nodes, States, containers and numpy arrays are new, with the same sharing and cycles.

    The buffers of jax arrays are shared, since nothing can change them, and so are static values.

    Args:
        node: a Node, or any pytree of Nodes and States.

    Raises:
        StructureError: the graph holds a static value that cannot be hashed, or a function that refers to the graph.

    Example:
        >>> import graphstate as gs
        >>> model = gs.nn.Linear(2, 3)
        >>> copy = gs.clone(model)
        >>> copy.weight is model.weight, copy.weight.value is model.weight.value
        (False, True)
    """
    return _copied(node, {})[1][0]


def copy_graph(root: Any, memo: dict[int, Any]) -> Any:
    """A deep copy; what `memo` has a copy of already is taken from there.

    Args:
        root: a Node, a State, or any pytree of these.
        memo: from the id of an object to its copy, as `copy.deepcopy` keeps it.
    """
    flat, objects = _copied(root, memo)
    for head, item, copied in zip(flat.graphdef.heads, flat.objects, objects, strict=True):
        if isinstance(head, NodeHead | StateHead | ListHead | DictHead | PytreeHead):
            memo[id(item)] = copied
    # An id in the memo is only good for as long as its object lives.
    memo.setdefault(id(memo), []).extend(flat.objects)
    return objects[0]


def _copied(root: Any, memo: dict[int, Any]) -> tuple[Walked, list[Any]]:
    """A graph, and the copies of its objects."""
    existing: dict[int, Any] = {}
    if memo:
        flat, outside = flatten_within(root, lambda value: id(value) in memo)
        existing = {place: memo[id(item)] for place, item in outside.items()}
        graph = walked(flat)
    else:
        graph = walk(root)
    leaves = graph.leaves
    values = read_arrays(leaves, graph.graphdef.only_states) or [_copy_leaf(leaf, memo) for leaf in leaves]
    objects = unflatten(graph.graphdef, values, existing=existing)
    note_origins(graph.graphdef, objects, graph.objects)
    return graph, objects


def _copy_leaf(leaf: Any, memo: dict[int, Any]) -> Any:
    if isinstance(leaf, State):
        return pack(copy_value(unpack(outer_value(leaf)), memo))
    return copy_value(leaf, memo)


def copy_value(value: Any, memo: dict[int, Any]) -> Any:
    """A copy of a value: its containers and numpy arrays are new, its jax arrays the same."""
    if isinstance(value, jax.Array):
        return value
    return jax.tree.map(lambda leaf: _copy_array(leaf, memo), value)


def _copy_array(leaf: Any, memo: dict[int, Any]) -> Any:
    if not isinstance(leaf, np.ndarray):
        return leaf
    if id(leaf) not in memo:
        memo[id(leaf)] = leaf.copy()
        memo.setdefault(id(memo), []).append(leaf)
    return memo[id(leaf)]


def copy_node(node: Node) -> Node:
    """A new Node with the same attributes."""
    copied = Node.__new__(type(node))
    for name, item in read_attributes(node).items():
        write_attribute(copied, name, item)
    return copied


def copy_state(state: State) -> State:
    """A new State with the same value."""
    (copied,) = new_states(state_head_of(state), [outer_value(state)], current_home())
    copied._place = state._place
    copied._metadata = metadata_in(current_frame(), state)
    return copied
