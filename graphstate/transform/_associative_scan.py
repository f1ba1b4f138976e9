"""`associative_scan`: all prefixes of a sequence under an associative operation, in parallel."""

import functools
from collections.abc import Callable
from typing import Any

from graphstate._lift.flow._combine import CombineCall
from graphstate._lift.programs._reuse import is_eager, reused

__all__ = ["associative_scan"]


def associative_scan(fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """Combines each element of a sequence with all before it, as `jax.lax.associative_scan` does.

    JAX calls `fn` several times, once for each level of a tree: about twice the logarithm of the length. It may read
    States; it writes none, and draws nothing.

    Args:
        fn: takes two elements (slices that hold several of them), and returns their combination; associative.
        elems: the sequence: a pytree of arrays and stacked Nodes, of one size along `axis`.
        reverse: whether to begin at the end.
        axis: the axis of the sequence.

    Returns:
        The prefixes, stacked as `elems` is. Nodes in it are new ones.

    Raises:
        AxisError: sizes differ along `axis`, or there is no such axis.
        CarryError: `fn` returns another structure than it takes.
        StructureError: `fn` returns a Node of another structure than that it takes.
        TraceContextError: `fn` writes a State, or draws.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.associative_scan(jnp.add, jnp.arange(5)).tolist()
        [0, 1, 3, 6, 10]
    """
    run = functools.partial(_associative_scan, reverse=reverse, axis=axis)
    if is_eager():
        return reused((fn,), (reverse, axis), run, "associative_scan")(elems)
    return run(fn, elems)


def _associative_scan(fn: Callable[[Any, Any], Any], elems: Any, *, reverse: bool, axis: int) -> Any:
    return CombineCall(fn, elems, axis, "associative_scan").run(reverse)
