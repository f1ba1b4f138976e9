"""`RandomState`: a stream of keys with all the samplers as its methods."""

from ._discrete import DiscreteSamplers
from ._positive import PositiveSamplers
from ._real import RealSamplers
from ._vector import VectorSamplers

__all__ = ["RandomState"]


class RandomState(RealSamplers, PositiveSamplers, DiscreteSamplers, VectorSamplers):
    """A State that holds a PRNG key, and draws.

    Each draw advances the key by one split, inside and outside of every transform of graphstate. In the lanes
    of a map each lane draws from a stream of its own.

    Args:
        seed: an int, traced or not; a key, typed or legacy; stacked keys, one for each lane of a map to come;
            or None for fresh entropy.
        tags: labels for filters, as in `State`.
        metadata: anything hashable, by name, as in `State`.

    Raises:
        StateTypeError: `seed` is none of these.
        TraceContextError: `seed` is None while JAX is tracing.

    Example:
        >>> from graphstate import random
        >>> rng = random.RandomState(0)
        >>> rng.normal(size=(2, 3)).shape
        (2, 3)
        >>> bool(rng.random() == random.RandomState(0).random())  # `rng` has been drawn from before
        False
    """

    __slots__ = ()
