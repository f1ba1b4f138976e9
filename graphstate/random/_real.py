"""Distributions on the whole real line or on an interval of it."""

from __future__ import annotations  # so that `help` shows `Parameter` and `Size`, not what they stand for

import jax
from jax.typing import DTypeLike

from ._parameter import Parameter, Size, as_dimensions, as_shape, broadcast, moved
from ._stream import KeyStream

__all__ = ["RealSamplers"]


class RealSamplers(KeyStream):
    """The samplers of real numbers that may be negative, and of uniform ones."""

    __slots__ = ()

    def rand(self, *dimensions: int, key: jax.Array | None = None, dtype: DTypeLike | None = None) -> jax.Array:
        """Uniform draws on [0, 1), by dimensions.

        Args:
            dimensions: the lengths of the result's axes, as in `rand(2, 3)`.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*dimensions].
        """
        shape = as_dimensions("rand", dimensions)
        return jax.random.uniform(self._key(key), shape, dtype)

    def randn(self, *dimensions: int, key: jax.Array | None = None, dtype: DTypeLike | None = None) -> jax.Array:
        """Draws of the standard normal distribution, by dimensions.

        Args:
            dimensions: the lengths of the result's axes, as in `randn(2, 3)`.
            key: the key to draw with; by default the next of the stream.
            dtype: a float or complex dtype; by default JAX's float.

        Returns:
            float[*dimensions].
        """
        shape = as_dimensions("randn", dimensions)
        return jax.random.normal(self._key(key), shape, dtype)

    def random(self, size: Size = None, *, key: jax.Array | None = None, dtype: DTypeLike | None = None) -> jax.Array:
        """Uniform draws on [0, 1).

        Args:
            size: the shape of the result; by default a scalar.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape = as_shape(size)
        return jax.random.uniform(self._key(key), shape, dtype)

    def uniform(
        self,
        low: Parameter = 0.0,
        high: Parameter = 1.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Uniform draws on [low, high).

        Args:
            low: the lower end, included; float[...].
            high: the upper end, excluded; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].

        Example:
            >>> from graphstate import random
            >>> random.uniform(-1.0, 1.0, size=(2, 3)).shape
            (2, 3)
        """
        shape, parameters = broadcast(size, dtype, low=low, high=high)
        return jax.random.uniform(self._key(key), shape, dtype, parameters["low"], parameters["high"])

    def normal(
        self,
        loc: Parameter = 0.0,
        scale: Parameter = 1.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the normal (Gaussian) distribution.

        Args:
            loc: the mean; float[...].
            scale: the standard deviation; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float or complex dtype; by default JAX's float.

        Returns:
            float[*size].

        Example:
            >>> import jax, jax.numpy as jnp
            >>> from graphstate import random
            >>> random.normal(jnp.zeros(3), 0.1, size=(2, 3)).shape
            (2, 3)
            >>> key = jax.random.key(0)
            >>> bool(random.normal(key=key) == jax.random.normal(key))
            True
        """
        shape, parameters = broadcast(size, dtype, loc=loc, scale=scale)
        return moved(jax.random.normal(self._key(key), shape, dtype), **parameters)

    def truncated_normal(
        self,
        lower: Parameter,
        upper: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the standard normal distribution, cut to the open interval (lower, upper).

        Args:
            lower: the lower end; float[...].
            upper: the upper end; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, lower=lower, upper=upper)
        return jax.random.truncated_normal(self._key(key), shape=shape, dtype=dtype, **parameters)

    def generalized_normal(
        self,
        p: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws with a density proportional to exp(-|x|^p).

        Args:
            p: the power, positive; float[...].
            size: the shape of the result; by default that of `p`.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, p=p)
        return jax.random.generalized_normal(self._key(key), shape=shape, dtype=dtype, **parameters)

    def laplace(
        self,
        loc: Parameter = 0.0,
        scale: Parameter = 1.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the Laplace (double exponential) distribution.

        Args:
            loc: the peak; float[...].
            scale: the decay length; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, loc=loc, scale=scale)
        return moved(jax.random.laplace(self._key(key), shape, dtype), **parameters)

    def logistic(
        self,
        loc: Parameter = 0.0,
        scale: Parameter = 1.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the logistic distribution.

        Args:
            loc: the mean; float[...].
            scale: the width; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, loc=loc, scale=scale)
        return moved(jax.random.logistic(self._key(key), shape, dtype), **parameters)

    def cauchy(
        self,
        loc: Parameter = 0.0,
        scale: Parameter = 1.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the Cauchy distribution.

        Args:
            loc: the median; float[...].
            scale: half the width at half the maximum; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, loc=loc, scale=scale)
        return moved(jax.random.cauchy(self._key(key), shape, dtype), **parameters)

    def gumbel(
        self,
        loc: Parameter = 0.0,
        scale: Parameter = 1.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
        mode: str | None = None,
    ) -> jax.Array:
        """Draws of the Gumbel distribution.

        Args:
            loc: the mode; float[...].
            scale: the width; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.
            mode: "low", "high" or "highest": how many bits a draw takes, and so how far the tail reaches.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, loc=loc, scale=scale)
        return moved(jax.random.gumbel(self._key(key), shape, dtype, mode), **parameters)

    def t(
        self,
        df: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of Student's t distribution.

        Args:
            df: degrees of freedom, positive; float[...].
            size: the shape of the result; by default that of `df`.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, df=df)
        return jax.random.t(self._key(key), shape=shape, dtype=dtype, **parameters)

    def double_sided_maxwell(
        self,
        loc: Parameter = 0.0,
        scale: Parameter = 1.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the Maxwell distribution with a random sign.

        Args:
            loc: the centre; float[...].
            scale: the width; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, loc=loc, scale=scale)
        if any(parameter.ndim for parameter in parameters.values()):
            # The function of JAX appends the axes of its parameters to those of `shape`.
            return moved(jax.random.double_sided_maxwell(self._key(key), 0.0, 1.0, shape, dtype), **parameters)
        return jax.random.double_sided_maxwell(self._key(key), shape=shape, dtype=dtype, **parameters)

    def triangular(
        self,
        left: Parameter,
        mode: Parameter,
        right: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the triangular distribution on [left, right].

        Args:
            left: the lower end; float[...].
            mode: the peak, between the ends; float[...].
            right: the upper end; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, left=left, mode=mode, right=right)
        return jax.random.triangular(self._key(key), shape=shape, dtype=dtype, **parameters)
