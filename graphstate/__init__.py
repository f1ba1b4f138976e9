"""graphstate: plain mutable Python objects under every transform of JAX.

graph       Nodes, States, and the calls that take an object graph apart and put it together
transform   jit, vmap, grad, scan, ... for functions of Nodes and States
filters     what selects States
random      streams of random keys, and the samplers
environ     settings that a traced program depends on
nn, optim   layers and optimizers
errors      everything that is raised
"""

from . import environ, errors, filters, graph, nn, optim, random, transform
from .graph import (
    BatchState,
    GraphDef,
    GraphState,
    HiddenState,
    LongTermState,
    Node,
    ParamState,
    ShortTermState,
    State,
    StateAxes,
    abstract,
    clone,
    diff,
    graphdef,
    merge,
    nodes,
    pop,
    register_node_type,
    shared,
    split,
    stack,
    state,
    states,
    take,
    unstack,
    update,
)
from .transform import StatefulMapping, eval_shape, for_loop, grad, jit, scan, value_and_grad, vmap

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
    "StatefulMapping",
    "abstract",
    "clone",
    "diff",
    "environ",
    "errors",
    "eval_shape",
    "filters",
    "for_loop",
    "grad",
    "graph",
    "graphdef",
    "jit",
    "merge",
    "nn",
    "nodes",
    "optim",
    "pop",
    "random",
    "register_node_type",
    "scan",
    "shared",
    "split",
    "stack",
    "state",
    "states",
    "take",
    "transform",
    "unstack",
    "update",
    "value_and_grad",
    "vmap",
]
