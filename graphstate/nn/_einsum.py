"""`Einsum`: a linear map that is written as an einsum."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import ArrayLike, DTypeLike

from graphstate.graph import Node, ParamState
from graphstate.random import RandomState

from ._errors import RangeError, check_parameter, wrong_shape
from ._parameters import Initializer, as_dtype, parameter
from ._promotion import along_last, promote
from ._sizes import as_sizes

__all__ = ["Einsum"]


class Einsum(Node):
    """Contracts its input with a weight, as the equation says, and adds a bias.

    Args:
        equation: as that of `jnp.einsum`, of the input and the weight: "...d,dhk->...hk".
        weight_shape: shape of the weight.
        bias_shape: shape of the bias, the last axes of the output; None for no bias.
        weight_init: makes the weight; by default normal with variance 1 over the number of weights in a sum.
        bias_init: makes the bias.
        dtype: what to compute in; None for the common float dtype of input and parameters.
        param_dtype: dtype of the parameters.
        rng: what the parameters are drawn from; None for `random.DEFAULT`.

    Attributes:
        weight: `ParamState`, param_dtype[*weight_shape].
        bias: `ParamState`, param_dtype[*bias_shape], or None.

    Raises:
        RangeError: `equation` has not two operands and a result, or does not fit `weight_shape` or `bias_shape`.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> heads = gs.nn.Einsum("...d,dhk->...hk", (6, 2, 3), bias_shape=(2, 3))
        >>> heads(jnp.ones((8, 5, 6))).shape
        (8, 5, 2, 3)

    Source: `flax.nnx.Einsum`; the weight as `jax.nn.initializers.lecun_normal` has it.
    """

    weight: ParamState
    bias: ParamState | None

    def __init__(
        self,
        equation: str,
        weight_shape: Sequence[int],
        *,
        bias_shape: Sequence[int] | None = None,
        weight_init: Initializer | None = None,
        bias_init: Initializer = initializers.zeros,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rng: RandomState | None = None,
    ) -> None:
        self.weight_shape = as_sizes("Einsum", "weight_shape", weight_shape)
        self.equation = equation.replace(" ", "")
        axes = _weight_axes(self.equation)
        if axes is None or len(axes) != len(self.weight_shape):
            raise RangeError(
                "Einsum needs an equation of an input, a weight and a result, as '...d,dhk->...hk', with one letter "
                f"for each axis of the weight, but got {equation!r} for a weight of shape {self.weight_shape}."
            )
        self.bias_shape = None if bias_shape is None else as_sizes("Einsum", "bias_shape", bias_shape)
        self._check_bias(axes)
        self.dtype = as_dtype(dtype)
        init = _lecun_normal(self.equation, axes) if weight_init is None else weight_init
        self.weight = parameter(init, self.weight_shape, param_dtype, rng)
        self.bias = None if self.bias_shape is None else parameter(bias_init, self.bias_shape, param_dtype, rng)

    def __call__(self, x: ArrayLike) -> Array:
        """The contracted input.

        Args:
            x: float, with the axes that the equation names first.

        Returns:
            float, with the axes that the equation names last.

        Raises:
            ShapeError: `x` does not fit the equation, or the layer is a stack of layers.
            DtypeError: `x` holds no floats.
        """
        x, weight = jnp.asarray(x), self.weight.value
        check_parameter(self, "weight", weight, self.weight_shape)
        self._check_input(x)
        arrays = [x, weight] if self.bias is None else [x, weight, self.bias.value]
        x, weight, *bias = promote(self, *arrays, dtype=self.dtype)
        y = jnp.einsum(self.equation, x, weight)
        return y + along_last(bias[0], y.ndim) if bias else y

    def _check_bias(self, axes: str) -> None:
        sizes, result = dict(zip(axes, self.weight_shape, strict=True)), self.equation.partition("->")[2]
        pairs = zip(reversed(result.replace(".", "")), reversed(self.bias_shape or ()), strict=False)
        if any(sizes.get(axis, size) != size for axis, size in pairs):
            raise RangeError(
                f"Einsum adds a bias along the last axes of {result!r}, with a weight {axes!r} of shape "
                f"{self.weight_shape}, but got {self.bias_shape} as `bias_shape`. Axes with the same letter have the "
                "same size."
            )

    def _check_input(self, x: Array) -> None:
        sizes = dict(zip(_weight_axes(self.equation) or "", self.weight_shape, strict=True))
        named, ellipsis, after = self.equation.split(",")[0].partition("...")
        fits = x.ndim >= len(named + after) if ellipsis else x.ndim == len(named)
        pairs = [*zip(named, x.shape, strict=False), *zip(reversed(after), reversed(x.shape), strict=False)]
        if not fits or any(sizes.get(axis, size) != size for axis, size in pairs):
            raise wrong_shape(
                self,
                f"an input that fits {self.equation!r} with a weight of shape {self.weight_shape}",
                x,
                "Axes with the same letter have the same size.",
            )


def _weight_axes(equation: str) -> str | None:
    """The letters of the weight; None where the equation is no such."""
    operands, arrow, _ = equation.partition("->")
    _, comma, axes = operands.partition(",")
    return axes if arrow and comma and axes.isalpha() else None


def _lecun_normal(equation: str, axes: str) -> Initializer:
    result = equation.partition("->")[2]
    summed = tuple(number for number, axis in enumerate(axes) if axis not in result)
    kept = tuple(number for number in range(len(axes)) if number not in summed)
    return initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=summed, out_axis=kept)
