"""The key of a RandomState in one lane of a map, which is split from the outer one only where the lane reads it."""

from typing import Any, Protocol

import jax

from graphstate._trace import Cell, Packed, unpack
from graphstate.random import RandomState
from graphstate.random._key import is_key, is_stacked

__all__ = ["LaneStream", "is_stream", "read_lazily"]


class Lanes(Protocol):
    """What splits keys: the frame of a map."""

    def split(self, outer: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The key that a RandomState has after the map, and the key of the lane."""

    def note_stream(self, cell: Cell, new: Any) -> None:
        """A lane reads its key of a RandomState, which has advanced to `new` after the map."""


def is_stream(cell: Any, held: Any) -> bool:
    """Whether `cell` is a RandomState with one key for all lanes, which has no axis that could be mapped."""
    if not isinstance(cell, RandomState):
        return False
    if isinstance(held, LaneStream):
        return True
    key = unpack(held)
    return is_key(key) and not is_stacked(key)


class LaneStream(Packed):
    """The key of a RandomState in one lane: the outer one advances only where a lane reads it."""

    __slots__ = ("_cell", "_frame", "_is_open", "_key", "_new", "_outer")

    def __init__(self, frame: Lanes, cell: Cell, outer: Any) -> None:
        self._frame = frame
        self._cell = cell
        self._outer = outer
        self._is_open = False
        self._key: jax.Array | None = None
        self._new: jax.Array | None = None

    def checked(self) -> jax.Array:
        """The key of the lane, which is read now."""
        key = self.unread()
        if not self._is_open:
            self._frame.note_stream(self._cell, self._new)
            unpack(self._outer)
            self._is_open = True
        return key

    def unread(self) -> jax.Array:
        """The key of the lane, for a program that will say whether it has read it."""
        if self._key is None:
            outer = self._outer.unread() if isinstance(self._outer, LaneStream) else unpack(self._outer)
            self._new, self._key = self._frame.split(outer)
        key: jax.Array = self._key
        return key

    def peeked(self) -> jax.Array:
        """The key; it counts as unread."""
        return self.unread()

    def copied(self) -> "LaneStream":
        """Itself: a key is no container, and stays unread."""
        return self


def read_lazily(held: Any) -> tuple[Any, LaneStream | None]:
    """The value of what is held, and the stream that it is the unread key of, if it is one."""
    return (held.unread(), held) if isinstance(held, LaneStream) else (unpack(held), None)
