"""Distributions of vectors and matrices: `size` is the shape of the batch of these."""

from __future__ import annotations  # so that `help` shows `Parameter` and `Size`, not what they stand for

import jax
import numpy as np
from jax.typing import DTypeLike

from ._parameter import Parameter, Size, as_shape, broadcast, broadcast_batches, common_float
from ._stream import KeyStream

__all__ = ["VectorSamplers"]


class VectorSamplers(KeyStream):
    """The samplers whose single draw is an array."""

    __slots__ = ()

    def ball(
        self,
        d: int,
        p: Parameter = 2.0,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Uniform draws of points in the unit ball of the Lp norm.

        Args:
            d: the number of dimensions.
            p: the power of the norm, positive; a scalar.
            size: the shape of the batch; by default one point.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size, d].

        Source: Barthe, Guédon, Mendelson & Naor 2005, arXiv:math/0503650.
        """
        _, parameters = broadcast((), dtype, p=p)
        shape = as_shape(size)
        points: jax.Array = jax.random.ball(self._key(key), d, shape=shape, dtype=dtype, **parameters)
        return points

    def dirichlet(
        self,
        alpha: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Draws of the Dirichlet distribution: vectors of probabilities.

        Args:
            alpha: the concentrations, positive; float[..., k].
            size: the shape of the batch; by default that of `alpha` without its last axis.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default JAX's.

        Returns:
            float[*size, k].

        Example:
            >>> import jax.numpy as jnp
            >>> from graphstate import random
            >>> random.dirichlet(jnp.ones(3), size=4).shape
            (4, 3)
        """
        shape, parameters = broadcast_batches(size, dtype, alpha=(alpha, 1))
        return jax.random.dirichlet(self._key(key), shape=shape, dtype=dtype, **parameters)

    def multinomial(
        self,
        n: Parameter,
        pvals: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """How often each of `k` outcomes came in `n` trials.

        Args:
            n: the number of trials; int[...].
            pvals: the probabilities of the outcomes; float[..., k].
            size: the shape of the batch; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float or int dtype; by default JAX's float, as in JAX.

        Returns:
            float[*size, k].
        """
        batch, parameters = broadcast_batches(size, common_float(pvals), n=(n, 0), pvals=(pvals, 1))
        trials, probabilities = parameters["n"], parameters["pvals"]
        shape = (*batch, probabilities.shape[-1])
        counts: jax.Array = jax.random.multinomial(self._key(key), trials, probabilities, shape=shape, dtype=dtype)
        return counts

    def multivariate_normal(
        self,
        mean: Parameter,
        cov: Parameter,
        size: Size = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
        method: str = "cholesky",
    ) -> jax.Array:
        """Draws of the normal distribution of vectors.

        Args:
            mean: the mean; float[..., n].
            cov: the covariance, positive definite; float[..., n, n].
            size: the shape of the batch; by default that of the parameters, broadcast.
            key: the key to draw with; by default the next of the stream.
            dtype: a float dtype; by default that of the parameters.
            method: how `cov` is factored: "cholesky", or "eigh" or "svd", which take a singular one as well.

        Returns:
            float[*size, n].

        Example:
            >>> import jax.numpy as jnp
            >>> from graphstate import random
            >>> random.multivariate_normal(jnp.zeros(2), jnp.eye(2), size=5).shape
            (5, 2)
        """
        wanted = jax.dtypes.canonicalize_dtype(common_float(mean, cov) if dtype is None else dtype)
        # Nothing narrower than float32 can be factored.
        drawn = np.promote_types(wanted, np.float32)
        shape, parameters = broadcast_batches(size, drawn, mean=(mean, 1), cov=(cov, 2))
        draws = jax.random.multivariate_normal(self._key(key), shape=shape, dtype=drawn, method=method, **parameters)
        return draws.astype(wanted)

    def orthogonal(
        self,
        n: int,
        size: Size = None,
        m: int | None = None,
        *,
        key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
    ) -> jax.Array:
        """Uniform draws of orthogonal matrices, of unitary ones where `dtype` is complex.

        Args:
            n: the number of rows.
            size: the shape of the batch; by default one matrix.
            m: the number of columns; by default `n`. Of the rows and columns the fewer are orthonormal.
            key: the key to draw with; by default the next of the stream.
            dtype: a float or complex dtype; by default JAX's float.

        Returns:
            float[*size, n, m].

        Source: Mezzadri 2007, arXiv:math-ph/0609050.
        """
        shape = as_shape(size)
        return jax.random.orthogonal(self._key(key), n, shape, dtype, m)
