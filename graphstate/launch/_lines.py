"""What a process writes, line by line."""

import re
from collections.abc import Callable, Iterator

__all__ = ["Lines"]

_NOISE = re.compile(rb"\[Gloo\] Rank \d+ is connected to \d+ peer ranks\. Expected number of .* ranks is : \d+")
"""What each device is greeted with, on every new mesh: it may stand in the same line as something else."""


class Lines:
    """Takes what comes from a pipe apart into lines.

    Args:
        take: gets each line that is complete.
    """

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Takes what has come; the end of it is kept until the rest of its line comes."""
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[rest.rfind(b"\r", 0, -1) + 1 :]
        for line in _shown(whole):
            self._take(line)

    def close(self) -> None:
        """Takes what is left as a line."""
        rest, self._rest = self._rest, b""
        for line in _shown([rest] if rest else []):
            self._take(line)


def _shown(lines: list[bytes]) -> Iterator[str]:
    """Lines as a terminal would leave them: of a progress bar, which writes over itself, the last state."""
    for line in lines:
        told = _NOISE.sub(b"", line)
        if told or not line:
            yield told.decode(errors="replace").rstrip("\r").rpartition("\r")[2]
