"""The line between a process and the launcher that has started it.

The process says over it how far it has come, and what its error was. It never hears anything; but when the line breaks
the launcher is gone, and then the process must go too, with all that it has started.
"""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from typing import Any

__all__ = ["VARIABLE", "Link"]

VARIABLE = "GRAPHSTATE_LAUNCH_LINK"


class Link:
    """The end of the process; without a launcher, one that leads nowhere."""

    def __init__(self) -> None:
        number = os.environ.pop(VARIABLE, None)
        self._socket = None if number is None else socket.socket(fileno=int(number))
        if self._socket is not None:
            self._socket.set_inheritable(False)
            threading.Thread(target=_follow, args=(self._socket,), daemon=True).start()

    def say(self, **words: Any) -> None:
        """Says something to the launcher."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # the launcher is gone
                self._socket.sendall(json.dumps({**words, "time": time.monotonic()}).encode() + b"\n")


def _follow(line: socket.socket) -> None:
    while line.recv(1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)  # the group of this process alone: the launcher has given it one
