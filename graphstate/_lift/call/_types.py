"""Types that must agree: of a carry before and after a step, of what several branches or rules return."""

from collections.abc import Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["common_type", "convert", "gives_way", "same_tree"]

_NUMBERS: Final = {"i": int, "f": float, "c": complex}


def same_tree(first: Any, second: Any) -> bool:
    """Whether two pytrees have one structure."""
    treedef: Any = jax.tree.structure(first)
    return bool(treedef == jax.tree.structure(second))


def gives_way(weak: Any, other: Any) -> bool:
    """Whether a weakly typed value takes the type of another one, as it does in arithmetic."""
    number = _NUMBERS.get(weak.dtype.kind)
    if number is None or jnp.issubdtype(other.dtype, jax.dtypes.extended):
        return False
    with jax.numpy_dtype_promotion("standard"):
        return bool(jnp.promote_types(number, other.dtype) == other.dtype)


def common_type(avals: Sequence[Any]) -> Any:
    """The type that all values of these types can take; None where there is none."""
    strong = [aval for aval in avals if not aval.weak_type]
    wanted = strong[0] if strong else max(avals, key=lambda aval: _rank(aval, avals))
    for aval in avals:
        if aval.shape != wanted.shape:
            return None
        if aval.dtype != wanted.dtype and not (aval.weak_type and gives_way(aval, wanted)):
            return None
    return wanted


def _rank(aval: Any, others: Sequence[Any]) -> int:
    return sum(gives_way(other, aval) for other in others)


def convert(value: Any, wanted: Any) -> Any:
    """`value` with the dtype of `wanted`, weak only if that is."""
    aval = jax.typeof(value)
    if aval.dtype == wanted.dtype and aval.weak_type == wanted.weak_type:
        return value
    return lax.convert_element_type(value, wanted.dtype)
