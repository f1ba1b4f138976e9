"""One process of a group, as who has started it sees it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from ._lines import Lines
from ._link import VARIABLE

__all__ = ["Member"]

_TAIL = 5
_FLAGS = ["-P"] if sys.flags.safe_path else []


class Member:
    """One process of a group.

    Args:
        number: its number.
        command: the script and its arguments.
        environment: what it finds in its environment.

    Attributes:
        stage: how far it has come: None, "up", "connected", "done" or "failed".
        error: its error, if it has said one.
        failed_at: when it said so; a process that could say nothing was killed, and that was not later.
        tail: the last lines of what it wrote to standard error.
        code: its exit code, or minus the signal that killed it; None while it runs.
    """

    def __init__(self, number: int, command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        self.number = number
        self.stage: str | None = None
        self.error: str | None = None
        self.failed_at: float | None = None
        self.code: int | None = None
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self._link, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *_FLAGS, "-m", f"{__package__}._worker", *map(str, command)],
                env={**environment, VARIABLE: str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )

    def pipes(self, output: TextIO, errors: TextIO) -> Iterator[tuple[int, Lines]]:
        """What it writes to, each with what takes it from there."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        yield self._process.stdout.fileno(), Lines(self._shown_in(output))
        yield self._process.stderr.fileno(), Lines(self._kept_from(self._shown_in(errors)))
        yield self._link.fileno(), Lines(self._note)

    def poll(self) -> None:
        """Looks whether it still runs; what it has started and left behind ends with it."""
        if self.code is None:
            code = self._process.poll()
            if code is not None:
                self.signal(signal.SIGKILL)  # at once, not later: then its number may be that of another process
                self.code = code

    @property
    def has_failed(self) -> bool:
        """Whether it has ended as it should not."""
        return self.code is not None and (self.code != 0 or self.stage in (None, "up"))

    @property
    def has_ended(self) -> bool:
        """Whether it has come to the end of the script, or has ended by itself before."""
        return not self.has_failed and (self.stage == "done" or self.code == 0)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to it, and to all that it has started."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def close(self) -> None:
        """Ends it, and all that it has started."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._link.close()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def end(self) -> str:
        """How it has ended."""
        assert self.code is not None
        if self.code < 0:
            return f"was killed by {signal.Signals(-self.code).name}"
        if self.code == 0:
            return "ended before it had begun"
        return f"ended with exit code {self.code}"

    def _shown_in(self, stream: TextIO) -> Callable[[str], None]:
        def show(line: str) -> None:
            stream.write(f"[{self.number}] {line}\n")
            stream.flush()

        return show

    def _kept_from(self, show: Callable[[str], None]) -> Callable[[str], None]:
        def keep(line: str) -> None:
            self.tail.append(line)
            show(line)

        return keep

    def _note(self, line: str) -> None:
        words: dict[str, Any] = json.loads(line)
        self.stage = words["stage"]
        if self.stage == "failed":
            self.error, self.failed_at = words["error"], words["time"]
