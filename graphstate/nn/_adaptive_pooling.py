"""Pooling to a given number of outputs, whatever the size of the input. Channels come last."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from graphstate.graph import Node

from ._pooling import least_of
from ._promotion import check_floats
from ._sizes import as_sizes
from ._spatial import check_spatial

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
]


class _AdaptivePool(Node):
    """A pool over `spatial_dims` axes with a given number of outputs."""

    spatial_dims: ClassVar[int]

    def __init__(self, output_size: int | tuple[int, ...]) -> None:
        self.output_size = as_sizes(type(self).__name__, "output_size", output_size, self.spatial_dims)

    def __call__(self, x: ArrayLike) -> Array:
        """The pooled input.

        Args:
            x: [..., *places, channels].

        Returns:
            [..., *output_size, channels].

        Raises:
            ShapeError: `x` has too few axes, or an axis without places.
            DtypeError: a mean is asked of what holds no floats, or the largest of what has no order.
        """
        x = jnp.asarray(x)
        check_spatial(self, x, self.spatial_dims, None, (1,) * self.spatial_dims)
        for axis, count in enumerate(self.output_size, x.ndim - 1 - self.spatial_dims):
            bounds = [(i * x.shape[axis] // count, -(-(i + 1) * x.shape[axis] // count)) for i in range(count)]
            parts = [jax.lax.slice_in_dim(x, start, end, axis=axis) for start, end in bounds]
            x = jnp.stack([self._reduced(part, axis) for part in parts], axis)
        return x

    def _reduced(self, part: Array, axis: int) -> Array:
        raise AssertionError(type(self))


class _AdaptiveMaxPool(_AdaptivePool):
    def _reduced(self, part: Array, axis: int) -> Array:
        least_of(self, part)
        return jnp.max(part, axis)


class _AdaptiveAvgPool(_AdaptivePool):
    def _reduced(self, part: Array, axis: int) -> Array:
        check_floats(self, part)
        return jnp.mean(part, axis)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest values of a given number of windows of one axis: of sequences, [..., width, channels].

    Window i begins at `floor(i * places / output_size)` and ends before `ceil((i + 1) * places / output_size)`.

    Args:
        output_size: the number of outputs.

    Raises:
        RangeError: it is not a positive whole number.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.AdaptiveMaxPool1d(2)(jnp.arange(5.0)[:, None]).ravel().tolist()
        [2.0, 4.0]

    Source: `torch.nn.AdaptiveMaxPool1d`, with channels last.
    """

    spatial_dims = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The same for images, [..., height, width, channels]; as `AdaptiveMaxPool1d`.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.AdaptiveMaxPool2d((2, 1))(jnp.ones((8, 5, 6, 3))).shape
        (8, 2, 1, 3)

    Source: `torch.nn.AdaptiveMaxPool2d`, with channels last.
    """

    spatial_dims = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The same for volumes, [..., depth, height, width, channels]; as `AdaptiveMaxPool1d`.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.AdaptiveMaxPool3d(2)(jnp.ones((5, 4, 3, 7))).shape
        (2, 2, 2, 7)

    Source: `torch.nn.AdaptiveMaxPool3d`, with channels last.
    """

    spatial_dims = 3


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of a given number of windows of one axis: of sequences, float[..., width, channels].

    Windows are those of `AdaptiveMaxPool1d`.

    Args:
        output_size: the number of outputs.

    Raises:
        RangeError: it is not a positive whole number.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.AdaptiveAvgPool1d(2)(jnp.arange(5.0)[:, None]).ravel().tolist()
        [1.0, 3.0]

    Source: `torch.nn.AdaptiveAvgPool1d`, with channels last.
    """

    spatial_dims = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The same for images, float[..., height, width, channels]; as `AdaptiveAvgPool1d`.

    Example:
        With one output it is the mean of each channel:

        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.AdaptiveAvgPool2d(1)(jnp.ones((8, 5, 6, 3))).shape
        (8, 1, 1, 3)

    Source: `torch.nn.AdaptiveAvgPool2d`, with channels last.
    """

    spatial_dims = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The same for volumes, float[..., depth, height, width, channels]; as `AdaptiveAvgPool1d`.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.AdaptiveAvgPool3d(2)(jnp.ones((5, 4, 3, 7))).shape
        (2, 2, 2, 7)

    Source: `torch.nn.AdaptiveAvgPool3d`, with channels last.
    """

    spatial_dims = 3
