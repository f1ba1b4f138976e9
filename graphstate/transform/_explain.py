"""`explain`: what a function depends on, and what its programs have taken for constant."""

import types
from collections.abc import Callable
from typing import Any

from graphstate._lift.programs._explanation import Explanation, explain_function

from ._jit import JitFunction, jit

__all__ = ["explain"]


def explain(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Explanation:
    """Tells what a compiled function is bound to.

    A compiled function looks at its arguments and at what it refers to on each call, and is traced anew where that has
    changed. What lies beyond that is bound when it is traced, as in `jax.jit`: arrays that it finds elsewhere, values
    of other modules. Both are listed: what is looked at; the States within reach; what the function changes itself,
    which is no dependency; and for each structure of arguments that it was called with the States and settings
    that its programs take or read, its static arguments, and the arrays that became constants.

    Args:
        function: what `jit` returned; of any other function what `jit` would look at.
        *args: arguments to trace it for first; nothing is run, and no State changes.
        **kwargs: keyword arguments, likewise.

    Returns:
        An `Explanation`: a record with these lists, and a text when printed.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> total, scale = gs.State(jnp.float32(0)), 2.0
        >>> @gs.jit
        ... def add(x):
        ...     if gs.environ.get("fit"):
        ...         total.value += scale * x
        ...     return total.value
        >>> gs.explain(add, 1.0).programs[0].settings
        ('fit = False',)
        >>> print(gs.explain(add))  # doctest: +ELLIPSIS
        jit(add)
        looked at on each call: ...total: State, scale = 2.0
        States within reach: total (State, created at ...)
        called with (x: array), 1 program
          inputs from the closure: total
          settings that were read: fit = False
    """
    if isinstance(function, types.MethodType) and isinstance(function.__func__, JitFunction):
        args = (function.__self__, *args) if args or kwargs else ()  # a decorated method
        function = function.__func__
    if args or kwargs:
        traced: JitFunction = function if isinstance(function, JitFunction) else jit(function)
        traced.trace(*args, **kwargs)
        function = traced
    return explain_function(function)
