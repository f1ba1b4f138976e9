"""A compiled function that is called while Nodes of its closure are arguments of a transform around it."""

import jax.numpy as jnp
import pytest

import graphstate as gs


class Counter(gs.Node):
    def __init__(self, weight=3.0):
        self.weight = gs.ParamState(jnp.float32(weight))
        self.last = gs.State(jnp.float32(0.0))
        self.owner = self


def world():
    counter = Counter()

    def call(x):
        counter.last.value = counter.last.value + x
        return counter.weight.value * x

    return counter, gs.jit(call)


AROUND = {
    "jit": lambda function: gs.jit(lambda counter, x: function(x)),
    "grad": lambda function: (
        lambda counter, x: gs.grad(lambda counter, x: function(x))(counter, x)["weight"] * counter.weight.value
    ),
    "cond": lambda function: (
        lambda counter, x: gs.cond(True, lambda counter, x: function(x), lambda *_: 0.0, counter, x)
    ),
    "scan": lambda function: (
        lambda counter, x: gs.scan(lambda counter, x: (counter, function(x)), counter, x[None])[1][0]
    ),
    "checkpoint": lambda function: gs.jit(gs.checkpoint(lambda counter, x: function(x))),
    "vmap": lambda function: (
        lambda counter, x: gs.vmap(lambda counter, x: function(x), in_axes=None, axis_size=2, out_axes=None)(counter, x)
    ),
}


@pytest.mark.parametrize("name", AROUND)
def test_calls_in_and_out_of_another_transform_read_and_write_the_same_states(name):
    counter, call = world()
    inside = AROUND[name](call)
    x, total = jnp.float32(2.0), 0.0
    for weight in (3.0, 5.0):
        counter.weight.value = jnp.float32(weight)
        for function in (lambda x: inside(counter, x), call, lambda x: inside(counter, x), gs.jit(lambda x: call(x))):
            assert function(x) == weight * 2
            total += 2
            assert counter.last.value == total


def test_another_node_as_the_argument_leaves_the_closure_as_it_is():
    counter, call = world()
    inside = gs.jit(lambda counter, x: call(x))
    other = Counter(7.0)
    assert [inside(counter, 1.0), inside(other, 1.0), call(1.0), inside(other, 1.0)] == [3.0] * 4
    assert (counter.last.value, other.last.value) == (4.0, 0.0)


@pytest.mark.no_leak_check("counts traces")
def test_a_compiled_function_is_not_traced_again_inside_of_a_transform():
    counter, runs = Counter(), []

    @gs.jit
    def call(x):
        runs.append(x)
        return counter.weight.value * x

    gradient = gs.grad(lambda counter, x: call(x))
    for _ in range(3):
        assert gradient(counter, 2.0)["weight"] == 2.0
    assert call(2.0) == 6.0
    assert len(runs) <= 2


def test_a_state_that_is_only_written_is_written_wherever_the_function_is_called():
    counter = Counter()

    @gs.jit
    def write(x):
        counter.last.value = x

    inside = gs.jit(lambda counter, x: write(x))
    for number, function in enumerate([lambda x: inside(counter, x), write] * 2):
        function(float(number))
        assert counter.last.value == number
