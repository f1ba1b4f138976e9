"""Keys: what a seed becomes, and the one convention by which a stream advances.

Inside graphstate a key is a typed one (`jax.random.key`), scalar or stacked. A stream that holds `key` advances
by `new, base = split(key)`: it keeps `new`, and `base` is drawn with. The lanes of a map share one advance, and
lane `i` draws with `fold_in(base, i)`, which depends on the key and `i` only.
"""

import functools
import secrets
import warnings
from typing import Any, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from graphstate._compat import EVAL, current_trace
from graphstate._trace import user_stacklevel
from graphstate.errors import StateTypeError, TraceContextError

__all__ = ["RandomnessWarning", "Seed", "check_key", "is_stacked", "lane_key", "lane_keys", "to_key"]

Seed: TypeAlias = ArrayLike | None
"""An int (traced or not), a typed or legacy key, or None for fresh entropy."""


class RandomnessWarning(UserWarning):
    """The kind of keys in use cannot keep a promise about the draws of lanes."""


def lane_keys(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One advance of a stream.

    Args:
        key: the scalar key that the stream holds.

    Returns:
        The key that the stream holds afterwards, and the base: the key to draw with, or to make lane keys from.
    """
    new, base = _split(_put_nowhere(key))
    return new, base


def _put_nowhere(key: jax.Array) -> jax.Array:
    """A key that a program on several devices has left on all of them, as one that goes where it is needed.

    Else all that is drawn with it, the parameters of a new model say, would be bound to those devices for good.
    """
    if isinstance(key, jax.core.Tracer) or not key.committed or not key.is_fully_replicated or len(key.devices()) == 1:
        return key
    data = jax.device_get(jax.random.key_data(key))
    found: jax.Array = jax.random.wrap_key_data(jax.device_put(data), impl=jax.random.key_impl(key))
    return found


@jax.jit
def _split(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    keys = jax.random.split(key)
    return keys[0], keys[1]


def lane_key(base: jax.Array, index: ArrayLike) -> jax.Array:
    """The key that lane `index` starts from, whatever the number of lanes.

    Args:
        base: the second result of `lane_keys`.
        index: the number of the lane, traced or not.
    """
    return jax.random.fold_in(base, index)


def is_key(value: Any) -> TypeGuard[jax.Array]:
    """Whether `value` is a typed key, or an array of these."""
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def is_stacked(key: jax.Array) -> bool:
    """Whether `key` holds a key for each lane, so that a map has to pick one before anything is drawn."""
    return key.ndim > 0


def to_key(seed: Seed) -> jax.Array:
    """The typed key that `seed` stands for.

    Args:
        seed: an int (as `jax.random.key` takes), a typed key, a legacy key (which is wrapped), stacked keys,
            or None for fresh entropy.

    Raises:
        StateTypeError: `seed` is none of these.
        TraceContextError: fresh entropy was asked for while JAX is tracing.
    """
    key = _fresh_key() if seed is None else _known_key(seed)
    _check_implementation(key)
    return key


def _known_key(seed: Any) -> jax.Array:
    if is_key(seed):
        return seed
    if _is_legacy_key(seed):
        return _wrap(seed)
    if _is_seed(seed):
        return jax.random.key(seed)
    raise _unusable(seed)


def _is_seed(seed: Any) -> bool:
    if isinstance(seed, int):
        return not isinstance(seed, bool) and -(2**63) <= seed < 2**63
    return (
        isinstance(seed, jax.Array | np.ndarray | np.generic)
        and seed.ndim == 0
        and jnp.issubdtype(seed.dtype, jnp.integer)
    )


def _is_legacy_key(seed: Any) -> bool:
    return isinstance(seed, jax.Array | np.ndarray) and seed.ndim > 0 and seed.dtype == np.uint32


def _wrap(data: Any) -> jax.Array:
    try:
        key: jax.Array = jax.random.wrap_key_data(data)
    except TypeError:
        raise _unusable(data) from None
    return key


def _unusable(seed: Any) -> StateTypeError:
    shown = (
        f"{type(seed).__name__} of shape {seed.shape} and dtype {seed.dtype}"
        if hasattr(seed, "shape")
        else f"{str(seed)[:40]!r} of type {type(seed).__name__}"
    )
    return StateTypeError(
        "A seed is an int that fits into 64 bits, a key as `jax.random.key(0)`, or None for fresh entropy, but got "
        f"{shown}. Round a float, hash a text, and take `rng.split_key()` where another RandomState is the source."
    )


def _fresh_key() -> jax.Array:
    if current_trace() is not EVAL:
        raise TraceContextError(
            "Fresh entropy (`seed=None`) was asked for while JAX is tracing: it would be drawn once, "
            "and every call and every lane of the traced program would repeat it. "
            "Seed outside of the transform, or give an int or a key, for instance `graphstate.random.split_key()`."
        )
    return jax.random.fold_in(jax.random.key(secrets.randbits(31)), secrets.randbits(31))


def check_key(key: Any) -> jax.Array:
    """The scalar typed key that was given as `key=`.

    Raises:
        StateTypeError: `key` is no key, or holds several.
    """
    if _is_legacy_key(key):
        key = _wrap(key)
    if not is_key(key) or is_stacked(key):
        shown = f"keys of shape {key.shape}" if is_key(key) else f"a {type(key).__name__}"
        raise StateTypeError(
            f"`key` is one key, as `jax.random.key(0)` makes it, but got {shown}. "
            "Map over several keys (`jax.vmap`), or leave `key` out to draw from the stream."
        )
    return key


def _check_implementation(key: jax.Array) -> None:
    implementation = jax.random.key_impl(key)
    if implementation in ("rbg", "unsafe_rbg"):
        _warn_of_rbg()
    elif implementation == "threefry2x32" and not _is_partitionable():
        _warn_of_unpartitionable()


def _is_partitionable() -> bool:
    return bool(jax.config.jax_threefry_partitionable)  # type: ignore[attr-defined]  # JAX adds its settings as it runs


@functools.cache
def _warn_of_rbg() -> None:
    warnings.warn(
        "With `rbg` keys the lanes of a map draw otherwise than a Python loop over the same keys does, "
        "and their draws depend on the number of lanes. Use the default keys (`threefry2x32`) where that matters.",
        RandomnessWarning,
        stacklevel=user_stacklevel(),
    )


@functools.cache
def _warn_of_unpartitionable() -> None:
    warnings.warn(
        "`jax_threefry_partitionable=False` is not supported: keys and draws then depend on how many are asked for "
        "at once, and sharded draws on the sharding. Leave the setting at its default, True.",
        RandomnessWarning,
        stacklevel=user_stacklevel(),
    )
