"""A block in which streams hold a key of the caller's choice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax

from graphstate._compat import current_trace
from graphstate._trace import Frame, current_frame
from graphstate.errors import StateTypeError

from ._default import DEFAULT
from ._key import Seed, lane_key, to_key
from ._stream import KeyStream, exclusive

__all__ = ["seed_context"]


@contextmanager
def seed_context(seed: Seed, *rngs: KeyStream) -> Iterator[None]:
    """A block in which streams start from a given seed; afterwards they go on as if it had not been.

    Works inside of every transform, where the key may be traced, and as a decorator, which seeds on each call.
    Draws that other threads make from these streams meanwhile come from the given seed too.

    Args:
        seed: an int, a key (typed or legacy), or None for fresh entropy.
        rngs: the RandomStates that hold the key; `DEFAULT` if none is given. One alone holds exactly this key,
            of several the one at position `i` holds `jax.random.fold_in(key, i)`.

    Raises:
        StateTypeError: `seed` is no seed, or something else than a RandomState is to hold it.

    Example:
        >>> from graphstate import random
        >>> rng = random.RandomState(1)
        >>> with random.seed_context(0, rng):
        ...     inside = rng.normal()
        >>> bool(inside == random.RandomState(0).normal())
        True
        >>> bool(rng.normal() == random.RandomState(1).normal())
        True
    """
    streams = rngs or (DEFAULT,)
    for rng in streams:
        _check_stream(rng)
    keys = _keys(to_key(seed), len(streams))
    with exclusive():
        undo = [_restorer(rng) for rng in streams]
        for rng, key in zip(streams, keys, strict=True):
            rng.value = key
    try:
        yield
    finally:
        with exclusive():
            for restore in undo:
                restore()


def _check_stream(rng: Any) -> None:
    if not isinstance(rng, KeyStream):
        raise StateTypeError(
            f"`seed_context` takes a seed and then RandomStates, but got a {type(rng).__name__}. "
            "For all those of a Node: `seed_context(seed, *node.states(RandomState).values())`."
        )


def _keys(key: jax.Array, count: int) -> list[jax.Array]:
    return [key] if count == 1 else [lane_key(key, position) for position in range(count)]


def _restorer(rng: KeyStream) -> Callable[[], None]:
    """What undoes the block for `rng`."""
    frame = current_frame()
    if frame is not None and frame.trace is current_trace() and _is_untouched(rng, frame):
        return partial(_forget, rng, frame)
    return partial(_restore, rng, rng.value)


def _is_untouched(rng: KeyStream, frame: Frame) -> bool:
    return rng._home is None and id(rng) not in frame.slots and id(rng) not in frame.aliases


def _restore(rng: KeyStream, value: Any) -> None:
    rng.value = value


def _forget(rng: KeyStream, frame: Frame) -> None:
    # Not read and written back: a lane that only draws from its own seed must not advance the stream outside.
    # The write tells the frame that programs which read the key in the block are out of date.
    rng.value = rng.value
    frame.slots.pop(id(rng), None)
