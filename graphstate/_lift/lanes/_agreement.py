"""Several processes run one program only if each of them does the same: here they ask each other, before they begin.

A process that has built another model would compile another program, and all of them would wait for each other for
ever, or compute with what does not belong together. So each says what it is about to do before it does it for the
first time, in words that are the same in every process, and goes on when all have said the same. The words travel by
the service that `jax.distributed` has started, so that nothing is compiled for it, and waiting has an end.
"""

import contextlib
import hashlib
import json
import threading
import time
import zlib
from collections import Counter
from typing import Any, Final

import jax
from jax.sharding import Mesh

from graphstate._compat import shared_words
from graphstate.errors import ProcessError, some_of

from ._account import Account, ProgramAccount

__all__ = ["agreement"]

_SLICE: Final = 1.0
"""For how long a process waits without looking whether it was interrupted, in seconds."""
_MARGIN: Final = 10.0
"""For how much longer the other processes wait for what the first has found out."""
_ENDED: Final = "graphstate/ended"
"""Where each process says that it has come to its end."""
_TOLD: Final = 20_000
"""How many lines of an account are compared to find the first difference."""


class Agreement:
    """What the processes of this program have agreed on.

    Attributes:
        patience: for how many seconds a process waits for the others.
    """

    def __init__(self) -> None:
        self.patience = 300.0
        self._agreed: set[tuple[Any, ...]] = set()
        self._asked: Counter[tuple[int, ...]] = Counter()
        self._lock = threading.Lock()

    def ask(self, mesh: Mesh, doing: str, account: Account | ProgramAccount, *, each_time: bool = False) -> None:
        """Goes on when all processes that have devices of a mesh are about to do the same.

        Args:
            mesh: the devices; those of several processes.
            doing: what this process is about to do, as messages call it.
            account: what it is about to do it with.
            each_time: whether it is compared even if something of this structure was before.

        Raises:
            ProcessError: another process does something else, or does not come.
        """
        words_of_all = shared_words()
        members = tuple(sorted({device.process_index for device in mesh.devices.flat}))
        if words_of_all is None or jax.process_index() not in members:
            return
        with self._lock:
            structure = account.structure()
            known = (members, doing, structure)
            if each_time or known not in self._agreed:
                question = self._question(words_of_all, members)
                question.ask(doing, f"{structure} {account.values()}", account)
                self._agreed.add(known)

    def gather(self, doing: str, value: Any) -> list[Any]:
        """What each process of the program says when all have come to the same.

        Args:
            doing: what this process is about to do, as messages call it.
            value: what it says, as JSON can write it.

        Raises:
            ProcessError: another process does something else, or does not come.
        """
        words_of_all = shared_words()
        if words_of_all is None:
            return [value]
        with self._lock:
            return self._question(words_of_all, tuple(range(jax.process_count()))).gather(doing, value)

    def leave(self) -> None:
        """Says that this process has come to its end, so that no other waits for it."""
        words_of_all = shared_words()
        if words_of_all is not None:
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # who would have heard it is gone
                words_of_all.key_value_set(f"{_ENDED}/{jax.process_index()}", "ended", allow_overwrite=True)

    def _question(self, words_of_all: Any, members: tuple[int, ...]) -> "_Question":
        question = _Question(words_of_all, members, self._asked[members], self.patience)
        self._asked[members] += 1
        return question


agreement: Final = Agreement()


