"""The object graph: Nodes and States, and the calls that take a graph apart and put it together."""

from ._axes import StateAxes
from ._copying import clone
from ._flatten import Static, flatten, is_unchanged
from ._foreign import register_node_type
from ._graphdef import GraphDef
from ._graphstate import GraphState
from ._node import Node, touch
from ._path import write_path
from ._pop import pop
from ._select import nodes, shared, states
from ._split import graphdef, merge, split, state
from ._update import update
from ._state import BatchState, HiddenState, LongTermState, ParamState, ShortTermState, State
