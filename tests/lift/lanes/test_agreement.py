"""What processes say to each other before they do something together, without the processes."""

import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from graphstate._lift.lanes._account import Account
from graphstate._lift.lanes._agreement import _Question
from graphstate.errors import ProcessError


class Words:
    """What the service of `jax.distributed` does, for the threads of one process."""

    def __init__(self, broken: bool = False) -> None:
        self.told: dict[str, str] = {}
        self.changed = threading.Condition()
        self.broken = broken

    def key_value_set(self, key: str, value: str) -> None:
        with self.changed:
            assert key not in self.told
            self.told[key] = value
            self.changed.notify_all()

    def blocking_key_value_get(self, key: str, milliseconds: int) -> str:
        if self.broken:
            raise jax.errors.JaxRuntimeError("UNAVAILABLE: connection reset\nmore of it")
        with self.changed:
            if not self.changed.wait_for(lambda: key in self.told, milliseconds / 1000):
                raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: timed out")
            return self.told[key]

    def key_value_try_get(self, key: str) -> str:
        with self.changed:
            if key not in self.told:
                raise jax.errors.JaxRuntimeError("NOT_FOUND: no such key")
            return self.told[key]


def errors_of(
    said: dict[int, tuple[str, Account]], members: int, patience: float = 20.0, ended: int | None = None
) -> dict[int, str]:
    """The error that each process gets which says something."""
    words, found = Words(), {}
    if ended is not None:
        words.key_value_set(f"graphstate/ended/{ended}", "ended")

    def ask(me: int, doing: str, account: Account) -> None:
        question = _Question(words, tuple(range(members)), 0, patience)
        question._me = me
        try:
            question.ask(doing, f"{account.structure()} {account.values()}", account)
        except ProcessError as error:
            found[me] = str(error)

    threads = [threading.Thread(target=ask, args=(me, *each)) for me, each in said.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def account(value: float) -> Account:
    return Account([], [("`x`", np.float32(value)), ("`y`", np.zeros(3))])


def test_those_that_say_the_same_go_on() -> None:
    assert errors_of({me: ("`f`", account(1)) for me in range(4)}, 4) == {}


def test_all_hear_what_the_first_other_one_does_differently() -> None:
    errors = errors_of({0: ("`f`", account(1)), 1: ("`f`", account(1)), 2: ("`f`", account(2))}, 3)
    (told,) = set(errors.values())
    assert len(errors) == 3
    assert told.startswith(
        "`f` needs the same in all processes, but from process 0 to 2 it changes:\n  the value of `x`"
    )
    assert "`y`" not in told


def test_all_hear_who_does_not_come() -> None:
    errors = errors_of({0: ("`f`", account(1)), 2: ("`f`", account(1))}, 4, patience=0.1)
    assert sorted(errors) == [0, 2]
    for told in errors.values():
        assert told.startswith(
            "`f` needs all processes, but after 0.1 s process 1, 3 had not come to it (this is process"
        )


def test_nobody_waits_for_one_that_has_ended() -> None:
    errors = errors_of({0: ("`f`", account(1)), 2: ("`f`", account(1))}, 3, patience=1000.0, ended=1)
    assert sorted(errors) == [0, 2]
    assert all("needs all processes, but process 1 has ended without it" in told for told in errors.values())
    errors = errors_of({1: ("`f`", account(1))}, 2, patience=1000.0, ended=0)
    assert "needs all processes, but process 0 has ended without it (this is process 1)" in errors[1]


def test_one_that_has_ended_after_it_had_come_is_not_missed() -> None:
    assert errors_of({0: ("`f`", account(1)), 1: ("`f`", account(1))}, 2, ended=1) == {}


def test_all_hear_who_has_come_to_another_call() -> None:
    errors = errors_of({0: ("`f`", account(1)), 1: ("`g`", account(1))}, 2)
    assert set(errors.values()) == {
        "All processes make the same calls in the same order, but process 0 has come to `f`, and process 1 to `g`. Let "
        "each make both, in one order."
    }


def test_a_coordinator_that_is_gone_is_named() -> None:
    question = _Question(Words(broken=True), (0, 1), 0, 5.0)
    with pytest.raises(ProcessError) as raised:
        question._heard("found", 0, 1.0)
    assert str(raised.value) == (
        "Process 0, which coordinates the others, does not answer any more: it has ended, or the network between them "
        "is down. Look for its error. (UNAVAILABLE: connection reset)"
    )


@pytest.mark.parametrize("change", [lambda: account(2), lambda: Account([], [("`x`", np.float64(1))])])
def test_an_account_tells_values_from_structure(change: Callable[[], Any]) -> None:
    before, after = account(1), change()
    assert (before.structure() == after.structure()) == (len(after.arrays) == 2)
    assert before.values() != after.values()
