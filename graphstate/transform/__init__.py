"""The transforms of JAX, for functions of Nodes and States, in arguments and in closures alike.

compile         jit, eval_shape
map             vmap, StatefulMapping
differentiate   grad, value_and_grad
control flow    scan, for_loop
"""

from ._eval_shape import eval_shape
from ._grad import grad, value_and_grad
from ._jit import jit
from ._scan import for_loop, scan
from ._vmap import StatefulMapping, vmap

__all__ = [
    "StatefulMapping",
    "eval_shape",
    "for_loop",
    "grad",
    "jit",
    "scan",
    "value_and_grad",
    "vmap",
]
