"""`cond` and `switch`: one of several functions, chosen by a value."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from graphstate._lift.call._arguments import is_array_like
from graphstate._lift.flow._branches import BranchCall
from graphstate._lift.programs._reuse import is_eager, reused
from graphstate.errors import BranchError, StateTypeError
from graphstate.graph import State

__all__ = ["cond", "switch"]


def cond(
    pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], /, *operands: Any, **kwargs: Any
) -> Any:
    """Calls `true_fun` where `pred` is true, else `false_fun`, as `jax.lax.cond` does.

    Both functions are traced. They may write different States: one that is written by the function that was not chosen
    keeps its value. A random stream advances only if the chosen function draws from it.

    Args:
        pred: a scalar: bool[], or a number that is true unless it is zero.
        true_fun: takes the operands.
        false_fun: takes the operands.
        *operands: pytrees of Nodes, States and arrays.
        **kwargs: the same by name.

    Returns:
        The result of the function that was chosen. A Node in it is the same in both, or new in both.

    Raises:
        BranchError: the results, or the values of one State, differ in structure, shape or dtype.
        StateTypeError: `pred` is no boolean or number, or no scalar.
        StructureError: a function changes the structure of a Node, or new Nodes differ in it.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> hits, misses = gs.State(0), gs.State(0)
        >>> def hit():
        ...     hits.value += 1
        >>> def miss():
        ...     misses.value += 1
        >>> for x in (0.2, 0.7, 0.9):
        ...     gs.cond(x > 0.5, hit, miss)
        >>> int(hits.value), int(misses.value)
        (2, 1)
    """
    _check_choice("pred", "cond", pred, "a boolean or a number", jnp.bool_, jnp.number)
    if is_eager():
        return reused((true_fun, false_fun), (), _cond, "cond")(*operands, pred, **kwargs)
    return _cond(true_fun, false_fun, *operands, pred, **kwargs)


def _cond(true_fun: Callable[..., Any], false_fun: Callable[..., Any], /, *operands: Any, **kwargs: Any) -> Any:
    """As `cond`; the predicate stands behind the operands, which have the names of the functions' parameters so."""
    *operands, pred = operands  # type: ignore[assignment]

    def choose(branches: Sequence[Callable[..., Any]], operand: Any) -> Any:
        return lax.cond(pred, *branches, operand)

    return BranchCall((true_fun, false_fun), tuple(operands), kwargs, "cond").run(choose)


def _check_choice(name: str, transform: str, value: Any, wanted: str, *kinds: Any) -> None:
    """Refuses what cannot choose.

    Raises:
        StateTypeError: saying what can.
    """
    if not is_array_like(value):
        came = f"{str(value)[:60]!r} of type {type(value).__name__}"
    elif jnp.shape(value) != () or not any(jnp.issubdtype(jnp.result_type(value), kind) for kind in kinds):
        came = f"{jnp.result_type(value)}{list(jnp.shape(value))}"
    else:
        return
    way_out = "Pass its `.value`." if isinstance(value, State) else "Compare, convert or reduce it."
    raise StateTypeError(f"`{name}` of `{transform}` is {wanted}, a scalar, but it is {came}. {way_out}")


def switch(index: Any, branches: Sequence[Callable[..., Any]], /, *operands: Any, **kwargs: Any) -> Any:
    """Calls one of several functions, as `jax.lax.switch` does.

    All functions are traced. They may write different States, as in `cond`.

    Args:
        index: which function, int[]; a number out of range is moved to the nearest in it.
        branches: the functions, each of which takes the operands.
        *operands: pytrees of Nodes, States and arrays.
        **kwargs: the same by name.

    Returns:
        The result of the function that was chosen. A Node in it is the same in all, or new in all.

    Raises:
        BranchError: there are no branches; or the results, or the values of one State, differ in structure, shape or
            dtype.
        StateTypeError: `index` is no integer, or no scalar.
        StructureError: a function changes the structure of a Node, or new Nodes differ in it.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> layers = [gs.nn.Linear(2, 3), gs.nn.Linear(2, 3)]
        >>> gs.switch(1, layers, jnp.ones(2)).shape
        (3,)
    """
    branches = tuple(branches)
    if not branches:
        raise BranchError("`switch` chooses among functions, but `branches` is empty. Give it one at least.")
    _check_choice("index", "switch", index, "an integer", jnp.integer)
    run = functools.partial(_switch, len(branches))
    if is_eager():
        return reused(branches, (), run, "switch")(*operands, index, **kwargs)
    return run(*branches, *operands, index, **kwargs)


def _switch(count: int, /, *branches_and_operands: Any, **kwargs: Any) -> Any:
    """As `switch`, for so many branches; the index stands behind the operands."""
    branches, operands, index = (
        branches_and_operands[:count],
        branches_and_operands[count:-1],
        branches_and_operands[-1],
    )

    def choose(branches: Sequence[Callable[..., Any]], operand: Any) -> Any:
        return lax.switch(index, branches, operand)

    return BranchCall(branches, tuple(operands), kwargs, "switch").run(choose)
