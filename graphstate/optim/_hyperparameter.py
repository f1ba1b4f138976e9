"""What a hyperparameter can be."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from graphstate.errors import StateTypeError

__all__ = ["as_hyperparameter"]


def as_hyperparameter(name: str, value: Any) -> Array:
    """The array that is kept for a hyperparameter; numbers become floats of the default size.

    Raises:
        StateTypeError: `value` is neither a number nor an array.
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return jnp.asarray(float(value), dtype=jnp.result_type(float))
    if isinstance(value, jax.Array | np.ndarray):
        return jnp.asarray(value)
    raise StateTypeError(
        f"A hyperparameter is a number or an array, which becomes a State, but {name} is {str(value)[:40]!r}, "
        f"a {type(value).__name__}. Give to the function itself what is no number: "
        f"`functools.partial(tx, {name}=...)`; for a schedule, write `optimizer.hyperparams[{name!r}].value` "
        "before each step."
    )
