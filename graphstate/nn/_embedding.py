"""`Embedding`: a vector for each number, and the way back."""

import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import ArrayLike, DTypeLike

from graphstate.graph import Node, ParamState
from graphstate.random import RandomState

from ._errors import DtypeError, check_parameter, describe, name_of, wrong_shape
from ._parameters import Initializer, as_dtype, parameter
from ._promotion import promote
from ._sizes import as_size

__all__ = ["Embedding"]


class Embedding(Node):
    """Looks up a learned vector for each whole number.

    Args:
        num_embeddings: how many vectors there are.
        features: size of each.
        weight_init: makes the vectors; by default normal with variance `1 / features`.
        dtype: dtype of the result; None for that of the parameters.
        param_dtype: dtype of the parameters.
        rng: what the vectors are drawn from; None for `random.DEFAULT`.

    Attributes:
        weight: `ParamState`, param_dtype[num_embeddings, features].

    Raises:
        RangeError: a size is not a positive whole number.

    Example:
        With `attend` the vectors are the weights of the output, too:

        >>> import graphstate as gs, jax.numpy as jnp
        >>> embedding = gs.nn.Embedding(10, 4)
        >>> x = embedding(jnp.array([[3, 1, 4]]))
        >>> x.shape, embedding.attend(x).shape
        ((1, 3, 4), (1, 3, 10))

    Source: for `attend`, Press & Wolf 2017, arXiv:1608.05859.
    """

    weight: ParamState

    def __init__(
        self,
        num_embeddings: int,
        features: int,
        *,
        weight_init: Initializer = initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0),  # noqa: B008
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rng: RandomState | None = None,
    ) -> None:
        self.num_embeddings = as_size("Embedding", "num_embeddings", num_embeddings)
        self.features = as_size("Embedding", "features", features)
        self.dtype = as_dtype(dtype)
        self.weight = parameter(weight_init, (self.num_embeddings, self.features), param_dtype, rng)

    def __call__(self, ids: ArrayLike) -> Array:
        """The vectors of some numbers.

        Args:
            ids: int[...], each from 0 to `num_embeddings - 1`.

        Returns:
            float[..., features]; NaN where a number is none of these.

        Raises:
            DtypeError: `ids` are no whole numbers.
            ShapeError: the layer is a stack of layers.
        """
        ids, weight = jnp.asarray(ids), self._weight()
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise DtypeError(
                f"{name_of(self)} looks up whole numbers, but got {describe(ids)}. Convert first: `x.astype(int)`."
            )
        vectors: Array = weight.at[ids].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        return vectors if self.dtype is None else vectors.astype(self.dtype)

    def attend(self, x: ArrayLike) -> Array:
        """The product of `x` with each vector: logits over the numbers, with tied weights.

        Args:
            x: float[..., features].

        Returns:
            float[..., num_embeddings].

        Raises:
            ShapeError: the last axis of `x` is not `features` long, or the layer is a stack of layers.
            DtypeError: `x` holds no floats.
        """
        x, weight = jnp.asarray(x), self._weight()
        if x.shape[-1:] != (self.features,):
            raise wrong_shape(
                self,
                f"activations of shape (..., {self.features}) in `attend`",
                x,
                "They are compared with the vectors that a lookup gives.",
            )
        x, weight = promote(self, x, weight, dtype=self.dtype)
        return x @ weight.T

    def _weight(self) -> Array:
        weight: Array = self.weight.value
        check_parameter(self, "weight", weight, (self.num_embeddings, self.features))
        return weight
