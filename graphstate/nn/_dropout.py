"""`Dropout` and `AlphaDropout`: take away activations at random while fitting."""

import math
from collections.abc import Sequence
from typing import Final

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from graphstate.graph import Node
from graphstate.random import DEFAULT, RandomState

from ._errors import DtypeError, RangeError, describe, name_of, wrong_shape
from ._mode import is_fitting
from ._sizes import as_rate

__all__ = ["AlphaDropout", "Dropout"]


class Dropout(Node):
    """Sets each activation to zero with probability `rate` while fitting, and scales the others by `1 / (1 - rate)`.

    Whether it is active, is said by the first of these that is not None: the call's `fit`, the layer's `fit`, the
    setting `fit` of `environ` (False unless set).

    Args:
        rate: probability of dropping, from 0 to 1.
        broadcast_dims: axes along which all is dropped or kept together, as -2 for whole channels of sequences.
        fit: True or False to make the layer independent of `environ`.
        rng: what the layer draws from, kept as a State of the layer; None for `random.DEFAULT`.

    Raises:
        RangeError: `rate` is not a number from 0 to 1, or an axis is no whole number.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> dropout = gs.nn.Dropout(0.5)
        >>> x = jnp.ones(1000)
        >>> bool((dropout(x) == x).all())
        True
        >>> with gs.environ.context(fit=True):
        ...     y = dropout(x)
        >>> sorted(set(y.tolist()))
        [0.0, 2.0]

    Source: Srivastava et al. 2014, JMLR 15, 1929.
    """

    rate: float
    fit: bool | None
    rng: RandomState | None

    def __init__(
        self,
        rate: float,
        *,
        broadcast_dims: int | Sequence[int] = (),
        fit: bool | None = None,
        rng: RandomState | None = None,
    ) -> None:
        self.rate = as_rate(
            type(self).__name__, "rate", rate, "the probability of dropping an activation (not of keeping it)"
        )
        self.broadcast_dims = _as_axes(type(self).__name__, broadcast_dims)
        self.fit = fit
        self.rng = rng

    def __call__(self, x: ArrayLike, *, fit: bool | None = None) -> Array:
        """The input, or while fitting a random part of it.

        Args:
            x: activations, float[...].
            fit: True or False for this call only.

        Returns:
            float[...], shape and dtype as those of `x`.

        Raises:
            DtypeError: `x` holds no floats.
            ShapeError: `x` has not the axes that are dropped together.
        """
        x = jnp.asarray(x)
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            raise DtypeError(
                f"{name_of(self)} scales what it keeps, so it takes floats, but got {describe(x)}. "
                "Convert first: `x.astype(float)`."
            )
        if self.rate == 0 or not is_fitting(fit, self.fit):
            return x
        if self.rate == 1:
            return jnp.zeros_like(x)
        rng = DEFAULT if self.rng is None else self.rng
        kept = rng.bernoulli(1 - self.rate, size=self._mask_shape(x))
        return self._dropped(x, jnp.broadcast_to(kept, x.shape))

    def _dropped(self, x: Array, kept: Array) -> Array:
        return jnp.where(kept, x / (1 - self.rate), jnp.zeros_like(x))

    def _mask_shape(self, x: Array) -> tuple[int, ...]:
        for axis in self.broadcast_dims:
            if not -x.ndim <= axis < x.ndim:
                needed = f"activations with an axis {axis}, along which all is dropped together"
                raise wrong_shape(self, needed, x, "Count axes from the end, as -1, where leading ones vary.")
        together = {axis % x.ndim for axis in self.broadcast_dims}
        return tuple(1 if axis in together else size for axis, size in enumerate(x.shape))


def _as_axes(layer: str, axes: int | Sequence[int]) -> tuple[int, ...]:
    given = axes if isinstance(axes, Sequence) else (axes,)
    for axis in given:
        if not isinstance(axis, int) or isinstance(axis, bool):
            raise RangeError(f"{layer} needs whole numbers as `broadcast_dims`, axes, but got {axis!r}.")
    return tuple(given)


_SATURATED: Final = -1.7580993408473766
"""What `jax.nn.selu` gives for very negative numbers: minus the product of its two constants."""


class AlphaDropout(Dropout):
    """Sets activations to the value at which `selu` saturates, and keeps mean and variance: for networks of `selu`.

    Args:
        rate: probability of dropping, from 0 to 1.
        broadcast_dims: as in `Dropout`.
        fit: True or False to make the layer independent of `environ`.
        rng: what the layer draws from, kept as a State of the layer; None for `random.DEFAULT`.

    Raises:
        RangeError: `rate` is not a number from 0 to 1.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> x = gs.random.normal(size=100_000, key=gs.random.split_key())
        >>> y = gs.nn.AlphaDropout(0.3, fit=True)(x)
        >>> abs(float(y.mean())) < 0.05, abs(float(y.std()) - 1) < 0.05
        (True, True)

    Source: Klambauer et al. 2017, arXiv:1706.02515, section 3.
    """

    def _dropped(self, x: Array, kept: Array) -> Array:
        keep = 1 - self.rate
        scale = 1 / math.sqrt(keep + _SATURATED**2 * keep * (1 - keep))
        return jnp.where(kept, scale * x, scale * _SATURATED) - scale * (1 - keep) * _SATURATED
