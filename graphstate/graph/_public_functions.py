"""Functions of JAX in pickles: by their names.

`jax.nn.relu` and its like are compiled, or have a rule for their derivative. Python pickles what such an object wraps,
and refuses, since that is not found under its own name. Yet a model that holds an activation shall pickle.
"""

import copyreg
import importlib
import sys
from typing import Any, Final

import jax

__all__ = ["find", "reduce_function"]

_MODULES: Final = ("jax.nn", "jax.numpy", "jax.lax", "jax.scipy.special")


def reduce_function(function: Any) -> Any:
    """How a function that JAX compiles, or knows the derivative of, is pickled: a public one of JAX by its name."""
    name = getattr(function, "__name__", "")
    for module in _MODULES:
        if getattr(sys.modules.get(module), name, None) is function:
            return find, (module, name)
    return function.__reduce_ex__(4)


def find(module: str, name: str) -> Any:
    """The function of that name."""
    return getattr(importlib.import_module(module), name)


for _kind in (type(jax.jit(find)), jax.custom_jvp):
    copyreg.pickle(_kind, reduce_function)
