"""`Linear`: an affine map of the last axis."""

import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import ArrayLike, DTypeLike

from graphstate.graph import Node, ParamState
from graphstate.random import RandomState

from ._errors import ShapeError, check_parameter, wrong_shape
from ._parameters import Initializer, as_dtype, parameter
from ._promotion import add_to_last, promote
from ._sizes import as_size

__all__ = ["Linear"]


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

    Source: `torch.nn.Linear`, with the weight as (inputs, outputs).
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
        self.in_features = as_size("Linear", "in_features", in_features)
        self.out_features = as_size("Linear", "out_features", out_features)
        self.dtype = as_dtype(dtype)
        shape = (self.in_features, self.out_features)
        self.weight = parameter(weight_init, shape, param_dtype, rng)
        self.bias = parameter(bias_init, shape[1:], param_dtype, rng) if use_bias else None

    def __call__(self, x: ArrayLike) -> Array:
        """The mapped input.

        Args:
            x: activations, float[..., in_features].

        Returns:
            float[..., out_features].

        Raises:
            ShapeError: the last axis of `x` is not `in_features` long, or the layer is a stack of layers.
            DtypeError: `x` holds no floats.
        """
        x, weight = x if isinstance(x, Array) else jnp.asarray(x), self.weight.value
        shape, sizes = x.shape, weight.shape
        if sizes != (self.in_features, self.out_features) or shape[-1:] != sizes[:1]:
            raise self._shape_error(x, weight)
        if self.bias is None:
            x, weight = promote(self, x, weight, dtype=self.dtype)
            return x @ weight
        x, weight, bias = promote(self, x, weight, self.bias.value, dtype=self.dtype)
        return x @ weight + bias if len(shape) == 1 else add_to_last(x @ weight, bias)

    def _shape_error(self, x: Array, weight: Array) -> ShapeError:
        check_parameter(self, "weight", weight, (self.in_features, self.out_features))
        needed = f"activations of shape (..., {self.in_features})"
        return wrong_shape(
            self, needed, x, "Move the features to the last axis, or give their number as `in_features`."
        )
