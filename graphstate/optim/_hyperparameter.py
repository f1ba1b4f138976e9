"""What a hyperparameter can be."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from graphstate.errors import StateTypeError

__all__ = ["hyperparameter"]


def hyperparameter(name: str, value: Any) -> Array:
    """The array that is kept for a hyperparameter; numbers become floats of the default size.

    Raises:
        StateTypeError: `value` is neither a number nor an array.
    """
    if isinstance(value, numbers.Number) and not isinstance(value, bool):
        return jnp.asarray(value, dtype=jnp.result_type(type(value), float))
    if isinstance(value, jax.Array | np.ndarray):
        return jnp.asarray(value)
    raise StateTypeError(
        f"A hyperparameter is a number or an array, which becomes a State, but {name} is {str(value)[:40]!r}, "
        f"a {type(value).__name__}. Give what is no number to the function itself: `functools.partial(tx, {name}=...)`; "
        f"for a schedule, write `optimizer.hyperparams[{name!r}].value` before each step."
    )
