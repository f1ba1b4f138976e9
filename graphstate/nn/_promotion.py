"""The dtype that a layer computes in."""

import jax
import jax.numpy as jnp
from jax import Array

from ._errors import DtypeError, describe

__all__ = ["promote"]


def promote(layer: str, *arrays: Array, dtype: jnp.dtype | None = None) -> list[Array]:
    """The arrays in the dtype that a layer computes in, said out loud so that strict promotion has nothing to refuse.

    Args:
        layer: the name of the layer, for messages.
        arrays: the input first, then the parameters.
        dtype: the dtype to compute in; None for the common float dtype of the arrays.

    Raises:
        DtypeError: the input holds no numbers.
    """
    if not jnp.issubdtype(arrays[0].dtype, jnp.number) and arrays[0].dtype != jnp.bool_:
        raise DtypeError(
            f"{layer} takes numbers, but got {describe(arrays[0])}. Draw from a key first, as `random.normal`."
        )
    if dtype is None:
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.result_type(*arrays)
            dtype = dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.result_type(dtype, float)
    return [array.astype(dtype) for array in arrays]
