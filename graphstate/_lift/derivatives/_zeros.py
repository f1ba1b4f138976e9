"""Zeros among tangents and cotangents: what JAX knows to be zero, and the float0 of integers and keys."""

from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["SymbolicZero", "float0", "instantiated", "is_float0", "is_inexact", "zero_like"]

SymbolicZero: Final = jax.custom_derivatives.SymbolicZero


def zero_like(aval: Any) -> Any:
    """Zeros, as a tangent of a value of this type."""
    return jnp.zeros(aval.shape, aval.dtype) if is_inexact(aval) else float0(aval)


def instantiated(cotangent: Any) -> Any:
    """A tangent or cotangent as an array."""
    if not isinstance(cotangent, SymbolicZero):
        return cotangent
    aval: Any = cotangent.aval
    return float0(aval) if aval.dtype == jax.dtypes.float0 else jnp.zeros(aval.shape, aval.dtype)


def is_inexact(aval: Any) -> bool:
    """Whether values of a type can be differentiated."""
    return bool(jnp.issubdtype(aval.dtype, jnp.inexact))


def is_float0(cotangent: Any) -> bool:
    """Whether it is the tangent or cotangent of an integer or a key."""
    aval: Any = cotangent.aval if isinstance(cotangent, SymbolicZero) else cotangent
    return getattr(aval, "dtype", None) == jax.dtypes.float0


def float0(aval: Any) -> Any:
    """The tangent of a value of this type, an integer or a key."""
    return np.zeros(aval.shape, jax.dtypes.float0)
