"""No two threads draw with one key, also where a transform draws.

A transform that runs in the trace of its caller reads a RandomState at its first draw and writes it when it has
finished. Where nothing is being traced around it, it holds the lock of the streams in between.
"""

from contextlib import ExitStack
from typing import Any, Self

from graphstate._trace import Frame, copied
from graphstate.random import RandomState
from graphstate.random._stream import exclusive

__all__ = ["Hold", "HoldingFrame"]


class Hold:
    """The lock of the random streams, for one call: taken when a stream is first read, given back at the end."""

    def __init__(self) -> None:
        self._lock = exclusive()
        self._taken = ExitStack()
        self._is_taken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._taken.close()

    def take(self) -> None:
        """Waits until no other thread draws; does nothing inside of another trace."""
        if not self._is_taken:
            self._taken.enter_context(self._lock)
            self._is_taken = True

    def take_for(self, targets: list[Any]) -> None:
        """Takes the lock if there is a RandomState among the arguments."""
        if any(isinstance(target, RandomState) for target in targets):
            self.take()


class HoldingFrame(Frame):
    """A frame that takes the lock before it reads a RandomState."""

    def __init__(self, hold: Hold) -> None:
        super().__init__()
        self._hold = hold

    def admit(self, cell: Any, outer: Any) -> Any:
        """The value itself; of a RandomState the one that it has once the lock is held."""
        return copied(self.locked(cell, outer))

    def locked(self, cell: Any, outer: Any) -> Any:
        """The packed value of an outer Cell; that of a RandomState is read again, once no other thread draws."""
        if not isinstance(cell, RandomState):
            return outer
        self._hold.take()
        return self.outer_lookup(cell)
