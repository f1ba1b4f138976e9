"""Pooling: the largest or the mean value of each window of places. Channels come last, and each is pooled by itself."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from graphstate.graph import Node

from ._errors import DtypeError, RangeError, describe, name_of
from ._normalization import widened
from ._padding import Padding, as_padding, pairs_of
from ._promotion import check_floats
from ._sizes import as_sizes
from ._spatial import check_spatial

__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "least_of",
]


class _Pool(Node):
    """A pool over `spatial_dims` axes, with a window."""

    spatial_dims: ClassVar[int]

    def __init__(
        self,
        window: int | tuple[int, ...],
        *,
        stride: int | tuple[int, ...] | None = None,
        padding: Padding = 0,
    ) -> None:
        kind, dims = type(self).__name__, self.spatial_dims
        self.window = as_sizes(kind, "window", window, dims)
        self.stride = self.window if stride is None else as_sizes(kind, "stride", stride, dims)
        self.padding = as_padding(kind, padding, dims)
        pairs = () if isinstance(self.padding, str) else self.padding
        for pair, size in zip(pairs, self.window, strict=False):
            if max(pair) >= size:
                raise RangeError(
                    f"{kind} needs less padding than its window is wide, so that no window holds padding alone, but "
                    f"got padding={padding} for window={window}. Pad less, or pad the input itself."
                )

    def __call__(self, x: ArrayLike) -> Array:
        """The pooled input.

        Args:
            x: [..., *places, channels].

        Returns:
            [..., *places, channels], with `(places + padding - window) // stride + 1` places in each axis.

        Raises:
            ShapeError: `x` has too few axes, or the window is larger than the padded input.
            DtypeError: a mean is asked of what holds no floats, or the largest of what has no order.
        """
        x = jnp.asarray(x)
        check_spatial(self, x, self.spatial_dims, None, self._least())
        leading = (1,) * (x.ndim - 1 - self.spatial_dims)
        pairs = pairs_of(self.padding, x.shape[len(leading) : -1], self.window, self.stride)
        return self._pooled(
            x, (*leading, *self.window, 1), (*leading, *self.stride, 1), [(0, 0)] * len(leading) + pairs + [(0, 0)]
        )

    def _pooled(
        self, x: Array, window: tuple[int, ...], stride: tuple[int, ...], padding: list[tuple[int, int]]
    ) -> Array:
        raise AssertionError(type(self))

    def _least(self) -> tuple[int, ...]:
        if self.padding == "SAME":
            return (1,) * self.spatial_dims
        pairs = pairs_of(self.padding, self.window, self.window, self.stride)
        return tuple(max(window - sum(pair), 1) for window, pair in zip(self.window, pairs, strict=True))


class _MaxPool(_Pool):
    def _pooled(
        self, x: Array, window: tuple[int, ...], stride: tuple[int, ...], padding: list[tuple[int, int]]
    ) -> Array:
        pooled: Array = jax.lax.reduce_window(x, least_of(self, x), jax.lax.max, window, stride, padding)
        return pooled


def least_of(layer: Any, x: Array) -> Any:
    """What no value is less than.

    Raises:
        DtypeError: the values have no order.
    """
    if x.dtype == jnp.bool_:
        return np.False_
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x.dtype.type(np.iinfo(x.dtype).min)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x.dtype.type(-jnp.inf)
    raise DtypeError(
        f"{name_of(layer)} looks for the largest, so it takes real numbers or booleans, but got {describe(x)}."
    )


class _AvgPool(_Pool):
    def _pooled(
        self, x: Array, window: tuple[int, ...], stride: tuple[int, ...], padding: list[tuple[int, int]]
    ) -> Array:
        check_floats(self, x)
        wide = widened(x)
        total: Array = jax.lax.reduce_window(wide, wide.dtype.type(0), jax.lax.add, window, stride, padding)
        return (total / math.prod(window)).astype(x.dtype)


class MaxPool1d(_MaxPool):
    """The largest value of each window of one axis: of sequences, [..., width, channels].

    Args:
        window: size of the window.
        stride: places from one window to the next; None for windows side by side.
        padding: "SAME", "VALID", the places on either side, or a pair for each axis, as `((1, 2),)`;
            nothing there is ever the largest.

    Raises:
        RangeError: a size is not a positive whole number, or `padding` is none or as wide as the window.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.MaxPool1d(2)(jnp.array([[1.0], [3.0], [2.0], [0.0]])).ravel().tolist()
        [3.0, 2.0]

    Source: `torch.nn.MaxPool1d`, with channels last.
    """

    spatial_dims = 1


class MaxPool2d(_MaxPool):
    """The largest value of each window of images, [..., height, width, channels]; as `MaxPool1d`.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.MaxPool2d(2)(jnp.ones((8, 4, 6, 3))).shape
        (8, 2, 3, 3)

    Source: `torch.nn.MaxPool2d`, with channels last.
    """

    spatial_dims = 2


class MaxPool3d(_MaxPool):
    """The largest value of each window of volumes, [..., depth, height, width, channels]; as `MaxPool1d`.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.MaxPool3d(2, stride=1)(jnp.ones((4, 4, 4, 3))).shape
        (3, 3, 3, 3)

    Source: `torch.nn.MaxPool3d`, with channels last.
    """

    spatial_dims = 3


class AvgPool1d(_AvgPool):
    """The mean of each window of one axis: of sequences, float[..., width, channels].

    Args:
        window: size of the window.
        stride: places from one window to the next; None for windows side by side.
        padding: "SAME", "VALID", the places on either side, or a pair for each axis, as `((1, 2),)`;
            they count as zeros.

    Raises:
        RangeError: a size is not a positive whole number, or `padding` is none or as wide as the window.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.AvgPool1d(2, stride=1)(jnp.array([[1.0], [3.0], [2.0]])).ravel().tolist()
        [2.0, 2.5]

    Source: `torch.nn.AvgPool1d`, with channels last.
    """

    spatial_dims = 1


class AvgPool2d(_AvgPool):
    """The mean of each window of images, float[..., height, width, channels]; as `AvgPool1d`.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.AvgPool2d(2)(jnp.ones((8, 4, 6, 3))).shape
        (8, 2, 3, 3)

    Source: `torch.nn.AvgPool2d`, with channels last.
    """

    spatial_dims = 2


class AvgPool3d(_AvgPool):
    """The mean of each window of volumes, float[..., depth, height, width, channels]; as `AvgPool1d`.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.AvgPool3d(2, stride=1)(jnp.ones((4, 4, 4, 3))).shape
        (3, 3, 3, 3)

    Source: `torch.nn.AvgPool3d`, with channels last.
    """

    spatial_dims = 3
