"""Padding of the spatial axes, as convolutions and pools take it."""

from collections.abc import Sequence
from typing import Any, Final

import jax.numpy as jnp
from jax import Array

from ._errors import RangeError
from ._sizes import as_size

__all__ = ["MODES", "Padding", "as_padding", "pad_spatial", "pairs_of"]

Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]

MODES: Final = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""What stands beyond the border, by PyTorch's names, and what `jnp.pad` calls it."""


def as_padding(layer: str, padding: Any, count: int) -> str | tuple[tuple[int, int], ...]:
    """Either "SAME", "VALID", or the padding before and after each of `count` axes.

    Raises:
        RangeError: it is none of "SAME", "VALID", a number, `count` numbers, `count` pairs of numbers.
    """
    if isinstance(padding, str) and padding.upper() in ("SAME", "VALID"):
        return padding.upper()
    each = padding if isinstance(padding, Sequence) and not isinstance(padding, str) else (padding,) * count
    pairs = [tuple(pair) if isinstance(pair, Sequence) else (pair, pair) for pair in each]
    if isinstance(padding, str) or len(pairs) != count or any(len(pair) != 2 for pair in pairs):
        raise RangeError(
            f"{layer} needs as `padding` 'SAME', 'VALID', a whole number, or {count} numbers or pairs of numbers, one "
            f"for each spatial axis, but got {padding!r}."
        )
    before, after = zip(
        *(tuple(as_size(layer, "padding", size, least=0) for size in pair) for pair in pairs), strict=True
    )
    return tuple(zip(before, after, strict=True))


def pairs_of(
    padding: str | tuple[tuple[int, int], ...], sizes: Sequence[int], windows: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """The padding before and after each axis, in numbers.

    Args:
        padding: as `as_padding` gives it; "SAME" gives as many outputs as there are strides in an axis.
        sizes: of the axes.
        windows: of the kernel, dilation included.
        strides: of the kernel.
    """
    if not isinstance(padding, str):
        return list(padding)
    if padding == "VALID":
        return [(0, 0)] * len(sizes)
    totals = [
        max((-(-size // stride) - 1) * stride + window - size, 0)
        for size, window, stride in zip(sizes, windows, strides, strict=True)
    ]
    return [(total // 2, total - total // 2) for total in totals]


def pad_spatial(x: Array, pairs: Sequence[tuple[int, int]], mode: str) -> Array:
    """Pads the axes between the first and the last of `x`."""
    return jnp.pad(x, [(0, 0), *pairs, (0, 0)], MODES[mode])
