"""What an attention computes once it has queries, keys and values."""

import math
from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax import Array

from ._errors import DtypeError, ShapeError, describe, name_of, wrong_shape
from ._normalization import widened
from ._promotion import check_floats

__all__ = ["as_mask", "attend", "check_sequences"]

_UNREADABLE: Final = -1e30
"""The score of a step that may not be read: where none may be, all count alike, and nothing is NaN."""


def attend(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    *,
    is_causal: bool,
    drop: Callable[[Array], Array] | None = None,
) -> Array:
    """Scaled dot-product attention.

    Args:
        query: float[..., time, heads, features].
        key: float[..., steps, kv_heads, features].
        value: float[..., steps, kv_heads, features].
        mask: bool[..., heads or 1, time, steps], or None.
        is_causal: whether a step reads only from itself and those before.
        drop: takes the weights, float[batch, heads, time, steps], and gives those that are left; None for all.

    Returns:
        float, in the shape of `query`.
    """
    shape = query.shape
    query, key, value = (_flat(each) for each in (query, key, value))
    mask = None if mask is None else _flat(mask)
    if drop is not None:
        return _attend_to_some(query, key, value, mask, is_causal, drop).reshape(shape)
    with jax.numpy_dtype_promotion("standard"):  # it promotes by itself
        read: Array = jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=is_causal)
    return read.reshape(shape)


def _attend_to_some(
    query: Array, key: Array, value: Array, mask: Array | None, is_causal: bool, drop: Callable[[Array], Array]
) -> Array:
    """The same with weights dropped, which `jax.nn.dot_product_attention` does not offer."""
    groups = query.shape[2] // key.shape[2]
    key, value = jnp.repeat(key, groups, 2), jnp.repeat(value, groups, 2)
    scores = widened(jnp.einsum("btnh,bsnh->bnts", query, key)) / math.sqrt(query.shape[-1])
    readable = jnp.ones(scores.shape, bool) if mask is None else jnp.broadcast_to(mask, scores.shape)
    readable = jnp.tril(readable) if is_causal else readable
    weights = drop(jax.nn.softmax(jnp.where(readable, scores, _UNREADABLE), -1))
    return jnp.einsum("bnts,bsnh->btnh", weights.astype(value.dtype), value)


def _flat(x: Array) -> Array:
    """`x` with one leading axis before its last three ones."""
    return x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:])


def check_sequences(layer: Any, x: Array, memory: Array, features: tuple[int, int]) -> None:
    """Refuses what are no sequences, float[..., steps, features], or have not the same leading axes.

    Raises:
        DtypeError: `x` holds no floats.
        ShapeError: one has another shape than it needs.
    """
    check_floats(layer, x)
    for each, size, name in zip((x, memory), features, ("time", "steps"), strict=True):
        if each.ndim < 2 or each.shape[-1] != size:
            needed = f"sequences of shape (..., {name}, {size})"
            raise wrong_shape(layer, needed, each, "A sequence has an axis of steps before that of features.")
    if memory.shape[:-2] != x.shape[:-2]:
        needed = f"a memory with the leading axes of x, {describe(x)}"
        raise wrong_shape(layer, needed, memory, "Broadcast one to the other.")


def as_mask(layer: Any, mask: Array, shape: tuple[int, ...], heads: int) -> Array:
    """A mask with all leading axes, and one for heads.

    Args:
        layer: who was given it.
        mask: bool[time, steps], or bool[..., heads or 1, time, steps].
        shape: (..., time, steps).
        heads: how many there are.

    Raises:
        DtypeError: it is not boolean.
        ShapeError: it has another shape.
    """
    *leading, time, steps = shape
    if mask.dtype != jnp.bool_:
        raise DtypeError(
            f"{name_of(layer)} takes as `mask` an array of booleans, True where a step may be read, but got "
            f"{describe(mask)}. Compare first, as `mask != 0`."
        )
    allowed = [(time, steps), *((*leading, size, time, steps) for size in (1, heads))]
    if mask.shape not in allowed:
        raise ShapeError(
            f"{name_of(layer)} takes a mask of shape {', '.join(map(str, allowed[:-1]))} or {allowed[-1]}, but got "
            f"{describe(mask)}. Give it an axis for heads, of size 1 if it holds for all."
        )
    return jnp.broadcast_to(mask, (*leading, 1, time, steps)) if mask.ndim == 2 else mask
