"""`Bilinear`: a map of two inputs that is linear in each."""

import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import ArrayLike, DTypeLike

from graphstate.graph import Node, ParamState
from graphstate.random import RandomState

from ._errors import ShapeError, check_parameter, describe, name_of
from ._parameters import Initializer, as_dtype, parameter
from ._promotion import add_to_last, check_floats, promote
from ._sizes import as_size

__all__ = ["Bilinear"]


class Bilinear(Node):
    """Maps the last axes of two inputs: output k is `x @ weight[:, :, k] @ y + bias[k]`.

    Args:
        first_features: size of the last axis of the first input.
        second_features: size of the last axis of the second input.
        out_features: size of the last axis of the output.
        use_bias: whether there is a `bias`; without one it is None.
        weight_init: makes the weight.
        bias_init: makes the bias.
        dtype: what to compute in; None for the common float dtype of inputs and parameters.
        param_dtype: dtype of the parameters.
        rng: what the parameters are drawn from; None for `random.DEFAULT`.

    Attributes:
        weight: `ParamState`, param_dtype[first_features, second_features, out_features].
        bias: `ParamState`, param_dtype[out_features], or None.

    Raises:
        RangeError: a size is not a positive whole number.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.Bilinear(3, 4, 2)(jnp.ones((8, 3)), jnp.ones((8, 4))).shape
        (8, 2)

    Source: `torch.nn.Bilinear`, with the output last.
    """

    weight: ParamState
    bias: ParamState | None

    def __init__(
        self,
        first_features: int,
        second_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        weight_init: Initializer = initializers.lecun_normal(in_axis=(0, 1)),  # noqa: B008  it is a constant
        bias_init: Initializer = initializers.zeros,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rng: RandomState | None = None,
    ) -> None:
        sizes = {"first_features": first_features, "second_features": second_features, "out_features": out_features}
        self.first_features, self.second_features, self.out_features = (
            as_size("Bilinear", name, size) for name, size in sizes.items()
        )
        self.dtype = as_dtype(dtype)
        self.weight = parameter(weight_init, self._sizes(), param_dtype, rng)
        self.bias = parameter(bias_init, (self.out_features,), param_dtype, rng) if use_bias else None

    def __call__(self, x: ArrayLike, y: ArrayLike) -> Array:
        """The mapped inputs.

        Args:
            x: float[..., first_features].
            y: float[..., second_features], with the same leading axes.

        Returns:
            float[..., out_features].

        Raises:
            ShapeError: a last axis has another size, leading axes differ, or the layer is a stack of layers.
            DtypeError: an input holds no floats.
        """
        x, y, weight = jnp.asarray(x), jnp.asarray(y), self.weight.value
        check_parameter(self, "weight", weight, self._sizes())
        if (x.shape[-1:], y.shape[-1:]) != self._lasts() or x.shape[:-1] != y.shape[:-1]:
            raise ShapeError(
                f"{name_of(self)} takes activations of shapes (..., {self.first_features}) and "
                f"(..., {self.second_features}) with the same leading axes, but got {describe(x)} and {describe(y)}. "
                "Broadcast one to the leading axes of the other."
            )
        check_floats(self, y)
        arrays = [x, y, weight] if self.bias is None else [x, y, weight, self.bias.value]
        x, y, weight, *bias = promote(self, *arrays, dtype=self.dtype)
        z = jnp.einsum("...i,...j,ijk->...k", x, y, weight)
        return add_to_last(z, bias[0]) if bias else z

    def _sizes(self) -> tuple[int, int, int]:
        return self.first_features, self.second_features, self.out_features

    def _lasts(self) -> tuple[tuple[int], tuple[int]]:
        return (self.first_features,), (self.second_features,)
