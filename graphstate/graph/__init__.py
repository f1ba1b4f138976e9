"""The object graph: Nodes and States, and the calls that take a graph apart and put it together."""

from . import _public_functions as _public_functions  # which tells pickle about them
from ._abstract import abstract
from ._axes import StateAxes
from ._copying import clone
from ._diff import diff
from ._foreign import register_node_type
from ._graphdef import GraphDef
from ._graphstate import GraphState
from ._node import Node, touch
from ._path import write_path
from ._pop import pop
from ._select import nodes, shared, states
from ._split import graphdef, merge, split, state
from ._stack import stack, take, unstack
from ._state import BatchState, HiddenState, LongTermState, ParamState, ShortTermState, State
from ._static import Static
from ._update import update

__all__ = [
    "BatchState",
    "GraphDef",
    "GraphState",
    "HiddenState",
    "LongTermState",
    "Node",
    "ParamState",
    "ShortTermState",
    "State",
    "StateAxes",
    "Static",
    "abstract",
    "clone",
    "diff",
    "graphdef",
    "merge",
    "nodes",
    "pop",
    "register_node_type",
    "shared",
    "split",
    "stack",
    "state",
    "states",
    "take",
    "touch",
    "unstack",
    "update",
    "write_path",
]
