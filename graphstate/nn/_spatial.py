"""Inputs with spatial axes: one example is (*places, channels), and all axes before it are a batch."""

import math
from collections.abc import Callable
from typing import Any

from jax import Array

from ._errors import wrong_shape

__all__ = ["call_flat", "check_spatial"]


def check_spatial(layer: Any, x: Array, spatial_dims: int, features: int | None, least: tuple[int, ...]) -> None:
    """Refuses an input whose last axes are not `spatial_dims` places, of at least the sizes `least`, and channels.

    Raises:
        ShapeError: saying what is needed.
    """
    places = ("width", "height, width", "depth, height, width")[spatial_dims - 1]
    needed = f"activations of shape (..., {places}, {'channels' if features is None else features})"
    if x.ndim <= spatial_dims or (features is not None and x.shape[-1] != features):
        raise wrong_shape(layer, needed, x, "Channels come last, leading axes are a batch.")
    sizes = x.shape[-1 - spatial_dims : -1]
    if any(size < required for size, required in zip(sizes, least, strict=True)):
        needed = f"{needed} with at least {', '.join(map(str, least))} places"
        raise wrong_shape(layer, needed, x, "Pad it, or choose a smaller window.")


def call_flat(function: Callable[[Array], Array], x: Array, rank: int) -> Array:
    """Calls a function of arrays with one leading axis, where `x` has any number before its last `rank` axes."""
    leading = x.shape[: x.ndim - rank]
    y = function(x.reshape(math.prod(leading), *x.shape[x.ndim - rank :]))
    return y.reshape(*leading, *y.shape[1:])
