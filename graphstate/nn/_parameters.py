"""Parameters: States that an initialiser draws."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from graphstate.graph import ParamState
from graphstate.random import DEFAULT, RandomState

__all__ = ["Initializer", "as_dtype", "parameter"]

Initializer = Callable[..., Array]


def parameter(init: Initializer, shape: tuple[int, ...], dtype: DTypeLike, rng: RandomState | None) -> ParamState:
    """A parameter, drawn from `rng`, or from `random.DEFAULT` where that is None."""
    draw = DEFAULT if rng is None else rng
    return ParamState(init(draw.split_key(), shape, dtype))


def as_dtype(dtype: DTypeLike | None) -> Any:
    """What to compute in, as layers keep it."""
    return None if dtype is None else jnp.dtype(dtype)
