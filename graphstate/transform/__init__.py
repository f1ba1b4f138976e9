"""The transforms of JAX, for functions of Nodes and States, in arguments and in closures alike.

compile         jit, eval_shape, make_jaxpr
map             vmap, pmap, map, shard_map, StatefulMapping
differentiate   grad, value_and_grad, vector_grad, jacrev, jacfwd, hessian, jvp, vjp, linearize,
                custom_jvp, custom_vjp, checkpoint (also called remat)
control flow    scan, for_loop, while_loop, fori_loop, associative_scan, cond, switch
debug           checkify, named_scope, assert_max_traces, explain
"""

from ._assert_max_traces import assert_max_traces
from ._associative_scan import associative_scan
from ._checkify import checkify
from ._checkpoint import checkpoint, remat
from ._cond import cond, switch
from ._custom_jvp import custom_jvp
from ._custom_vjp import custom_vjp
from ._eval_shape import eval_shape
from ._explain import explain
from ._grad import grad, value_and_grad
from ._jacobian import hessian, jacfwd, jacrev, vector_grad
from ._jit import jit
from ._jvp import jvp
from ._linearize import linearize
from ._make_jaxpr import make_jaxpr
from ._map import map
from ._named_scope import named_scope
from ._pmap import pmap
from ._scan import for_loop, scan
from ._shard_map import shard_map
from ._vjp import vjp
from ._vmap import StatefulMapping, vmap
from ._while_loop import fori_loop, while_loop

__all__ = [
    "StatefulMapping",
    "assert_max_traces",
    "associative_scan",
    "checkify",
    "checkpoint",
    "cond",
    "custom_jvp",
    "custom_vjp",
    "eval_shape",
    "explain",
    "for_loop",
    "fori_loop",
    "grad",
    "hessian",
    "jacfwd",
    "jacrev",
    "jit",
    "jvp",
    "linearize",
    "make_jaxpr",
    "map",
    "named_scope",
    "pmap",
    "remat",
    "scan",
    "shard_map",
    "switch",
    "value_and_grad",
    "vector_grad",
    "vjp",
    "vmap",
    "while_loop",
]
