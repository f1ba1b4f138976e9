"""Distributions of positive numbers."""

from __future__ import annotations  # so that `help` shows `Parameter` and `Size`, not what they stand for

import jax
from jax.typing import DTypeLike

from ._parameter import Parameter, Size, as_shape, broadcast, exponential, scaled
from ._stream import KeyStream

__all__ = ["PositiveSamplers"]


class PositiveSamplers(KeyStream):
    """The samplers of positive real numbers."""

    __slots__ = ()

    def exponential(
        self,
        scale: Parameter = 1.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the exponential distribution.

        Args:
            scale: the mean, one over the rate; float[...].
            size: the shape of the result; by default that of `scale`.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].

        Example:
            >>> from graphstate import random
            >>> random.exponential(2.0, size=4).shape
            (4,)
        """
        shape, parameters = broadcast(size, dtype, scale=scale)
        return scaled(jax.random.exponential(self._key(key), shape, dtype), **parameters)

    def gamma(
        self,
        shape: Parameter,
        scale: Parameter = 1.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the gamma distribution.

        Args:
            shape: the shape parameter (`a` in JAX), positive; float[...].
            scale: one over the rate; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        axes, parameters = broadcast(size, dtype, shape=shape, scale=scale)
        return scaled(jax.random.gamma(self._key(key), parameters["shape"], axes, dtype), parameters["scale"])

    def loggamma(
        self,
        a: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Logarithms of draws of the gamma distribution, exact where the draws themselves would be zero.

        Args:
            a: the shape parameter, positive; float[...].
            size: the shape of the result; by default that of `a`.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, a=a)
        return jax.random.loggamma(self._key(key), shape=shape, dtype=dtype, **parameters)

    def beta(
        self,
        a: Parameter,
        b: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the beta distribution on [0, 1].

        Args:
            a: alpha, positive; float[...].
            b: beta, positive; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, a=a, b=b)
        return jax.random.beta(self._key(key), shape=shape, dtype=dtype, **parameters)

    def chisquare(
        self,
        df: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the chi-square distribution.

        Args:
            df: degrees of freedom, positive; float[...].
            size: the shape of the result; by default that of `df`.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, df=df)
        return jax.random.chisquare(self._key(key), shape=shape, dtype=dtype, **parameters)

    def f(
        self,
        dfnum: Parameter,
        dfden: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the F distribution.

        Args:
            dfnum: degrees of freedom of the numerator, positive; float[...].
            dfden: degrees of freedom of the denominator, positive; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, dfnum=dfnum, dfden=dfden)
        return jax.random.f(self._key(key), shape=shape, dtype=dtype, **parameters)

    def lognormal(
        self,
        mean: Parameter = 0.0,
        sigma: Parameter = 1.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Exponentials of draws of a normal distribution.

        Args:
            mean: the mean of that normal distribution; float[...].
            sigma: its standard deviation; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float or complex dtype; by default JAX's float.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, mean=mean, sigma=sigma)
        draws = jax.random.lognormal(self._key(key), parameters["sigma"], shape, dtype)
        return scaled(draws, exponential(parameters["mean"]))

    def maxwell(self, size: Size = None, *, key: jax.Array | None = None, dtype: DTypeLike | None = None) -> jax.Array:
        """Draws of the Maxwell distribution: lengths of normal vectors in three dimensions.

        Args:
            size: the shape of the result; by default a scalar.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape = as_shape(size)
        return jax.random.maxwell(self._key(key), shape, dtype)

    def pareto(
        self,
        a: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the classical Pareto distribution on [1, inf), as JAX's; NumPy's are smaller by one.

        Args:
            a: the exponent of the tail (`b` in JAX), positive; float[...].
            size: the shape of the result; by default that of `a`.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, a=a)
        return jax.random.pareto(self._key(key), parameters["a"], shape, dtype)

    def rayleigh(
        self,
        scale: Parameter = 1.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the Rayleigh distribution.

        Args:
            scale: the mode, positive; float[...].
            size: the shape of the result; by default that of `scale`.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, scale=scale)
        return jax.random.rayleigh(self._key(key), shape=shape, dtype=dtype, **parameters)

    def wald(
        self,
        mean: Parameter,
        scale: Parameter = 1.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the Wald (inverse Gaussian) distribution.

        Args:
            mean: the mean, positive; float[...].
            scale: the concentration, positive; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, mean=mean, scale=scale)
        ratio = parameters["mean"] / parameters["scale"]
        return scaled(jax.random.wald(self._key(key), ratio, shape, dtype), parameters["scale"])

    def weibull_min(
        self,
        scale: Parameter,
        concentration: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the Weibull distribution.

        Args:
            scale: the scale, positive; float[...].
            concentration: the exponent, positive; float[...].
            size: the shape of the result; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size].
        """
        shape, parameters = broadcast(size, dtype, scale=scale, concentration=concentration)
        return jax.random.weibull_min(self._key(key), shape=shape, dtype=dtype, **parameters)
