"""Promotion in layers: the dtype that they compute in, and vectors along the last axis."""

from collections.abc import Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax import Array

from ._errors import DtypeError, describe, name_of

__all__ = ["add_to_last", "along_last", "check_floats", "promote"]

_COMPUTED_IN: Final = frozenset(map(jnp.dtype, (jnp.float32, jnp.bfloat16, jnp.float16, jnp.float64)))
"""The dtypes of arrays that are let through at a glance where all agree: eager calls consist of little else."""


def promote(layer: Any, *arrays: Array, dtype: jnp.dtype | None = None) -> Sequence[Array]:
    """The arrays in the dtype that a layer computes in, said out loud so that strict promotion has nothing to refuse.

    Args:
        layer: who computes.
        arrays: the input first, then the parameters.
        dtype: the dtype to compute in; None for the common float dtype of the arrays.

    Raises:
        DtypeError: the input holds no floats.
    """
    wanted = arrays[0].dtype if dtype is None else dtype
    if wanted in _COMPUTED_IN and not arrays[0].weak_type:
        for array in arrays:
            if array.dtype is not wanted:
                break
        else:
            return arrays
    check_floats(layer, arrays[0])
    if dtype is None:
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.result_type(*arrays)
    return [array.astype(dtype) for array in arrays]


def add_to_last(x: Array, vector: Array) -> Array:
    """`x + vector` along the last axis, also where JAX is told to refuse arrays of different ranks.

    Where it isn't, the sum is one operation: an eager call of a layer is not made to wait for a broadcast.
    """
    if x.ndim > 1 and jax.config.jax_numpy_rank_promotion != "allow":  # type: ignore[attr-defined]
        vector = jnp.broadcast_to(vector, x.shape)
    return x + vector


def check_floats(layer: Any, x: Array) -> None:
    """Refuses an input without fractions, which a layer would change the meaning of.

    Raises:
        DtypeError: `x` holds no floats.
    """
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        way_out = "Draw from a key first, as `random.normal`." if is_key else "Convert first: `x.astype(float)`."
        raise DtypeError(f"{name_of(layer)} takes floats, but got {describe(x)}. {way_out}")


def along_last(array: Array, rank: int) -> Array:
    """`array` with as many leading axes of size one as give it the rank that strict promotion asks for."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape) if array.ndim < rank else array
