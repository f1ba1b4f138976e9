"""The transforms of JAX, for functions of Nodes and States, in arguments and in closures alike.

compile         jit, eval_shape
map             vmap, StatefulMapping
differentiate   grad, value_and_grad
control flow    scan, for_loop
"""

from ._associative_scan import associative_scan
from ._checkify import checkify
from ._checkpoint import checkpoint, remat
from ._cond import cond, switch
from ._eval_shape import eval_shape
from ._grad import grad, value_and_grad
from ._jit import jit
from ._scan import for_loop, scan
from ._vmap import StatefulMapping, vmap
from ._while_loop import fori_loop, while_loop

__all__ = [
    "StatefulMapping",
    "associative_scan",
    "checkify",
    "checkpoint",
    "cond",
    "eval_shape",
    "for_loop",
    "fori_loop",
    "grad",
    "jit",
    "remat",
    "scan",
    "switch",
    "value_and_grad",
    "vmap",
    "while_loop",
]
