"""What a case does to one array along its lane axis."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Change", "cast_to", "is_inexact", "is_key", "lane_axis", "moved", "poison_lanes", "stacked", "take_lanes"]

Change: TypeAlias = Callable[[Any, int], Any]
"""What becomes of an array that has a lane axis."""


def is_key(leaf: Any) -> bool:
    """Whether an array holds typed random keys."""
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def is_inexact(leaf: Any) -> bool:
    """Whether an array holds real or complex numbers."""
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def lane_axis(leaf: Any, axis: int) -> int:
    """The lane axis of an array, counted from the front."""
    return axis if axis >= 0 else len(np.shape(leaf)) + axis


def take_lanes(index: Any) -> Change:
    """One lane, for an int; those lanes in that order, for an array of ints."""

    def change(leaf: Any, axis: int) -> Any:
        taken = leaf[(slice(None),) * lane_axis(leaf, axis) + (index,)]
        return np.asarray(taken) if isinstance(leaf, np.ndarray) else taken

    return change


def poison_lanes(kept: int, poison: float = np.nan) -> Change:
    """NaN in all lanes but one; where there is no NaN, in integers and booleans, the values of that one.

    Args:
        kept: which one.
        poison: 1 or -1 for huge numbers of that sign in the place of NaN.
    """

    def change(leaf: Any, axis: int) -> Any:
        if is_key(leaf):
            return leaf
        front = np.moveaxis(np.array(leaf), axis, 0)
        others = np.arange(front.shape[0]) != kept
        front[others] = poison * _huge(leaf.dtype) if is_inexact(leaf) else front[kept]
        return np.moveaxis(front, 0, axis)

    return change


def _huge(dtype: Any) -> float:
    """What is huge in a dtype, yet can be squared."""
    finfo: Any = jnp.finfo
    return math.pow(finfo(dtype).max, 0.4)


def cast_to(dtype: Any) -> Callable[[Any], Any]:
    """Real numbers of that dtype; complex ones of that precision; all else as it is."""
    wanted = np.dtype(dtype)

    def change(leaf: Any) -> Any:
        if not is_inexact(leaf):
            return leaf
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            return leaf.astype(np.complex128 if wanted == np.float64 else np.complex64)
        return leaf.astype(wanted)

    return change


def moved(leaf: Any, source: int, target: int) -> Any:
    """An array with one axis in another place."""
    return np.moveaxis(leaf, source, target) if isinstance(leaf, np.ndarray) else jnp.moveaxis(leaf, source, target)


def stacked(leaves: Any) -> Any:
    """Arrays of one shape as one array, along a new first axis."""
    if all(isinstance(leaf, np.ndarray) for leaf in leaves):
        return np.stack(leaves)
    return jnp.stack([jnp.asarray(leaf) for leaf in leaves])
