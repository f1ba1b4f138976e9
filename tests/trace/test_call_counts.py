"""How much Python a State, and a Node outside of any transform, add to the code that uses them."""

import jax.numpy as jnp
import pytest

import graphstate as gs
from tests.counting import calls_of

pytestmark = pytest.mark.no_leak_check("counts calls, of which looking for leaks makes more")

READ, WRITE = 1, 1
"""The functions written in Python that one access runs at most: no more than a plain property."""

ONES = jnp.ones(2)
CLASSES = [gs.State, gs.ParamState, gs.BatchState, gs.HiddenState]


def calls_of_each(access):
    """How many functions one more access runs."""

    def repeat(count):
        for _ in range(count):
            access()

    return (calls_of(repeat, 11) - calls_of(repeat, 1)) / 10 - 1


@pytest.mark.parametrize("cls", CLASSES)
def test_a_read_runs_few_functions(cls):
    state = cls(ONES)
    assert calls_of_each(lambda: state.value) <= READ


@pytest.mark.parametrize("cls", CLASSES)
def test_a_write_runs_few_functions(cls):
    state = cls(ONES)
    assert calls_of_each(lambda: setattr(state, "value", ONES)) <= WRITE


def test_a_read_runs_as_many_functions_however_many_states_there_are():
    alone = gs.State(ONES)
    before = calls_of_each(lambda: alone.value)
    others = [gs.State(ONES) for _ in range(100)]
    assert calls_of_each(lambda: alone.value) == before
    assert len(others) == 100


class Plain:
    """A State without transforms."""

    def __init__(self, value):
        self._value = value

    @property
    def value(self):
        return self._value


def make(base, cell):
    """A layer of one of two kinds, and the same code in both."""

    class Layer(base):
        def __init__(self):
            self.scale, self.shift = cell(ONES), cell(ONES)

        def __call__(self, x):
            return x * self.scale.value + self.shift.value

    return Layer()


def test_a_node_adds_nothing_to_a_call_but_its_reads():
    node, plain = make(gs.Node, gs.State), make(object, Plain)
    for layer in (node, plain):
        layer(ONES)
    assert calls_of(node, ONES) <= calls_of(plain, ONES) + 2 * (READ - 1)


def test_an_attribute_of_a_node_is_read_without_python():
    node = make(gs.Node, gs.State)
    assert calls_of_each(lambda: node.scale) == 0
