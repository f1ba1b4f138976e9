"""An account of a structure is the same where the structure is, and differs where it does, whatever the process."""

import enum
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import graphstate as gs
from graphstate.graph._account import account_of, words_of, words_of_graph

ROOT = Path(__file__).parents[2]


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


@dataclass(frozen=True)
class Size:
    width: int
    name: str = "size"


class Opaque:
    pass


class Part(gs.Node):
    def __init__(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)

    def method(self) -> None:
        pass


def scaled(scale: float) -> Callable[[float], float]:
    def function(x: float, *, bias: float = 0.0) -> float:
        return scale * x + bias

    return function


DIFFERENT = [
    None, 1, 1.0, True, "1", b"1", 1j, (1,), (1, 2), frozenset({1}), frozenset({1, 2}), 0.0, -0.0, float("nan"),
    Colour.RED, Colour.GREEN, Size(1), Size(2), np.float32(1), np.float64(1), np.dtype("int8"), int, Opaque,
    scaled(1.0), scaled(2.0), functools.partial(scaled, 1.0), functools.partial(scaled, 2.0), jax.nn.relu, jax.nn.gelu,
    jax.numpy.add, np.add, len, Part().method, lambda x: x + 1, lambda x: x - 1, lambda x: x + 2, Opaque(), slice(3),
    Ellipsis,
]  # fmt: skip


def test_static_values_that_differ_are_told_apart() -> None:
    told = [words_of(value) for value in DIFFERENT]
    assert len(set(told)) == len(told), sorted(told)


def test_what_has_no_words_of_its_own_is_called_by_its_class() -> None:
    assert words_of(Opaque()) == words_of(Opaque()) == f"a {__name__}.Opaque"


def test_a_function_that_refers_to_itself_has_an_account() -> None:
    def countdown(n: int) -> int:
        return 0 if n == 0 else countdown(n - 1)

    def countup(n: int) -> int:
        return unfilled if n else countup(n - 1)  # noqa: F821, it is deleted below

    unfilled = 0
    del unfilled
    assert words_of(countdown).startswith(f"function {__name__}.")
    assert words_of(countup) != words_of(countdown)


def model() -> Part:
    shared = gs.nn.Linear(2, 3, rng=gs.random.RandomState(0))
    label = gs.ParamState(np.zeros(2), tags={"a", "b"}, role="label")
    return Part(
        first=shared, second=[shared, label, np.ones(2)], words={"x": frozenset("abc"), "y": (len, jax.nn.relu)}
    )


def test_an_account_of_a_graph_says_what_stands_at_each_path() -> None:
    told = dict(account_of(gs.graphdef(model())))
    assert told[()] == f"Node {__name__}.Part"
    assert told["first", "in_features"] == "2"
    assert told["second", 0] == "shared with `first`"
    assert told["second", 1] == "State graphstate.graph._state.ParamState a b role='label'"
    assert told["second", 2] == "array"
    assert told["words", "x"] == "frozenset('a', 'b', 'c')"


@pytest.mark.parametrize(
    "change",
    [
        lambda it: setattr(it, "more", 1),
        lambda it: delattr(it, "words"),
        lambda it: it.second.append(1),
        lambda it: setattr(it, "first", gs.clone(it.first)),
        lambda it: it.words.update(x=0),
        lambda it: it.words.update(x=it.words.pop("x")),
        lambda it: setattr(it, "second", tuple(it.second)),
        lambda it: setattr(it, "first", it.first.__call__),
        lambda it: setattr(it, "first", functools.partial(it.first, 1)),
    ],
)
def test_a_change_of_structure_changes_the_words(change: Callable[[Part], None]) -> None:
    changed = model()
    before = words_of_graph(gs.graphdef(changed))
    change(changed)
    assert words_of_graph(gs.graphdef(changed)) != before == words_of_graph(gs.graphdef(model()))


def test_the_words_are_the_same_whatever_python_makes_of_hashes() -> None:
    program = (
        "import graphstate as gs, jax, numpy as np\n"
        "from graphstate.graph._account import words_of_graph\n"
        "class Part(gs.Node): pass\n"
        "part = Part(); part.words = frozenset('abcdefgh'); part.act = jax.nn.relu\n"
        "part.function = lambda x: x in {'a', 'b', 'c'}\n"
        "part.state = gs.ParamState(np.zeros(2), tags=set('abcdefgh')); part.other = object\n"
        "print(words_of_graph(gs.graphdef(part)))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert "0x" not in told.pop()
