"""What a process writes, line by line."""

import re
from collections.abc import Callable

__all__ = ["Lines"]

_NOISE = re.compile(rb"\[Gloo\] Rank \d+ is connected to \d+ peer ranks\. Expected number of [^:]*? ranks is : \d+")
"""What each device is greeted with, on every new mesh: it may stand in the same line as something else."""
_PIECE = re.compile(rb"\[Gloo\] Rank | is connected to | peer ranks\. Expected number of [^:]*? ranks is : ")
"""What a greeting is written in, each piece by itself: those of several threads may be mixed."""


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
        elif not line and self._owed > 0:
            self._owed -= 1
            return
        rest, pieces = _PIECE.subn(b"", told)
        if pieces and b"peer ranks" in told and not rest.strip(b"0123456789 "):
            self._owed += told.count(b"[Gloo]") - 1
        elif told or not line:
            self._take(told.decode(errors="replace").rstrip("\r").rpartition("\r")[2])
