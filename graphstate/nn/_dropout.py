"""`Dropout`: zeroes activations at random while fitting."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from graphstate.graph import Node
from graphstate.random import DEFAULT, RandomState

from ._errors import DtypeError, describe
from ._mode import is_fitting
from ._sizes import as_rate

__all__ = ["Dropout"]


class Dropout(Node):
    """Sets each activation to zero with probability `rate` while fitting, and scales the others by `1 / (1 - rate)`.

    Whether it is active, is said by the first of these that is not None: the call's `fit`, the layer's `fit`, the
    setting `fit` of `environ` (False unless set).

    Args:
        rate: probability of dropping, from 0 to 1.
        fit: True or False to make the layer independent of `environ`.
        rng: what the layer draws from, kept as a State of the layer; None for `random.DEFAULT`.

    Raises:
        RangeError: `rate` is not a number from 0 to 1.

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

    def __init__(self, rate: float, *, fit: bool | None = None, rng: RandomState | None = None) -> None:
        self.rate = as_rate("Dropout", "rate", rate, "the probability of dropping an activation (not of keeping it)")
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
        """
        x = jnp.asarray(x)
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            raise DtypeError(
                f"Dropout scales what it keeps, so it takes floats, but got {describe(x)}. "
                "Convert first: `x.astype(float)`."
            )
        if self.rate == 0 or not is_fitting(fit, self.fit):
            return x
        if self.rate == 1:
            return jnp.zeros_like(x)
        rng = DEFAULT if self.rng is None else self.rng
        kept = rng.bernoulli(1 - self.rate, size=x.shape)
        return jnp.where(kept, x / (1 - self.rate), jnp.zeros_like(x))
