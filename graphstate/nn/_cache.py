"""`KeyValueCache`: keys and values of the steps that an attention has decoded."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from graphstate.graph import HiddenState, Node

from ._errors import ShapeError, check_parameter, name_of
from ._reset import as_batch

__all__ = ["KeyValueCache"]


class KeyValueCache(Node):
    """Holds the keys and values of as many steps as there is room for.

    Args:
        length: for how many steps there is room.
        heads: of the keys and values.
        features: of each.
        dtype: what is kept.

    Attributes:
        key: `HiddenState`, dtype[..., length, heads, features].
        value: `HiddenState`, dtype[..., length, heads, features].
        steps: `HiddenState`, int32[], how many there are.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> cache = gs.nn.KeyValueCache(5, 2, 4, jnp.float32)
        >>> keys, values, readable, overrun = cache.append(jnp.ones((1, 2, 4)), jnp.ones((1, 2, 4)))
        >>> keys.shape, readable.tolist()
        ((5, 2, 4), [[True, False, False, False, False]])

    Source: Shazeer 2019, arXiv:1911.02150, section 2.4.
    """

    def __init__(self, length: int, heads: int, features: int, dtype: DTypeLike) -> None:
        self.shape = (length, heads, features)
        self.dtype = jnp.dtype(dtype)
        self.key = HiddenState(jnp.zeros(self.shape, self.dtype))
        self.value = HiddenState(jnp.zeros(self.shape, self.dtype))
        self.steps = HiddenState(jnp.zeros((), jnp.int32))

    def reset_state(self, batch_size: int | tuple[int, ...] | None = None) -> None:
        """Forgets all steps.

        Args:
            batch_size: sizes of the batch axes of the keys and values to come; None for no such axis.

        Raises:
            ShapeError: the cache is a stack of caches.
        """
        check_parameter(self, "number of steps", self.steps.value, ())
        for state in (self.key, self.value):
            state.value = jnp.zeros((*as_batch(batch_size), *self.shape), self.dtype)
        self.steps.value = jnp.zeros((), jnp.int32)

    def append(self, key: Array, value: Array) -> tuple[Array, Array, Array, Array]:
        """Adds steps.

        Args:
            key: float[..., time, heads, features].
            value: float[..., time, heads, features].

        Returns:
            All keys and all values that there is room for; bool[time, length], which of them each new step may read:
            those before it, and itself; and bool[], whether there were more than there is room for.

        Raises:
            ShapeError: the batch axes are not those of the cache, or there is no room; a compiled call can't raise for
                the latter.
        """
        keys, values, before = self.key.value, self.value.value, self.steps.value
        batch, time, length = key.shape[:-3], key.shape[-3], self.shape[0]
        if keys.shape != (*batch, *self.shape):
            raise ShapeError(
                f"{name_of(self)} keeps steps of inputs with batch axes {keys.shape[:-3]}, but got {batch}. "
                f"Call `reset_state(batch_size={batch})` before the first step."
            )
        if time > length or (not isinstance(before, jax.core.Tracer) and int(before) + time > length):
            raise ShapeError(
                f"{name_of(self)} has room for {length} steps, but {time} more would overrun it. "
                "Make it longer, or call `reset_state` to begin anew."
            )
        keys, values = (
            jax.lax.dynamic_update_slice_in_dim(kept, new.astype(kept.dtype), before, len(batch))
            for kept, new in ((keys, key), (values, value))
        )
        self.key.value, self.value.value, self.steps.value = keys, values, before + time
        places, new = (jnp.arange(size, dtype=before.dtype) for size in (length, time))
        readable = places[None] <= before + new[:, None]
        return keys.astype(key.dtype), values.astype(value.dtype), readable, before + time > length
