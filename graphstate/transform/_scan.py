"""`scan` and `for_loop`: loops that are traced once."""

import functools
from collections.abc import Callable
from typing import Any

from graphstate._lift.call._lifted import watched
from graphstate._lift.call._progress import check_progress
from graphstate._lift.flow._loop import LoopCall
from graphstate._lift.programs._reuse import is_eager, reused

__all__ = ["for_loop", "scan"]


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    progress: bool | str = False,
) -> tuple[Any, Any]:
    """Scans a function over the leading axis of arrays, with a carry, as `jax.lax.scan` does.

    States that the function writes are carried from step to step. A Node in `xs` is sliced along axis 0: each step
    gets the Node of its slice, and what it writes to that comes back stacked, in place. A Node in the carry comes
    back as the same Node. Every step draws afresh.

    Args:
        f: takes (carry, x) and returns (carry, output).
        init: the carry before the first step.
        xs: what is scanned: a pytree of arrays and Nodes with a leading axis of the same size.
        length: the number of steps, where `xs` does not tell.
        reverse: whether to begin at the end.
        unroll: as in `jax.lax.scan`.
        progress: whether to show a bar, or what stands before it. It needs tqdm (the extra `progress`), is refreshed
            about twenty times on every run of the loop, compiled or not, and is not shown by the lanes of a map.

    Returns:
        The last carry, and the outputs stacked along axis 0.

    Raises:
        MissingPackageError: `progress` is asked for, and tqdm is not installed.
        CarryError: the carry, or a State that is written, changes its structure, shape or dtype.
        StructureError: the structure of a Node is changed inside.
        AxisError: sizes differ, or neither `xs` nor `length` tells the number of steps.
        AliasError: a State is scanned, and reached from the carry or the closure too; or a Node from outside is an
            output.

    Example:
        Scan over a stack of layers:

        >>> import graphstate as gs, jax.numpy as jnp
        >>> layers = gs.vmap(lambda seed: gs.nn.Linear(3, 3, rng=gs.random.RandomState(seed)))(jnp.arange(5))
        >>> out, _ = gs.scan(lambda x, layer: (layer(x), None), jnp.ones(3), layers)
        >>> out.shape
        (3,)
    """
    check_progress(progress, "scan")
    options: dict[str, Any] = {"length": length, "reverse": reverse, "unroll": unroll, "progress": progress}
    run = functools.partial(_scan, options)
    if is_eager():
        return reused((f,), tuple(options.values()), run, "scan")(init, xs)  # type: ignore[no-any-return]
    return run(f, init, xs)


def _scan(options: dict[str, Any], f: Callable[..., Any], init: Any, xs: Any) -> tuple[Any, Any]:
    def step(carry: Any, x: Any) -> tuple[Any, Any]:
        return f(carry, x)  # type: ignore[no-any-return]

    return LoopCall(f, step, init, xs, watched(f, "scan"), "scan").run(**options)


def for_loop(
    f: Callable[..., Any],
    *xs: Any,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    progress: bool | str = False,
) -> Any:
    """Calls a function for each index of the leading axis of arrays, and stacks its results.

    States that it writes are carried from step to step, so that `for_loop(cell, sequence)` runs a recurrent cell.

    Args:
        f: takes one slice of each of `xs`.
        xs: pytrees of arrays and Nodes with a leading axis of the same size.
        length: the number of steps, where `xs` does not tell.
        reverse: whether to begin at the end.
        unroll: as in `jax.lax.scan`.
        progress: whether to show a bar, or what stands before it. It needs tqdm (the extra `progress`), is refreshed
            about twenty times on every run of the loop, compiled or not, and is not shown by the lanes of a map.

    Returns:
        The results, stacked along axis 0.

    Raises:
        MissingPackageError: `progress` is asked for, and tqdm is not installed.
        CarryError: a State that is written changes its structure, shape or dtype.
        StructureError: the structure of a Node is changed inside.
        AxisError: sizes differ, or neither `xs` nor `length` tells the number of steps.
        AliasError: a State is scanned, and reached from the closure too; or a Node from outside is a result.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> total = gs.State(0.0)
        >>> def add(x):
        ...     total.value += x
        ...     return total.value
        >>> gs.for_loop(add, jnp.arange(4.0)).tolist(), float(total.value)
        ([0.0, 1.0, 3.0, 6.0], 6.0)
    """
    check_progress(progress, "for_loop")
    options: dict[str, Any] = {"length": length, "reverse": reverse, "unroll": unroll, "progress": progress}
    run = functools.partial(_for_loop, options)
    if is_eager():
        return reused((f,), tuple(options.values()), run, "for_loop")(*xs)
    return run(f, *xs)


def _for_loop(options: dict[str, Any], f: Callable[..., Any], *xs: Any) -> Any:
    def step(carry: None, x: tuple[Any, ...]) -> tuple[None, Any]:
        return carry, f(*x)

    return LoopCall(f, step, None, xs, watched(f, "for_loop"), "for_loop").run(**options)[1]
