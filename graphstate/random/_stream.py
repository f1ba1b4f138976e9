"""A stream of keys: a State that holds a key and gives out another one at each draw."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Self

import jax

from graphstate._compat import EVAL, current_trace
from graphstate._trace import current_frame, describe
from graphstate.errors import AxisError, StateTypeError, TraceContextError
from graphstate.graph import State

from ._key import Seed, check_key, is_key, is_stacked, lane_keys, to_key
from ._parameter import as_shape

__all__ = ["KeyStream", "exclusive"]

_drawing: Final = threading.Lock()
_PATIENCE: Final = 20.0  # seconds


def exclusive() -> AbstractContextManager[Any]:
    """Held from reading a key to writing the next: no two threads draw with one key.

    In a frame and in a trace nothing is shared with other threads, and nothing is held.

    Raises:
        TraceContextError: another thread holds it for so long that it may be waiting for this one.
    """
    return _exclusively() if current_trace() is EVAL and current_frame() is None else nullcontext()


@contextmanager
def _exclusively() -> Iterator[None]:
    if not _drawing.acquire(timeout=_PATIENCE):
        raise TraceContextError(
            f"Another thread has been inside of an eager `vmap` or `grad` that draws for {_PATIENCE:.0f} s, so that "
            "nothing can be drawn here: it may be waiting for this thread. Draw from the `jax.random` functions "
            "here, or call the transform within `graphstate.jit`."
        )
    try:
        yield
    finally:
        _drawing.release()


class KeyStream(State):
    """What `RandomState` is without its samplers.

    Args:
        seed: an int, a key (typed or legacy), stacked keys, or None for fresh entropy.
        tags: labels for filters.
        metadata: anything hashable, by name.
    """

    __slots__ = ()

    def __init__(self, seed: Seed = None, *, tags: str | Iterable[str] = (), **metadata: Any) -> None:
        super().__init__(to_key(seed), tags=tags, **metadata)

    def seed(self, seed: Seed = None) -> None:
        """Starts the stream anew.

        Args:
            seed: an int, traced or not; a key, typed or legacy; or None for fresh entropy, which is refused
                while JAX is tracing.

        Raises:
            StateTypeError: `seed` is none of these.
            TraceContextError: `seed` is None inside of a transform, or the State belongs outside of it.

        Example:
            >>> from graphstate import random
            >>> rng = random.RandomState(0)
            >>> first = rng.normal()
            >>> rng.seed(0)
            >>> bool(rng.normal() == first)
            True
        """
        key = to_key(seed)
        with exclusive():
            self.value = key

    def split_key(self, n: int | None = None) -> jax.Array:
        """The next key of the stream, or the next `n` keys; one advance either way.

        The first keys of a larger `n` are those of a smaller one.

        Args:
            n: how many keys; None for one that is not stacked.

        Returns:
            key[] or key[n].

        Raises:
            AxisError: the stream holds a key for each lane, and no map has picked one.

        Example:
            >>> from graphstate import random
            >>> random.RandomState(0).split_key(3).shape
            (3,)
        """
        shape = None if n is None else as_shape(n, "n")
        with exclusive():
            new, base = lane_keys(self._single_key())
            self.value = new
        return base if shape is None else jax.random.split(base, shape)

    def clone(self) -> Self:
        """A stream of its own that goes on as this one does; tags and metadata are kept.

        Example:
            >>> from graphstate import random
            >>> rng = random.RandomState(0)
            >>> bool(rng.clone().normal() == rng.normal())
            True
        """
        return type(self)(self.value, tags=self.tags, **self.metadata)

    def _key(self, key: jax.Array | None) -> jax.Array:
        """What a sampler draws with: `key`, or the next key of the stream."""
        return self.split_key() if key is None else check_key(key)

    def _single_key(self) -> jax.Array:
        key: Any = self.value
        if not is_key(key):
            raise StateTypeError(
                f"{describe(self)} holds no key but a {type(key).__name__}. "
                "Write keys with its `seed` method, which takes ints and legacy keys as well."
            )
        if is_stacked(key):
            raise AxisError(
                f"{describe(self)} holds keys of shape {key.shape}, one for each lane, "
                "and was drawn from outside of a map over it. Draw inside of `graphstate.vmap` over the Node or State "
                "that holds it, take one member with `graphstate.take`, or give one key as `key=`."
            )
        return key
