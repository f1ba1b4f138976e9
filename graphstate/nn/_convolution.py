"""`Conv1d`, `Conv2d`, `Conv3d`: one small linear map for every place. Channels come last."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import ArrayLike, DTypeLike

from graphstate.graph import Node, ParamState
from graphstate.random import RandomState

from ._errors import check_parameter
from ._padding import MODES, Padding, as_padding, pad_spatial, pairs_of
from ._parameters import Initializer, as_dtype, parameter
from ._promotion import add_to_last, promote
from ._sizes import as_choice, as_divisor, as_size, as_sizes
from ._spatial import call_flat, check_spatial

__all__ = ["Conv1d", "Conv2d", "Conv3d", "convolve"]


def convolve(
    x: Array,
    weight: Array,
    padding: list[tuple[int, int]],
    *,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    spread: tuple[int, ...] | None = None,
) -> Array:
    """Convolves `x`, float[batch, *places, in], with `weight`, float[*kernel, in / groups, out].

    Args:
        x: the input.
        weight: the kernel.
        padding: zeros before and after each axis of places.
        stride: places from one output to the next.
        dilation: places from one weight to the next.
        groups: into how many groups the channels are split.
        spread: places from one input to the next, zeros between.
    """
    places = "DHW"[-len(stride) :]
    numbers = (f"N{places}C", f"{places}IO", f"N{places}C")
    return jax.lax.conv_general_dilated(
        x,
        weight,
        stride,
        padding,
        lhs_dilation=spread,
        rhs_dilation=dilation,
        dimension_numbers=numbers,
        feature_group_count=groups,
    )


class _Conv(Node):
    """A convolution over `spatial_dims` axes."""

    spatial_dims: ClassVar[int]
    weight: ParamState
    bias: ParamState | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | tuple[int, ...],
        *,
        stride: int | tuple[int, ...] = 1,
        padding: Padding = 0,
        padding_mode: str = "zeros",
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        use_bias: bool = True,
        weight_init: Initializer = initializers.lecun_normal(),  # noqa: B008  an initializer is a constant
        bias_init: Initializer = initializers.zeros,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rng: RandomState | None = None,
    ) -> None:
        kind, dims = type(self).__name__, self.spatial_dims
        self.in_features = as_size(kind, "in_features", in_features)
        self.out_features = as_size(kind, "out_features", out_features)
        self.kernel_size = as_sizes(kind, "kernel_size", kernel_size, dims)
        self.stride = as_sizes(kind, "stride", stride, dims)
        self.padding = as_padding(kind, padding, dims)
        self.padding_mode = as_choice(kind, "padding_mode", padding_mode, tuple(MODES))
        self.dilation = as_sizes(kind, "dilation", dilation, dims)
        self.groups = as_divisor(kind, "groups", groups, in_features=self.in_features, out_features=self.out_features)
        self.dtype = as_dtype(dtype)
        self.weight = parameter(weight_init, self._weight_shape(), param_dtype, rng)
        self.bias = parameter(bias_init, (self.out_features,), param_dtype, rng) if use_bias else None

    def __call__(self, x: ArrayLike) -> Array:
        """The convolved input.

        Args:
            x: float[..., *places, in_features].

        Returns:
            float[..., *places, out_features], with
            `(places + padding - dilation * (kernel_size - 1) - 1) // stride + 1` places in each axis.

        Raises:
            ShapeError: the last axes of `x` are others, the kernel is larger than the padded input, or the layer is a
                stack of layers.
            DtypeError: `x` holds no floats.
        """
        x, weight = jnp.asarray(x), self.weight.value
        check_parameter(self, "weight", weight, self._weight_shape())
        check_spatial(self, x, self.spatial_dims, self.in_features, self._least())
        arrays = [x, weight] if self.bias is None else [x, weight, self.bias.value]
        x, weight, *bias = promote(self, *arrays, dtype=self.dtype)
        y = call_flat(lambda x: self._convolved(x, weight), x, self.spatial_dims + 1)
        return add_to_last(y, bias[0]) if bias else y

    def _convolved(self, x: Array, weight: Array) -> Array:
        pairs = pairs_of(self.padding, x.shape[1:-1], self._windows(), self.stride)
        if self.padding_mode != "zeros":
            x, pairs = pad_spatial(x, pairs, self.padding_mode), [(0, 0)] * self.spatial_dims
        return convolve(x, weight, pairs, stride=self.stride, dilation=self.dilation, groups=self.groups)

    def _windows(self) -> tuple[int, ...]:
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True))

    def _least(self) -> tuple[int, ...]:
        """The smallest sizes that a kernel fits into."""
        if self.padding == "SAME":
            return (1,) * self.spatial_dims
        pairs = pairs_of(self.padding, self.kernel_size, self._windows(), self.stride)
        return tuple(max(window - sum(pair), 1) for window, pair in zip(self._windows(), pairs, strict=True))

    def _weight_shape(self) -> tuple[int, ...]:
        return (*self.kernel_size, self.in_features // self.groups, self.out_features)


class Conv1d(_Conv):
    """A convolution over one axis: of sequences, float[..., width, channels].

    Args:
        in_features: channels of the input, its last axis.
        out_features: channels of the output.
        kernel_size: width of the kernel.
        stride: places from one output to the next.
        padding: "SAME" (as many outputs as there are strides in an axis), "VALID", the places on either side, or a
            pair of numbers for each axis, before and after it, as `((1, 2),)`.
        padding_mode: what is there: "zeros", "reflect", "replicate" or "circular".
        dilation: places from one weight to the next.
        groups: into how many groups the channels are split, each convolved by itself; `in_features` of them are
            a depthwise convolution.
        use_bias: whether there is a `bias`; without one it is None.
        weight_init: makes the weight.
        bias_init: makes the bias.
        dtype: what to compute in; None for the common float dtype of input and parameters.
        param_dtype: dtype of the parameters.
        rng: what the parameters are drawn from; None for `random.DEFAULT`.

    Attributes:
        weight: `ParamState`, param_dtype[*kernel_size, in_features / groups, out_features].
        bias: `ParamState`, param_dtype[out_features], or None.

    Raises:
        RangeError: a size is not a positive whole number, `groups` does not divide the channels, or `padding` is none.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.Conv1d(3, 4, 3, padding="SAME")(jnp.ones((8, 10, 3))).shape
        (8, 10, 4)

    Source: Dumoulin & Visin 2016, arXiv:1603.07285.
    """

    spatial_dims = 1


class Conv2d(_Conv):
    """A convolution over two axes: of images, float[..., height, width, channels].

    Arguments, attributes and errors are those of `Conv1d`; sizes are one number, or one for each axis.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> conv = gs.nn.Conv2d(3, 4, (3, 5), stride=2, padding=1)
        >>> conv(jnp.ones((8, 9, 3))).shape, conv.weight.value.shape
        ((4, 4, 4), (3, 5, 3, 4))

    Source: as for `Conv1d`.
    """

    spatial_dims = 2


class Conv3d(_Conv):
    """A convolution over three axes: of volumes, float[..., depth, height, width, channels].

    Arguments, attributes and errors are those of `Conv1d`; sizes are one number, or one for each axis.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.Conv3d(1, 2, 3)(jnp.ones((2, 5, 5, 5, 1))).shape
        (2, 3, 3, 3, 2)

    Source: as for `Conv1d`.
    """

    spatial_dims = 3
