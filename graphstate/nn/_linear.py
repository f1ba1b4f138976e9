"""`Linear`: an affine map of the last axis."""

import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import ArrayLike, DTypeLike

from graphstate.graph import Node, ParamState
from graphstate.random import DEFAULT, RandomState

from ._errors import RangeError, ShapeError, describe
from ._promotion import add_to_last, promote

__all__ = ["Linear"]

Initializer = Callable[..., Array]


class Linear(Node):
    """Maps the last axis of its input: `x @ weight + bias`.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        use_bias: whether there is a `bias`; without one it is None.
        weight_init: `weight_init(key, shape, dtype)` makes the weight, as those of `nn.initializers` do.
        bias_init: the same for the bias.
        dtype: what to compute in; None for the common float dtype of input and parameters.
        param_dtype: dtype of the parameters.
        rng: what the parameters are drawn from; None for `random.DEFAULT`.

    Attributes:
        weight: `ParamState`, param_dtype[in_features, out_features].
        bias: `ParamState`, param_dtype[out_features], or None.

    Raises:
        RangeError: a size is not a positive whole number.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> layer = gs.nn.Linear(3, 2)
        >>> layer(jnp.ones(3)).shape, layer(jnp.ones((8, 5, 3))).shape
        ((2,), (8, 5, 2))
    """

    weight: ParamState
    bias: ParamState | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        weight_init: Initializer = initializers.lecun_normal(),  # noqa: B008  an initializer is a constant
        bias_init: Initializer = initializers.zeros,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rng: RandomState | None = None,
    ) -> None:
        self.in_features = _size("in_features", in_features)
        self.out_features = _size("out_features", out_features)
        self.dtype = None if dtype is None else jnp.dtype(dtype)
        draw = DEFAULT if rng is None else rng
        shape = (self.in_features, self.out_features)
        self.weight = ParamState(weight_init(draw.split_key(), shape, param_dtype))
        self.bias = ParamState(bias_init(draw.split_key(), shape[1:], param_dtype)) if use_bias else None

    def __call__(self, x: ArrayLike) -> Array:
        """The mapped input.

        Args:
            x: activations, number[..., in_features].

        Returns:
            float[..., out_features].

        Raises:
            ShapeError: the last axis of `x` is not `in_features` long, or the layer is a stack of layers.
            DtypeError: `x` holds no numbers.
        """
        x, weight = x if isinstance(x, Array) else jnp.asarray(x), self.weight.value
        if weight.shape != (self.in_features, self.out_features) or x.shape[-1:] != weight.shape[:1]:
            raise self._shape_error(x, weight)
        if self.bias is None:
            x, weight = promote("Linear", x, weight, dtype=self.dtype)
            return x @ weight
        x, weight, bias = promote("Linear", x, weight, self.bias.value, dtype=self.dtype)
        return add_to_last(x @ weight, bias)

    def _shape_error(self, x: Array, weight: Array) -> ShapeError:
        sizes = (self.in_features, self.out_features)
        if weight.shape != sizes:
            return ShapeError(
                f"Linear needs a weight of shape {sizes}, but it is {describe(weight)}. "
                "Call a stack of layers inside of `graphstate.vmap`, or take one member with `graphstate.take`."
            )
        return ShapeError(
            f"Linear{sizes} takes activations of shape (..., {self.in_features}), but got {describe(x)}. "
            "Move the features to the last axis, or give their number as `in_features`."
        )


def _size(name: str, value: Any) -> int:
    try:
        size = operator.index(value)
    except TypeError:
        size = 0
    if size < 1 or isinstance(value, bool):
        raise RangeError(
            f"Linear needs a positive whole number as `{name}`, but got {value!r}. Sizes come first: `Linear(3, 2)`."
        )
    return size
