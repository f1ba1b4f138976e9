"""`ConvTranspose1d`, `ConvTranspose2d`, `ConvTranspose3d`: convolutions the other way round. Channels come last."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from ._convolution import _Conv, convolve
from ._errors import RangeError
from ._padding import Padding
from ._sizes import as_sizes

__all__ = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class _ConvTranspose(_Conv):
    """A transposed convolution over `spatial_dims` axes."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | tuple[int, ...],
        *,
        stride: int | tuple[int, ...] = 1,
        padding: Padding = 0,
        output_padding: int | tuple[int, ...] = 0,
        **options: Any,
    ) -> None:
        kind = type(self).__name__
        if "padding_mode" in options:
            raise RangeError(f"{kind} pads its output, where there is nothing to repeat: it takes no `padding_mode`.")
        super().__init__(in_features, out_features, kernel_size, stride=stride, padding=padding, **options)
        self.output_padding = as_sizes(kind, "output_padding", output_padding, self.spatial_dims, least=0)

    def _convolved(self, x: Array, weight: Array) -> Array:
        kernel = jnp.flip(weight, tuple(range(self.spatial_dims)))
        ones = (1,) * self.spatial_dims
        return convolve(
            x, kernel, self._pairs(), stride=ones, dilation=self.dilation, groups=self.groups, spread=self.stride
        )

    def _pairs(self) -> list[tuple[int, int]]:
        """Padding for the input: what the kernel reaches over, less what is cut off the output."""
        windows = self._windows()
        if self.padding == "SAME":
            cuts = [window - stride for window, stride in zip(windows, self.stride, strict=True)]
            pairs = [(max(cut, 0) // 2, cut - max(cut, 0) // 2) for cut in cuts]
        else:
            pairs = [(0, 0)] * self.spatial_dims if isinstance(self.padding, str) else list(self.padding)
        return [
            (window - 1 - before, window - 1 - after + more)
            for window, (before, after), more in zip(windows, pairs, self.output_padding, strict=True)
        ]

    def _least(self) -> tuple[int, ...]:
        needed = [  # at least one place is left of what n inputs reach, (n - 1) * stride + 1, and the padding
            -(-(window - sum(pair) - 1) // stride) + 1
            for window, pair, stride in zip(self._windows(), self._pairs(), self.stride, strict=True)
        ]
        return tuple(max(size, 1) for size in needed)


class ConvTranspose1d(_ConvTranspose):
    """The transpose of a convolution over one axis, which its gradient is: from sequences to longer ones.

    The output has `(places - 1) * stride - padding + dilation * (kernel_size - 1) + output_padding + 1` places.

    Args:
        in_features: channels of the input, its last axis.
        out_features: channels of the output.
        kernel_size: width of the kernel.
        stride: places of the output from one input to the next.
        padding: what is cut off the output: "SAME" leaves `places * stride`, "VALID" all; else as in `Conv1d`.
        output_padding: how many places more there are at the end.
        options: `dilation`, `groups`, `use_bias`, `weight_init`, `bias_init`, `dtype`, `param_dtype` and `rng`, as in
            `Conv1d`.

    Attributes:
        weight: `ParamState`, param_dtype[*kernel_size, in_features / groups, out_features].
        bias: `ParamState`, param_dtype[out_features], or None.

    Raises:
        RangeError: as in `Conv1d`, or a `padding_mode` is given.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.ConvTranspose1d(3, 4, 4, stride=2, padding="SAME")(jnp.ones((8, 10, 3))).shape
        (8, 20, 4)

    Source: Dumoulin & Visin 2016, arXiv:1603.07285, section 4.
    """

    spatial_dims = 1


class ConvTranspose2d(_ConvTranspose):
    """The transpose of a convolution over two axes: from images to larger ones.

    Arguments, attributes and errors are those of `ConvTranspose1d`; sizes are one number, or one for each axis.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.ConvTranspose2d(3, 4, 3, stride=2)(jnp.ones((5, 6, 3))).shape
        (11, 13, 4)

    Source: as for `ConvTranspose1d`.
    """

    spatial_dims = 2


class ConvTranspose3d(_ConvTranspose):
    """The transpose of a convolution over three axes: from volumes to larger ones.

    Arguments, attributes and errors are those of `ConvTranspose1d`; sizes are one number, or one for each axis.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.ConvTranspose3d(1, 2, 2, stride=2)(jnp.ones((3, 3, 3, 1))).shape
        (6, 6, 6, 2)

    Source: as for `ConvTranspose1d`.
    """

    spatial_dims = 3
