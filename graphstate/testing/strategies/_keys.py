"""`keys`: typed PRNG keys, known by a seed."""

from typing import Any

import jax
from hypothesis import strategies as st

from ._arrays import Shape, drawn

__all__ = ["keys"]


@st.composite
def _stacks(draw: st.DrawFn, shape: Any, impl: str | None) -> jax.Array:
    return jax.random.split(draw(_single(impl)), drawn(draw, shape))


def _single(impl: str | None) -> st.SearchStrategy[jax.Array]:
    seeds = st.integers(0, 2**31 - 1)
    return st.builds(jax.random.key, seeds) if impl is None else st.builds(jax.random.key, seeds, impl=st.just(impl))


def keys(shape: Shape | st.SearchStrategy[Any] = (), *, impl: str | None = None) -> st.SearchStrategy[jax.Array]:
    """Draws typed PRNG keys, the only thing that is drawn as an array of JAX: NumPy has no such dtype.

    Args:
        shape: the shape of an array of keys that are split from one, or a strategy for it.
        impl: the generator, as in `jax.random.key`.

    Example:
        >>> import graphstate.testing as gst, hypothesis
        >>> hypothesis.find(gst.keys(3), lambda keys: True).shape
        (3,)
    """
    return _single(impl) if shape == () else _stacks(shape, impl)
