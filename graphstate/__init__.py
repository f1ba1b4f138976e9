"""graphstate: object graphs for JAX."""
from . import environ, errors, filters, graph, transform, random
from .graph import Node, State, ParamState, BatchState, HiddenState, LongTermState, ShortTermState, StateAxes, split, merge, states, nodes, state, graphdef, shared, GraphDef, GraphState, update, pop, clone
from .transform import jit, vmap, StatefulMapping, grad, value_and_grad, eval_shape, scan, for_loop
try:
    from . import nn
except ImportError as e: print(e)
try:
    from . import optim
except ImportError as e: print(e)
