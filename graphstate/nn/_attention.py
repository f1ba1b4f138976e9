"""`MultiHeadAttention`: each step of a sequence reads from others, chosen by what they hold.

Queries, keys and values are made by `Linear`s, and `jax.nn.dot_product_attention` does the rest. For decoding, keys
and values of the steps before are kept in a cache.
"""

import functools
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import ArrayLike, DTypeLike

from graphstate.graph import Node
from graphstate.random import RandomState

from ._attending import as_mask, attend, check_sequences
from ._cache import KeyValueCache
from ._dropout import Dropout
from ._errors import RangeError, name_of
from ._linear import Linear
from ._mode import is_fitting
from ._parameters import Initializer
from ._rotary import RotaryEmbedding
from ._sizes import as_divisor, as_size

__all__ = ["MultiHeadAttention"]


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
        dropout: `Dropout` of the weights.
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
        self.dropout = Dropout(rate, fit=fit, rng=dropout_rng)
        memory, out = (self.features if size is None else size for size in (memory_features, out_features))
        options: dict[str, Any] = {"use_bias": use_bias, "weight_init": weight_init, "bias_init": bias_init}
        options |= {"dtype": dtype, "param_dtype": param_dtype, "rng": rng}
        self.query = Linear(self.features, self.heads * self.head_features, **options)
        self.key = Linear(memory, self.kv_heads * self.head_features, **options)
        self.value = Linear(memory, self.kv_heads * self.head_features, **options)
        self.out = Linear(self.heads * self.head_features, out, **options)
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
            mask: bool[time, steps], or bool[..., heads or 1, time, steps]: True where a step may be read. A step that
                may read none reads the mean of all. In decoding, steps are all that the cache has room for.
            is_causal: whether a step reads only from itself and those before.
            decode: whether the steps of `x` come after those in the cache. They read from these, themselves, and
                those of `x` before them, and are added to the cache.
            fit: True or False for this call only; while fitting, weights are dropped.

        Returns:
            float[..., time, out_features]; NaN where a compiled call has overrun the cache.

        Raises:
            ShapeError: an input, the mask or the cache has another shape.
            DtypeError: `x` holds no floats, or the mask is not boolean.
            RangeError: `decode` without a cache, or with a `memory`.
        """
        x = jnp.asarray(x)
        memory = x if memory is None else jnp.asarray(memory)
        check_sequences(self, x, memory, (self.features, self.key.in_features))
        if decode and (self.cache is None or memory is not x):
            raise RangeError(
                f"{name_of(self)} decodes steps of its own input, and with a cache: make it with `cache_length=...`, "
                "and give `decode=True` in self-attention only."
            )
        cache = self.cache if decode else None
        if mask is not None:
            steps = memory.shape[-2] if cache is None else cache.shape[0]
            mask = as_mask(self, jnp.asarray(mask), (*x.shape[:-1], steps), self.heads)
        query, key, value = _project(self, x, memory, 0 if cache is None else cache.steps.value)
        if cache is not None:
            key, value, readable, overrun = cache.append(key, value)
            readable = jnp.broadcast_to(readable, (*x.shape[:-2], 1, *readable.shape))
            mask, is_causal = readable if mask is None else readable & mask, False
        active = self.dropout.rate > 0 and is_fitting(fit, self.dropout.fit)
        drop = functools.partial(self.dropout, fit=True) if active else None
        read = attend(query, key, value, mask, is_causal=is_causal, drop=drop)
        read = read.reshape(*x.shape[:-1], self.heads * self.head_features)
        return self.out(read) if cache is None else jnp.where(overrun, jnp.nan, self.out(read))


def _project(layer: MultiHeadAttention, x: Array, memory: Array, before: ArrayLike) -> tuple[Array, Array, Array]:
    """Queries, keys and values, float[..., steps, heads, head_features], rotated if they are to be."""
    query, key, value = (
        each(source).reshape(*source.shape[:-1], heads, layer.head_features)
        for each, source, heads in (
            (layer.query, x, layer.heads),
            (layer.key, memory, layer.kv_heads),
            (layer.value, memory, layer.kv_heads),
        )
    )
    if layer.rotary is not None:
        query, key = (layer.rotary(each, jnp.arange(each.shape[-3], dtype=jnp.int32) + before) for each in (query, key))
    return query, key, value


def _fitting(rotary: RotaryEmbedding | None, head_features: int) -> RotaryEmbedding | None:
    if rotary is not None and rotary.features != head_features:
        raise RangeError(
            f"MultiHeadAttention rotates heads of {head_features} features, but its `rotary` is for {rotary.features}. "
            f"Give `RotaryEmbedding({head_features})`."
        )
    return rotary