class _Question:
    """One time that processes say to each other what they are about to do.

    The first of them hears all others, and tells them what it has found: so each waits for one, not for all.
    """

    def __init__(self, words: Any, members: tuple[int, ...], number: int, patience: float) -> None:
        self._words = words
        self._first, *self._others = members
        self._me = jax.process_index()
        group = hashlib.blake2b(repr(members).encode(), digest_size=4).hexdigest()
        self._name = f"graphstate/agreement/{group}/{number}"
        self._patience = patience

    def ask(self, doing: str, digest: str, account: Account | ProgramAccount) -> None:
        """Returns when all have said the same.

        Raises:
            ProcessError: they have not.
        """
        first, *digests = self.gather(doing, digest)
        others = [other for other, each in zip(self._others, digests, strict=True) if each != first]
        if others:
            raise self._differing(doing, others, account)

    def gather(self, doing: str, value: Any) -> list[Any]:
        """What each says, in their order.

        Raises:
            ProcessError: one does something else, or does not come.
        """
        if self._me == self._first:
            found = self._hear(doing, value)
            self._say("found", found)
        else:
            self._say(str(self._me), [doing, value])
            found = self._heard("found", self._first, self._patience + _MARGIN)
            if found is None:
                raise self._missing(doing, [self._first])
        kind, what = found
        if kind == "missing":
            raise self._missing(doing, what)
        if kind == "doing":
            raise self._doing(what)
        return list(what)

    def _hear(self, doing: str, value: Any) -> tuple[str, list[Any]]:
        """What the first process finds out from all others."""
        end = time.monotonic() + self._patience
        told = {other: self._heard(str(other), other, max(end - time.monotonic(), 0.0)) for other in self._others}
        missing = [other for other, said in told.items() if said is None]
        if missing:
            return "missing", missing
        elsewhere = {other: said[0] for other, said in told.items() if said[0] != doing}
        if elsewhere:
            other, what = next(iter(elsewhere.items()))
            return "doing", [doing, other, what]
        return "all", [value, *(said[1] for said in told.values())]

    # Errors

    def _missing(self, doing: str, missing: list[int]) -> ProcessError:
        ended = [other for other in missing if self._has_ended(other)]
        who = ", ".join(map(str, ended or missing))
        late = f"after {self._patience:g} s process {who} had not come to it"
        what = f"process {who} has ended without it" if ended else late
        return ProcessError(
            f"{doing} needs all processes, but {what} (this is process {self._me}). Let all "
            "make the same calls in the same order, none of them alone; if one is only slow, wait longer (`--timeout` "
            "of `graphstate.launch`, `timeout=` of `parallel.initialize`)."
        )

    def _doing(self, what: list[Any]) -> ProcessError:
        mine, other, theirs = what
        return ProcessError(
            f"All processes make the same calls in the same order, but process {self._first} has come to {mine}, and "
            f"process {other} to {theirs}. Let each make both, in one order."
        )

    def _differing(self, doing: str, others: list[int], account: Account | ProgramAccount) -> ProcessError:
        """What differs first between the first process and the first other one that differs."""
        other = others[0]
        if self._me == self._first:
            self._say("account", _packed(account))
        if self._me == other:
            self._say(
                "difference",
                _differences(self._heard("account", self._first, self._patience), _unpacked(_packed(account))),
            )
        lines = self._heard("difference", other, self._patience) or []
        return ProcessError(
            f"{doing} needs the same in all processes, but from process {self._first} to {other} it changes:\n"
            + some_of(lines)
            + f"\n{account.way_out}",
            lines,
        )

    # Words

    def _say(self, key: str, value: Any) -> None:
        self._words.key_value_set(f"{self._name}/{key}", json.dumps(value))

    def _has_ended(self, other: int) -> bool:
        try:
            self._words.key_value_try_get(f"{_ENDED}/{other}")
        except jax.errors.JaxRuntimeError:
            return False
        return True

    def _heard(self, key: str, other: int, patience: float) -> Any:
        """What another process has said; None if it says nothing."""
        end = time.monotonic() + patience
        has_ended = False
        while True:
            left = 0.0 if has_ended else end - time.monotonic()
            try:
                moment = int(1000 * min(max(left, 0), _SLICE)) + 1
                found = self._words.blocking_key_value_get(f"{self._name}/{key}", moment)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise _gone(error) from error
                if left <= 0:
                    return None
                has_ended = self._has_ended(other)  # what it has said before is looked for once more
            else:
                return json.loads(found)


def _gone(error: Exception) -> ProcessError:
    return ProcessError(
        "Process 0, which coordinates the others, does not answer any more: it has ended, or the network between them "
        f"is down. Look for its error. ({str(error).splitlines()[0]})"
    )


def _packed(account: Account | ProgramAccount) -> str:
    lines = [line for line, _ in zip(account.lines(), range(_TOLD), strict=False)]
    return zlib.compress(json.dumps(lines).encode()).hex()


def _unpacked(packed: str) -> dict[str, str]:
    return dict(json.loads(zlib.decompress(bytes.fromhex(packed))))


def _differences(theirs: str | None, mine: dict[str, str]) -> list[str]:
    """What tells the account of the first process from that of this one, one line each."""
    if theirs is None:
        return []
    first = _unpacked(theirs)
    lines = [
        f"{path}: {first.get(path, 'missing')} -> {mine.get(path, 'missing')}"
        for path in {**first, **mine}
        if first.get(path) != mine.get(path)
    ]
    return lines or ["something beyond what is shown"]
