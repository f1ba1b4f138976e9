"""The processes of one program: all are started, watched and ended together."""

import contextlib
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TextIO

from graphstate.errors import ProcessError
from graphstate.parallel._initialize import Seat

from ._environment import environment_of
from ._lines import Lines
from ._member import Member

__all__ = ["run"]

_MOMENT = 0.05
_GRACE = 1.0
"""How many seconds the others have to say what they have to say, after one has failed."""
_PARTING = 5.0
"""How many seconds they have to end by themselves, after a signal."""


def run(
    script: str | Path,
    arguments: Sequence[str] = (),
    *,
    processes: int = 2,
    devices: int = 1,
    port: int | None = None,
    timeout: float = 300.0,
    output: TextIO | None = None,
    errors: TextIO | None = None,
) -> int:
    """Runs a script in several processes of this machine, each with virtual CPU devices.

    Args:
        script: the script.
        arguments: its arguments.
        processes: how many processes.
        devices: how many devices each of them has.
        port: where process 0 coordinates the others; a free one, unless told.
        timeout: for how many seconds a process waits for another: to come up, to do the same, to take part in a
            computation.
        output: where their output goes, each line with the number of the process; standard output, unless told.
        errors: where their errors go, and that of the one that has failed once more at the end; standard error,
            unless told.

    Returns:
        The exit code of the process that has failed first (as a shell tells it: 128 and the signal for one that was
        killed), else 0.
    """
    errors = errors or sys.stderr
    try:
        with _reserved(port) as address:
            group = _Group(timeout, output or sys.stdout, errors)
            with group.signals():
                return group.run([script, *arguments], address, processes, devices)
    except (OSError, ProcessError) as error:
        with contextlib.suppress(OSError):
            _tell(errors, str(error))
        return 1


class _Group:
    """The processes, and what is known of them.

    Args:
        timeout: as in `run`.
        output: as in `run`.
        errors: as in `run`.
    """

    def __init__(self, timeout: float, output: TextIO, errors: TextIO) -> None:
        self._timeout = timeout
        self._output = output
        self._errors = errors
        self._members: list[Member] = []
        self._signals: list[signal.Signals] = []
        self._selector = selectors.DefaultSelector()

    def run(self, command: Sequence[str | Path], address: str, processes: int, devices: int) -> int:
        """Starts them, and stays until all have ended."""
        try:
            for number in range(processes):
                seat = Seat(address, processes, number, self._timeout)
                member = Member(number, command, environment_of(seat, devices, os.environ))
                self._members.append(member)
                for pipe, lines in member.pipes(self._output, self._errors):
                    self._selector.register(pipe, selectors.EVENT_READ, lines)
            return self._watch()
        finally:
            for member in self._members:
                member.close()
            self._selector.close()

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """A block in which signals that end a program end all processes of the group."""
        is_main = threading.current_thread() is threading.main_thread()  # no other may
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if is_main else ()
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(signal.Signals(number))

    def _watch(self) -> int:
        start = time.monotonic()
        while True:
            self._read(_MOMENT)
            for member in self._members:
                member.poll()
            if self._signals:
                return self._part()
            if any(member.has_failed for member in self._members):
                return self._fail()
            if all(member.code is not None for member in self._members):
                self._read_rest()
                return 0
            if time.monotonic() > start + self._timeout:
                self._check_start()

    def _fail(self) -> int:
        """One has failed: the others are ended."""
        failed = [member for member in self._members if member.has_failed]
        ended = [str(member.number) for member in self._members if member.has_ended]
        self._wait(_GRACE)
        for member in self._members:
            member.signal(signal.SIGKILL)
        self._read_rest()
        cause = min(failed, key=_when)
        assert cause.code is not None
        others = "" if len(self._members) == 1 else "; the others were ended"
        others += f" (process {', '.join(ended)} had come to its end before)" if ended else ""
        told = cause.error or "\n".join(["The last that it wrote:", *cause.tail] if cause.tail else [])
        _tell(self._errors, f"process {cause.number} of {len(self._members)} {cause.end()}{others}.\n{told}".rstrip())
        return cause.code if cause.code > 0 else 128 - cause.code if cause.code else 1

    def _part(self) -> int:
        """The launcher got a signal: the processes get it too; a second one ends them at once."""
        number = self._signals[0]
        for member in self._members:
            member.signal(number)
        self._wait(_PARTING)
        for member in self._members:
            member.signal(signal.SIGKILL)
        self._read_rest()
        _tell(self._errors, f"all {len(self._members)} processes were ended by {number.name}.")
        return 128 + number

    def _wait(self, seconds: float) -> None:
        """Reads on until all have ended, for some time, or till a further signal."""
        end, heard = time.monotonic() + seconds, len(self._signals)
        while time.monotonic() < end and len(self._signals) == heard:
            self._read(_MOMENT)
            for member in self._members:
                member.poll()
            if all(member.code is not None for member in self._members):
                return

    def _check_start(self) -> None:
        for stage, what in (((None,), "come up"), ((None, "up"), "found the others")):
            late = [str(member.number) for member in self._members if member.stage in stage]
            if late:
                raise ProcessError(
                    f"after {self._timeout:g} s process {', '.join(late)} of {len(self._members)} has not {what}; "
                    "all were ended. If it is only slow, give it more time (`--timeout`)."
                )

    def _read(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            lines: Lines = key.data
            data = os.read(key.fd, 65536)
            if data:
                lines.feed(data)
            else:
                lines.close()
                self._selector.unregister(key.fd)

    def _read_rest(self) -> None:
        """Reads what has been written by processes that have ended: what they have started may still hold the pipes."""
        end = time.monotonic() + _GRACE
        while self._selector.get_map() and self._selector.select(0) and time.monotonic() < end:
            self._read(0)
        for key in list(self._selector.get_map().values()):
            key.data.close()


@contextlib.contextmanager
def _reserved(port: int | None) -> Iterator[str]:
    """An address that nobody else gets in this block: it is taken, but so that the coordinator of JAX can listen."""
    with socket.socket() as taken:
        if port is not None:
            _check_free(port)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", port or 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ProcessError(
                f"port {port} is taken ({error.strerror}). Give another, or leave `--port` out for one that is free."
            ) from None


def _when(member: Member) -> float:
    """When a process has failed, as far as is known: one that has died with the coordinator was not the first."""
    if member.failed_at is not None:
        return member.failed_at
    return float("inf") if member.code == -signal.SIGABRT else float("-inf")


def _tell(errors: TextIO, text: str) -> None:
    errors.write(f"graphstate.launch: {text}\n")
    errors.flush()
