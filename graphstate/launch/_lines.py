"""What a process writes, line by line."""

import re
from collections.abc import Callable

__all__ = ["Lines"]

_NOISE = re.compile(rb"\[Gloo\] Rank \d+ is connected to \d+ peer ranks\. Expected number of [^:]*? ranks is : \d+")
"""What each device is greeted with, on every new mesh: it may stand in the same line as something else."""


class Lines:
    """Takes what comes from a pipe apart into lines.

    Args:
        take: gets each line that is complete.
    """

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._rest = b""
        self._owed = 0
        """How many empty lines are still to come that are the ends of greetings."""

    def feed(self, data: bytes) -> None:
        """Takes what has come; the end of it is kept until the rest of its line comes."""
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[rest.rfind(b"\r", 0, -1) + 1 :]
        for line in whole:
            self._show(line)

    def close(self) -> None:
        """Takes what is left as a line."""
        rest, self._rest = self._rest, b""
        if rest:
            self._show(rest)

    def _show(self, line: bytes) -> None:
        """Takes a line as a terminal would leave it: of a progress bar, which writes over itself, the last state."""
        told, greetings = _NOISE.subn(b"", line)
        if greetings:
            self._owed += greetings - (not told)
        elif not line and self._owed:
            self._owed -= 1
            return
        if told or not line:
            self._take(told.decode(errors="replace").rstrip("\r").rpartition("\r")[2])
