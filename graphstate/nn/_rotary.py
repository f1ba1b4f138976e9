"""`RotaryEmbedding`: positions as rotations of queries and keys, whose product then depends on distances only."""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from graphstate.graph import Node

from ._errors import RangeError, ShapeError, describe, name_of, wrong_shape
from ._normalization import widened
from ._promotion import along_last, check_floats
from ._sizes import as_size

__all__ = ["RotaryEmbedding"]


class RotaryEmbedding(Node):
    """Rotates pairs of features by angles that grow with the position.

    Feature i of the first half and feature i of the second are a pair; at position p it turns by
    `p * base ** (-2 i / features)`.

    Args:
        features: how many there are in a head; even.
        base: its power is the longest wave length, in positions over 2 pi.

    Raises:
        RangeError: `features` is odd or not a positive whole number, or `base` is not positive.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> rotary, x = gs.nn.RotaryEmbedding(4), jnp.ones((5, 2, 4))
        >>> rotary(x, jnp.arange(5)).shape
        (5, 2, 4)

    Source: Su et al. 2021, arXiv:2104.09864, eq. 34, with pairs as GPT-NeoX and Llama have them.
    """

    def __init__(self, features: int, *, base: float = 10_000.0) -> None:
        self.features = as_size("RotaryEmbedding", "features", features)
        if self.features % 2:
            raise RangeError(
                f"RotaryEmbedding rotates pairs, so it needs an even number of features, but got {features}. "
                "In an attention this is the number of features of a head."
            )
        if not 0 < base < math.inf:
            raise RangeError(f"RotaryEmbedding needs a positive finite number as `base`, but got {base!r}.")
        self.base = float(base)

    def __call__(self, x: ArrayLike, positions: ArrayLike) -> Array:
        """The rotated input.

        Args:
            x: float[..., time, heads, features].
            positions: number[time], or with leading axes of `x`.

        Returns:
            float[..., time, heads, features].

        Raises:
            ShapeError: the last axis of `x` is not `features` long, or `positions` does not fit.
            DtypeError: `x` holds no floats.
        """
        x, positions = jnp.asarray(x), jnp.asarray(positions)
        check_floats(self, x)
        if x.ndim < 3 or x.shape[-1] != self.features:
            needed = f"queries or keys of shape (..., time, heads, {self.features})"
            raise wrong_shape(self, needed, x, "Heads have an axis of their own.")
        if positions.shape not in (x.shape[:-2], x.shape[-3:-2]):
            raise ShapeError(
                f"{name_of(self)} takes a position for each of the {x.shape[-3]} steps of {describe(x)}, but got "
                f"{describe(positions)}. Give `jnp.arange(time)`, or one such for each sequence."
            )
        wide = widened(x)
        powers = jnp.arange(0, self.features, 2, dtype=wide.dtype) / -self.features
        frequencies = along_last(self.base**powers, positions.ndim + 2)
        angles = along_last(positions.astype(wide.dtype)[..., None, None] * frequencies, x.ndim)
        sine, cosine = jnp.sin(angles), jnp.cos(angles)
        first, second = jnp.split(wide, 2, -1)
        rotated = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)
        return rotated.astype(x.dtype)
