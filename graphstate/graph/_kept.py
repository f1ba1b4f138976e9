"""Answers about something that never changes, as a `GraphDef`: looked up once, and kept with it."""

from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

__all__ = ["Kept"]

T = TypeVar("T")

_MOST: Final = 64


class Kept:
    """The last few answers by what was asked.

    They live as long as what they are about, and so must hold no Nodes, States and arrays.
    """

    __slots__ = ("_answers",)

    def __init__(self, _: Any = None) -> None:
        self._answers: dict[Hashable, Any] = {}

    def get(self, key: Hashable | None, look_up: Callable[[], T]) -> T:
        """The answer under `key`, looked up the first time; without a key each time."""
        if key is None:
            return look_up()
        answer: T | None = self._answers.get(key)
        if answer is None:
            answer = look_up()
            if len(self._answers) >= _MOST:
                self._answers.clear()
            self._answers[key] = answer
        return answer
