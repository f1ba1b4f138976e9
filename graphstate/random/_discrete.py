"""Distributions of integers, bits and booleans, and draws from given elements."""

from __future__ import annotations  # so that `help` shows `Parameter` and `Size`, not what they stand for

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from graphstate.errors import AxisError

from ._parameter import (
    Parameter,
    Shape,
    Size,
    as_array,
    as_integers,
    as_shape,
    broadcast,
    cast,
    common_float,
    common_shape,
    dtype_of_kind,
)
from ._stream import KeyStream

__all__ = ["DiscreteSamplers"]


class DiscreteSamplers(KeyStream):
    """The samplers of what can be counted."""

    __slots__ = ()

    def bernoulli(
        self,
        p: Parameter = 0.5,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
        mode: str = "low",
    ) -> jax.Array:
        """Draws that are true with probability `p`.

        Args:
            p: the probability; float[...].
            size: the shape of the result; by default that of `p`.
            key: the key to draw with; by default the next of the stream.
            dtype: what the draws are cast to; by default bool.
            mode: "low", or "high" for twice the bits, as a `p` below 1e-7 needs them.

        Returns:
            bool[*size].

        Example:
            >>> from graphstate import random
            >>> random.bernoulli(0.3, size=4).dtype
            dtype('bool')
        """
        shape, parameters = broadcast(size, common_float(p), p=p)
        return cast(jax.random.bernoulli(self._key(key), shape=shape, mode=mode, **parameters), dtype)

    def binomial(
        self,
        n: Parameter,
        p: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Numbers of successes in `n` trials.

        Args:
            n: the number of trials; int[...].
            p: the probability of a success; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float or int dtype; by default JAX's float, as in JAX.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, common_float(p), n=n, p=p)
        drawn = dtype_of_kind(jnp.floating, dtype)
        return cast(jax.random.binomial(self._key(key), shape=shape, dtype=drawn, **parameters), dtype)

    def bits(self, size: Size = None, *, key: jax.Array | None = None, dtype: DTypeLike | None = None) -> jax.Array:
        """Uniform random bits, as unsigned integers.

        Args:
            size: the shape of the result; by default a scalar.
            key: the key to draw with; by default the next of the stream.
            dtype: an unsigned integer dtype; by default uint32, or uint64 where x64 is on.

        Returns:
            uint[*size].
        """
        shape = as_shape(size)
        return jax.random.bits(self._key(key), shape, dtype)

    def categorical(
        self,
        logits: Parameter,
        axis: int = -1,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
        replace: bool = True,
        mode: str | None = None,
    ) -> jax.Array:
        """Indices of categories, drawn by their unnormalised log-probabilities.

        Args:
            logits: log-probabilities; float[..., categories, ...].
            axis: the axis of the categories.
            size: the shape of the result, which ends in the other axes of `logits`; by default these alone.
            key: the key to draw with; by default the next of the stream.
            dtype: what the draws are cast to; by default JAX's int.
            replace: whether one category may be drawn again along the axes that `size` adds.
            mode: "low" or "high": how many bits a draw takes, and so how small a probability may be.

        Returns:
            int[*size].

        Example:
            >>> import jax.numpy as jnp
            >>> from graphstate import random
            >>> random.categorical(jnp.zeros((2, 10)), size=(5, 2)).shape
            (5, 2)
        """
        scores = as_array("logits", logits).astype(common_float(logits))
        shape = common_shape(size, {"logits, without the axis of categories": _without_axis(scores.shape, axis)})
        return cast(jax.random.categorical(self._key(key), scores, axis, shape, replace, mode), dtype)

    def choice(
        self,
        a: int | Parameter,
        size: Size = None,
        replace: bool = True,
        p: Parameter | None = None,
        axis: int = 0,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
        mode: str | None = None,
    ) -> jax.Array:
        """Elements of an array, or integers below a number.

        Args:
            a: the array whose elements along `axis` are drawn, or the number of integers.
            size: how many elements, as a shape; by default one, without an axis.
            replace: whether an element may be drawn again.
            p: the probability of each element; float[elements]; by default all are alike.
            axis: the axis of the elements.
            key: the key to draw with; by default the next of the stream.
            dtype: what the elements are cast to; by default they are as in `a`.
            mode: "low" or "high": how many bits a draw with `p` and without replacement takes.

        Returns:
            The shape of `a` with `size` in the place of `axis`; `[*size]` for an int.

        Example:
            >>> from graphstate import random
            >>> sorted(random.choice(3, size=3, replace=False).tolist())
            [0, 1, 2]
        """
        elements = _elements("a", a)
        shape = as_shape(size)
        weights = None if p is None else as_array("p", p).astype(common_float(p))
        return cast(jax.random.choice(self._key(key), elements, shape, replace, weights, axis, mode), dtype)

    def geometric(
        self,
        p: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Numbers of trials up to the first success, that one included.

        Args:
            p: the probability of a success; float[...].
            size: the shape of the result; by default that of `p`.
            key: the key to draw with; by default the next of the stream.
            dtype: an int dtype, or what the draws are cast to; by default JAX's int.

        Returns:
            int[*size].
        """
        shape, parameters = broadcast(size, common_float(p), p=p)
        drawn = dtype_of_kind(jnp.integer, dtype)
        return cast(jax.random.geometric(self._key(key), shape=shape, dtype=drawn, **parameters), dtype)

    def permutation(
        self,
        x: int | Parameter,
        axis: int = 0,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
        independent: bool = False,
    ) -> jax.Array:
        """A random order of the elements of an array, or of the integers below a number.

        Args:
            x: the array, or the number of integers.
            axis: the axis along which the elements change places.
            key: the key to draw with; by default the next of the stream.
            dtype: what the elements are cast to; by default they are as in `x`.
            independent: whether each vector along `axis` gets an order of its own.

        Returns:
            The shape of `x`; `[x]` for an int.

        Example:
            >>> from graphstate import random
            >>> sorted(random.permutation(4).tolist())
            [0, 1, 2, 3]
        """
        elements = _elements("x", x)
        return cast(jax.random.permutation(self._key(key), elements, axis, independent), dtype)

    def poisson(
        self,
        lam: Parameter = 1.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the Poisson distribution.

        Args:
            lam: the mean; float[...].
            size: the shape of the result; by default that of `lam`.
            key: the key to draw with; by default the next of the stream. JAX needs a `threefry2x32` key.
            dtype: an int dtype, or what the draws are cast to; by default JAX's int.

        Returns:
            int[*size].
        """
        shape, parameters = broadcast(size, jnp.float32, lam=lam)
        drawn = dtype_of_kind(jnp.integer, dtype)
        return cast(jax.random.poisson(self._key(key), shape=shape, dtype=drawn, **parameters), dtype)

    def rademacher(
        self, size: Size = None, *, key: jax.Array | None = None, dtype: DTypeLike | None = None
    ) -> jax.Array:
        """Draws of -1 and 1, alike in probability.

        Args:
            size: the shape of the result; by default a scalar.
            key: the key to draw with; by default the next of the stream.
            dtype: an int or float dtype; by default JAX's int.

        Returns:
            int[*size].
        """
        shape = as_shape(size)
        return jax.random.rademacher(self._key(key), shape, dtype)

    def randint(
        self,
        low: Parameter,
        high: Parameter | None = None,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Uniform integers on [low, high), or on [0, low) where `high` is left out.

        Args:
            low: the lowest integer, or without `high` the number of integers; int[...].
            high: the end, excluded; int[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: an int dtype; by default JAX's.

        Returns:
            int[*size].

        Example:
            >>> from graphstate import random
            >>> bool((random.randint(6, size=100) < 6).all())
            True
        """
        start, stop = (0, low) if high is None else (low, high)
        ends = {"low": as_integers("low", start), "high": as_integers("high", stop)}
        shape = common_shape(size, {name: np.shape(end) for name, end in ends.items()})
        first, last = (jnp.broadcast_to(end, shape) if np.ndim(end) else end for end in ends.values())
        return jax.random.randint(self._key(key), shape, first, last, dtype)


def _elements(name: str, value: Any) -> Any:
    array = as_array(name, value)
    return array if array.ndim else as_integers(name, value)


def _without_axis(shape: Shape, axis: int) -> Shape:
    if not -len(shape) <= axis < len(shape):
        raise AxisError(f"`logits` of shape {shape} has no axis {axis}. Give the axis of the categories as `axis=`.")
    position = axis % len(shape)
    return shape[:position] + shape[position + 1 :]
