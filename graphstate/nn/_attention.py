"""`MultiHeadAttention`: each step of a sequence reads from others, chosen by what they hold.

Queries, keys and values are made by `Linear`s, and `jax.nn.dot_product_attention` does the rest. For decoding, keys
and values of the steps before are kept in a cache.
"""

import math
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import ArrayLike, DTypeLike

from graphstate.graph import Node
from graphstate.random import DEFAULT, RandomState

from ._cache import KeyValueCache
from ._errors import DtypeError, RangeError, ShapeError, describe, name_of, wrong_shape
from ._linear import Linear
from ._mode import is_fitting
from ._normalization import widened
from ._parameters import Initializer
from ._promotion import check_floats
from ._rotary import RotaryEmbedding
from ._sizes import as_divisor, as_rate, as_size

__all__ = ["MultiHeadAttention"]

_UNREADABLE: Final = -1e30
"""The score of a step that may not be read: where none may be, all count alike, and nothing is NaN."""


class MultiHeadAttention(Node):
    """Lets each step of a sequence attend to the steps of the same sequence, or of another one.

    Args:
        features: size of the last axis of the input.
        heads: how many queries each step has.
        kv_heads: how many keys and values; fewer than `heads` are shared by groups of queries. None for `heads`.
        head_features: size of a query; None for `features / heads`.
        memory_features: size of the last axis of what is attended to; None for `features`.
        out_features: size of the last axis of the output; None for `features`.
        rotary: rotates queries and keys by their positions, as `RotaryEmbedding(head_features)`.
        rate: probability of dropping an attention weight while fitting, from 0 to 1.
        fit: True or False to make the layer independent of `environ`.
        cache_length: for how many steps keys and values are kept in decoding; None for no cache.
        use_bias: whether the four maps have a bias.
        weight_init: makes their weights.
        bias_init: makes their biases.
        dtype: what to compute in; None for the common float dtype of input and parameters.
        param_dtype: dtype of the parameters.
        rng: what parameters are drawn from; None for `random.DEFAULT`.
        dropout_rng: what is dropped by, kept as a State of the layer; None for `random.DEFAULT`.

    Attributes:
        query: `Linear(features, heads * head_features)`.
        key: `Linear(memory_features, kv_heads * head_features)`.
        value: `Linear(memory_features, kv_heads * head_features)`.
        out: `Linear(heads * head_features, out_features)`.
        cache: `KeyValueCache`, or None.

    Raises:
        RangeError: a size is not a positive whole number, `heads` does not divide `features`, `kv_heads` does not
            divide `heads`, or `rate` is not from 0 to 1.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> attention, x = gs.nn.MultiHeadAttention(8, 2, kv_heads=1, cache_length=5), jnp.ones((3, 5, 8))
        >>> attention(x, is_causal=True).shape, attention(x, jnp.ones((3, 7, 8))).shape
        ((3, 5, 8), (3, 5, 8))

        Step by step, with what is kept of the steps before:

        >>> gs.nn.reset_state(attention, batch_size=3)
        >>> steps = [attention(x[:, i : i + 1], decode=True) for i in range(5)]
        >>> bool(jnp.allclose(jnp.concatenate(steps, 1), attention(x, is_causal=True), atol=1e-5))
        True

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2; Ainslie et al. 2023, arXiv:2305.13245, for groups.
    """

    query: Linear
    key: Linear
    value: Linear
    out: Linear
    cache: KeyValueCache | None

    def __init__(
        self,
        features: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_features: int | None = None,
        memory_features: int | None = None,
        out_features: int | None = None,
        rotary: RotaryEmbedding | None = None,
        rate: float = 0.0,
        fit: bool | None = None,
        cache_length: int | None = None,
        use_bias: bool = True,
        weight_init: Initializer = initializers.lecun_normal(),  # noqa: B008  an initializer is a constant
        bias_init: Initializer = initializers.zeros,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rng: RandomState | None = None,
        dropout_rng: RandomState | None = None,
    ) -> None:
        kind = type(self).__name__
        self.features = as_size(kind, "features", features)
        self.heads = as_size(kind, "heads", heads)
        self.kv_heads = self.heads if kv_heads is None else as_divisor(kind, "kv_heads", kv_heads, heads=self.heads)
        if head_features is None:
            head_features = self.features // as_divisor(kind, "heads", self.heads, features=self.features)
        self.head_features = as_size(kind, "head_features", head_features)
        self.rotary = _fitting(rotary, self.head_features)
        self.rate = as_rate(kind, "rate", rate, "the probability of dropping an attention weight")
        self.fit = fit
        memory, out = (self.features if size is None else size for size in (memory_features, out_features))
        options: dict[str, Any] = {"use_bias": use_bias, "weight_init": weight_init, "bias_init": bias_init}
        options |= {"dtype": dtype, "param_dtype": param_dtype, "rng": rng}
        self.query = Linear(self.features, self.heads * self.head_features, **options)
        self.key = Linear(memory, self.kv_heads * self.head_features, **options)
        self.value = Linear(memory, self.kv_heads * self.head_features, **options)
        self.out = Linear(self.heads * self.head_features, out, **options)
        self.dropout_rng = dropout_rng
        self.cache = None
        if cache_length is not None:
            length, kept = as_size(kind, "cache_length", cache_length), param_dtype if dtype is None else dtype
            self.cache = KeyValueCache(length, self.kv_heads, self.head_features, kept)

    def __call__(
        self,
        x: ArrayLike,
        memory: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
        is_causal: bool = False,
        decode: bool = False,
        fit: bool | None = None,
    ) -> Array:
        """What each step has read.

        Args:
            x: float[..., time, features], the steps that read.
            memory: float[..., steps, memory_features], what they read from; None for `x`.
            mask: bool[time, steps], or bool[..., heads or 1, time, steps]: True where a step may be read.
            is_causal: whether a step reads only from itself and those before.
            decode: whether the steps of `x` come after those in the cache. They read from these, themselves, and
                those of `x` before them, and are added to the cache.
            fit: True or False for this call only; while fitting, weights are dropped.

        Returns:
            float[..., time, out_features]; NaN where a compiled call has overrun the cache.

        Raises:
            ShapeError: an input, the mask or the cache has another shape.
            DtypeError: `x` holds no floats, or the mask is not boolean.
            RangeError: `decode` without a cache, or with a `memory` or a mask.
        """
        x = jnp.asarray(x)
        memory = x if memory is None else jnp.asarray(memory)
        self._check_inputs(x, memory)
        if decode and (self.cache is None or memory is not x or mask is not None):
            raise RangeError(
                f"{name_of(self)} decodes steps of its own input, without a `mask`, and with a cache: make it with "
                "`cache_length=...`, and give `decode=True` in self-attention only."
            )
        shape = (*x.shape[:-1], memory.shape[-2])
        readable = None if mask is None else self._full_mask(jnp.asarray(mask), shape)
        cache = self.cache if decode else None
        query, key, value = self._project(x, memory, 0 if cache is None else cache.steps.value)
        if cache is None:
            read = self._attend(query, key, value, readable, is_causal, is_fitting(fit, self.fit))
            return self.out(read.reshape(*x.shape[:-1], -1))
        key, value, readable, overrun = cache.append(key, value)
        readable = jnp.broadcast_to(readable, (*x.shape[:-2], 1, *readable.shape))
        read = self._attend(query, key, value, readable, False, is_fitting(fit, self.fit))
        return jnp.where(overrun, jnp.nan, self.out(read.reshape(*x.shape[:-1], -1)))

    # Queries, keys and values

    def _project(self, x: Array, memory: Array, before: ArrayLike) -> tuple[Array, Array, Array]:
        """Queries, keys and values, float[..., steps, heads, head_features], rotated if they are to be."""
        query, key, value = (
            each(source).reshape(*source.shape[:-1], -1, self.head_features)
            for each, source in ((self.query, x), (self.key, memory), (self.value, memory))
        )
        if self.rotary is not None:
            query, key = (self.rotary(each, jnp.arange(each.shape[-3]) + before) for each in (query, key))
        return query, key, value

    def _attend(self, query: Array, key: Array, value: Array, mask: Array | None, is_causal: bool, fit: bool) -> Array:
        """Attention of queries, float[..., time, heads, head_features], in the same shape."""
        shape = query.shape
        query, key, value = (_flat(each, 3) for each in (query, key, value))
        mask = None if mask is None else _flat(mask, 3)
        if self.rate == 0 or not fit:
            with jax.numpy_dtype_promotion("standard"):  # it promotes by itself
                read = jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=is_causal)
        else:
            read = self._attend_to_some(query, key, value, mask, is_causal)
        return read.reshape(shape)

    def _attend_to_some(self, query: Array, key: Array, value: Array, mask: Array | None, is_causal: bool) -> Array:
        """The same with weights dropped, which `jax.nn.dot_product_attention` does not offer."""
        groups = self.heads // self.kv_heads
        key, value = jnp.repeat(key, groups, 2), jnp.repeat(value, groups, 2)
        scores = widened(jnp.einsum("btnh,bsnh->bnts", query, key)) / math.sqrt(self.head_features)
        readable = jnp.ones(scores.shape, bool) if mask is None else jnp.broadcast_to(mask, scores.shape)
        readable = jnp.tril(readable) if is_causal else readable
        weights = jax.nn.softmax(jnp.where(readable, scores, _UNREADABLE), -1)
        rng = DEFAULT if self.dropout_rng is None else self.dropout_rng
        kept = rng.bernoulli(1 - self.rate, size=weights.shape)
        weights = jnp.where(kept, weights, jnp.zeros_like(weights)) / max(1 - self.rate, 1e-30)
        return jnp.einsum("bnts,bsnh->btnh", weights.astype(value.dtype), value)

    # Checks

    def _check_inputs(self, x: Array, memory: Array) -> None:
        check_floats(name_of(self), x)
        for each, size, name in ((x, self.features, "time"), (memory, self.key.in_features, "steps")):
            if each.ndim < 2 or each.shape[-1] != size:
                needed = f"sequences of shape (..., {name}, {size})"
                raise wrong_shape(self, needed, each, "A sequence has an axis of steps before that of features.")
        if memory.shape[:-2] != x.shape[:-2]:
            raise wrong_shape(
                self, f"a memory with the leading axes of x, {describe(x)}", memory, "Broadcast one to the other."
            )

    def _full_mask(self, mask: Array, shape: tuple[int, ...]) -> Array:
        """The mask as bool[..., heads or 1, time, steps]."""
        *leading, time, steps = shape
        if mask.dtype != jnp.bool_:
            raise DtypeError(
                f"{name_of(self)} takes as `mask` an array of booleans, True where a step may be read, but got "
                f"{describe(mask)}. Compare first, as `mask != 0`."
            )
        allowed = [(time, steps), *((*leading, heads, time, steps) for heads in (1, self.heads))]
        if mask.shape not in allowed:
            raise ShapeError(
                f"{name_of(self)} takes a mask of shape {', '.join(map(str, allowed[:-1]))} or {allowed[-1]}, but got "
                f"{describe(mask)}. Give it an axis for heads, of size 1 if it holds for all."
            )
        return jnp.broadcast_to(mask, (*leading, 1, time, steps)) if mask.ndim == 2 else mask


def _flat(x: Array, rank: int) -> Array:
    """`x` with one leading axis before its last `rank` ones."""
    return x.reshape(math.prod(x.shape[: x.ndim - rank]), *x.shape[x.ndim - rank :])


def _fitting(rotary: RotaryEmbedding | None, head_features: int) -> RotaryEmbedding | None:
    if rotary is not None and rotary.features != head_features:
        raise RangeError(
            f"MultiHeadAttention rotates heads of {head_features} features, but its `rotary` is for {rotary.features}. "
            f"Give `RotaryEmbedding({head_features})`."
        )
    return rotary
