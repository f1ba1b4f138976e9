"""How far two numbers may lie apart: rounding, measured in units of the dtype and of the largest element."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from graphstate.errors import AxisError

__all__ = ["RoundingWarning", "Tol"]


class RoundingWarning(UserWarning):
    """A check has met a difference that all but vanishes in double precision: rounding, and no counter-example."""


@dataclass(frozen=True)
class Tol:
    """What difference counts as rounding: `|a - b| <= k * eps(dtype) * max|expected leaf|`.

    Integers, booleans, keys and structure are compared exactly.

    Args:
        k: how many units of the last place of the largest element.

    Raises:
        AxisError: `k` is negative or no number.

    Example:
        >>> from graphstate.testing import Tol
        >>> Tol(k=8).allowed("float16")
        0.0078125
    """

    k: float = 64

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int | float) or not self.k >= 0:
            raise AxisError(f"`Tol` needs a `k` of 0 or more, in units of eps, but got {self.k!r}.")

    def allowed(self, dtype: Any) -> float:
        """The largest difference, for a largest element of 1."""
        return float(self.k * unit_of(dtype))


def unit_of(dtype: Any) -> float:
    """The distance from 1 to the next number of a dtype; 0 where its numbers are exact."""
    if not jnp.issubdtype(dtype, jnp.inexact):
        return 0.0
    finfo: Any = jnp.finfo
    return float(finfo(np.dtype(dtype)).eps)
