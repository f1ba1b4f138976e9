"""Structure apart from values: what a program is compiled for is chosen from few, what it computes with from many.

Every new shape, dtype, axis or graph costs a compilation; another value costs nothing. Therefore all strategies make
their structural choices through one function, `choose`, with the simplest option first, and something outside says
where its answers come from:

- nobody says: hypothesis draws it, as everything else, and shrinks it;
- `pooled`: the answers belong to one of a few structures, known by its number, of which the first is the simplest;
- `repeating`: the answers are those of an earlier draw, so that the lanes of a batch are alike.

`noting` writes down the answers, which is what a structure is known by.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.errors import UnsatisfiedAssumption

__all__ = ["choose", "noting", "pooled", "repeating", "several"]

T = TypeVar("T")
Answer = Callable[[st.DrawFn, int], int]


def _drawn(draw: st.DrawFn, count: int) -> int:
    return draw(st.integers(0, count - 1)) if count > 1 else 0


_answer: ContextVar[Answer] = ContextVar("_answer", default=_drawn)


def choose(draw: st.DrawFn, options: Sequence[T]) -> T:
    """One of `options`, simplest first: a choice of structure, not of a value."""
    return options[_answer.get()(draw, len(options))]


def several(draw: st.DrawFn, least: int, most: int, make: Callable[[], T]) -> list[T]:
    """From `least` to `most` parts; `make` draws one.

    The draws for a part and for whether there is another one belong together: hypothesis tries without them.
    """
    if not most or (not least and choose(draw, (True, True, False))):
        return []
    parts: list[T] = []
    more = True
    while more and len(parts) < most:
        part, more = draw(_part(make, len(parts) + 1 < least))
        parts.append(part)
    return parts


@st.composite
def _part(draw: st.DrawFn, make: Callable[[], T], must: bool) -> tuple[T, bool]:
    part = make()
    return part, must or choose(draw, (False, True, True, True))


@contextmanager
def _answering(answer: Answer) -> Iterator[None]:
    token = _answer.set(answer)
    try:
        yield
    finally:
        _answer.reset(token)


@contextmanager
def pooled(number: int, name: str) -> Iterator[None]:
    """A block in which all choices belong to structure `number`, the same on every run; 0 is the simplest.

    Args:
        number: which of the structures, from 0.
        name: sets the structures of one test apart from those of another.
    """
    rng = random.Random(f"{name}/{number}")
    with _answering(lambda draw, count: rng.randrange(count) if number else 0):
        yield


@contextmanager
def noting() -> Iterator[list[int]]:
    """A block whose choices are written down, in order."""
    notes: list[int] = []
    outer = _answer.get()

    def answer(draw: st.DrawFn, count: int) -> int:
        notes.append(outer(draw, count))
        return notes[-1]

    with _answering(answer):
        yield notes


@contextmanager
def repeating(notes: Sequence[int]) -> Iterator[None]:
    """A block whose choices are those of `notes`; a draw that needs others is given up."""
    pending = iter(notes)

    def answer(draw: st.DrawFn, count: int) -> int:
        number = next(pending, count)
        if number >= count:
            raise UnsatisfiedAssumption
        return number

    with _answering(answer):
        yield
