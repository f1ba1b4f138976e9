"""Eager control flow finds its program again, whatever kind of function it is given."""

import copy
import functools
import operator
import pickle

import jax.numpy as jnp
import pytest

import graphstate as gs

pytestmark = pytest.mark.no_leak_check("counts runs")

X = jnp.arange(3.0)
RUNS = []


class Plain:
    """No Node."""

    def __init__(self, factor=2.0):
        self.factor = factor

    def step(self, x):
        RUNS.append(None)
        return self.factor * x


class Slotted:
    __slots__ = ("factor",)

    def __init__(self):
        self.factor = 2.0

    def step(self, x):
        RUNS.append(None)
        return self.factor * x


class Layer(gs.Node):
    def __init__(self, seed):
        RUNS.append(None)
        self.weight = gs.ParamState(2.0 * seed)

    def step(self, x):
        RUNS.append(None)
        return self.weight.value * x

    def __call__(self, x):
        return self.step(x)


def step(x):
    RUNS.append(None)
    return 2.0 * x


@pytest.fixture(autouse=True)
def _no_runs():
    RUNS.clear()


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (step, lambda out: out),
        (Plain().step, lambda out: out),
        (Layer(1.0).step, lambda out: out),
        (Layer(1.0), lambda out: out),
        (functools.partial(operator.mul, 2.0), lambda out: out),
        (Layer, lambda out: out.weight.value),
    ],
    ids=["function", "method of an object", "method of a Node", "Node", "partial", "class"],
)
def test_a_function_is_met_again(function, result):
    for _ in range(3):
        assert result(gs.for_loop(function, X)).tolist() == [0.0, 2.0, 4.0]
    assert len(RUNS) <= 1


def test_a_bound_method_is_made_anew_at_each_look_and_met_again():
    plain = Plain()
    for _ in range(3):
        assert gs.for_loop(plain.step, X).tolist() == [0.0, 2.0, 4.0]
        assert gs.cond(True, plain.step, plain.step, 1.0) == 2.0
    assert len(RUNS) == 3
    plain.factor = 3.0
    assert gs.for_loop(plain.step, X).tolist() == [0.0, 3.0, 6.0]
    assert gs.for_loop(Plain(4.0).step, X).tolist() == [0.0, 4.0, 8.0]


def test_copies_of_an_object_have_programs_of_their_own():
    plain = Plain()
    gs.for_loop(plain.step, X)
    for twin in (copy.deepcopy(plain), pickle.loads(pickle.dumps(plain))):
        twin.factor = 5.0
        assert gs.for_loop(twin.step, X).tolist() == [0.0, 5.0, 10.0]
        assert gs.for_loop(plain.step, X).tolist() == [0.0, 2.0, 4.0]


def test_a_subclass_has_programs_of_its_own():
    class Other(Layer):
        def __init__(self, seed):
            super().__init__(10.0 * seed)

    assert gs.for_loop(Layer, X).weight.value.tolist() == [0.0, 2.0, 4.0]
    assert gs.for_loop(Other, X).weight.value.tolist() == [0.0, 20.0, 40.0]


def test_a_builtin_function_is_met_again():
    gs.associative_scan(operator.add, X)
    kept = gs._lift.programs._reuse._builtins._table
    before = len(kept)
    assert gs.associative_scan(operator.add, X).tolist() == [0.0, 1.0, 3.0]
    assert len(kept) == before


def test_a_method_of_an_object_with_slots_works_and_is_traced_at_each_call():
    for _ in range(2):
        assert gs.for_loop(Slotted().step, X).tolist() == [0.0, 2.0, 4.0]
    assert len(RUNS) == 2
