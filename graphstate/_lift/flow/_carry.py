"""What must agree: a carry before and after a step."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax import lax

from graphstate._lift.call._arguments import Arguments, function_name
from graphstate._lift.call._boundary import Departure, FromArgument, FromValues
from graphstate._lift.call._types import gives_way, same_tree
from graphstate.errors import CarryError

__all__ = ["check_carried", "check_same_objects", "keep_types", "promoted"]

_Tree = TypeVar("_Tree")


def _promote(before: Any, after: Any) -> Any:
    """`before` with the dtype of `after`, where it has a weak one that gives way to it."""
    aval = jax.typeof(before)
    if not aval.weak_type or aval.dtype == after.dtype or not gives_way(aval, after):
        return before
    return lax.convert_element_type(before, after.dtype)


def promoted(before: _Tree, after: Any) -> _Tree | None:
    """A carry with the types that a step gives to its weakly typed leaves; None where they are right already."""
    if not same_tree(before, after):
        return None
    found: _Tree = jax.tree.map(_promote, before, after)
    changed = any(old is not new for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(found), strict=True))
    return found if changed else None


def keep_types(before: _Tree, after: _Tree) -> _Tree:
    """The carry after a step, with the types of the carry before it where the step has left them weak."""
    typed: _Tree = jax.tree.map(
        lambda old, new: lax.convert_element_type(new, old.dtype) if _is_weaker(old, new) else new, before, after
    )
    return typed


def _is_weaker(before: Any, after: Any) -> bool:
    return bool(jax.typeof(after).weak_type and not jax.typeof(before).weak_type)


def check_carried(transform: str, name: str, before: Any, after: Any) -> None:
    """Refuses what has another structure, shape or dtype after a step.

    Raises:
        CarryError: naming it.
    """
    if not same_tree(before, after):
        raise CarryError(
            f"{name} is carried by `{transform}` and must keep its structure, but it was {jax.tree.structure(before)} "
            f"and is {jax.tree.structure(after)} after a step."
        )
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        aval = jax.typeof(old)
        if aval.shape != new.shape or aval.dtype != new.dtype:
            raise CarryError(
                f"{name} is carried by `{transform}` and must keep its shape and dtype, but it was {aval.str_short()} "
                f"and is {new.str_short()} after a step. Write a value of the same type, or return it as an output."
            )


def check_same_objects(
    departure: Departure,
    arguments: Arguments,
    treedef: Any,
    result_treedef: Any,
    transform: str,
    function: Callable[..., Any],
) -> None:
    """Refuses a carry of another structure, and one whose Nodes are not those that the step was given.

    Args:
        departure: what comes out of a step; its result begins with the carry.
        arguments: what goes into it; they begin with the carry.
        treedef: the structure of the carry before the step.
        result_treedef: the structure of the carry that the step returned.
        transform: the name of the transform, for messages.
        function: the user's function, for messages.

    Raises:
        CarryError: naming the leaf.
    """
    if treedef != result_treedef:
        raise CarryError(
            f"The carry of `{transform}` keeps its structure from step to step, but it was {treedef} and "
            f"`{function_name(function)}` returned {result_treedef}."
        )
    roots = arguments.roots
    for spot, source in enumerate(departure.sources[: treedef.num_leaves]):
        if spot in arguments.shape.spots:
            number = next(number for number, root in enumerate(roots) if root is arguments.leaves[spot])
            is_right = source == FromArgument(number)
        else:
            is_right = isinstance(source, FromValues)
        if not is_right:
            raise CarryError(
                f"A Node in the carry of `{transform}` comes back as the same Node: write to its States in place. "
                f"`{function_name(function)}` returned another one at leaf {spot} of the carry."
            )
