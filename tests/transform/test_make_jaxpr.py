"""`make_jaxpr`: the pure function behind a call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

import graphstate as gs
from graphstate.errors import StateTypeError


class Pair(gs.Node):
    def __init__(self):
        self.first = gs.ParamState(jnp.ones(2))
        self.second = gs.ParamState(jnp.ones(3))


def test_of_a_pure_function_it_is_that_of_jax():
    def function(x, y):
        return {"sum": x + y["a"], "product": x * y["b"]}

    arguments = jnp.ones(3), {"a": jnp.ones(3), "b": 2.0}
    assert str(gs.make_jaxpr(function)(*arguments)) == str(jax.make_jaxpr(function)(*arguments))


def test_inputs_are_states_of_arguments_then_arrays_then_captured_states():
    captured = gs.State(jnp.ones(5))
    pair = Pair()

    def function(x, pair, *, y):
        return captured.value.sum() + x.sum() + pair.second.value.sum() + y.sum()

    jaxpr = gs.make_jaxpr(function)(jnp.ones(4), pair, y=jnp.ones(6))
    assert [aval.shape for aval in jaxpr.in_avals] == [(2,), (3,), (4,), (6,), (5,)]


def test_outputs_are_the_result_then_what_was_written():
    captured, pair = gs.State(jnp.ones(5)), Pair()

    def function(pair):
        captured.value = captured.value + 1
        pair.second.value = pair.second.value * 2
        return jnp.zeros(7)

    jaxpr = gs.make_jaxpr(function)(pair)
    assert [aval.shape for aval in jaxpr.out_avals] == [(7,), (3,), (5,)]
    outputs = jaxpr_as_fun(jaxpr)(jnp.ones(2), jnp.ones(3), jnp.ones(5))
    np.testing.assert_array_equal(outputs[1], 2 * np.ones(3))
    np.testing.assert_array_equal(outputs[2], 2 * np.ones(5))


def test_nothing_changes():
    rng, pair = gs.random.RandomState(0), Pair()
    keys, default = rng.value, gs.random.DEFAULT.value

    def function(pair):
        pair.first.value = rng.normal(2) + gs.random.normal(2)
        pair.extra = 3

    gs.make_jaxpr(function)(pair)
    assert (rng.value, gs.random.DEFAULT.value) == (keys, default)
    assert (pair.first.value == 1).all()
    assert not hasattr(pair, "extra")


def test_static_arguments_are_part_of_the_program():
    jaxpr = gs.make_jaxpr(lambda x, k: x * k, static_argnums=1)(2.0, 3)
    assert len(jaxpr.in_avals) == 1
    assert gs.make_jaxpr(lambda k, x: x if k else -x, static_argnums=-2)(True, 1.0).out_avals[0].shape == ()


def test_it_may_return_the_shape_of_the_result():
    jaxpr, shape = gs.make_jaxpr(lambda x: {"y": x + 1}, return_shape=True)(jnp.ones(3))
    assert shape["y"].shape == (3,)
    assert len(jaxpr.out_avals) == 1
    _, node = gs.make_jaxpr(lambda: Pair(), return_shape=True)()
    assert node.second.value.shape == (3,)


def test_structs_will_do_for_arrays():
    jaxpr = gs.make_jaxpr(lambda x: x + 1)(jax.ShapeDtypeStruct((3,), jnp.float32))
    assert jaxpr.out_avals[0].shape == (3,)


def test_it_is_a_decorator_too():
    @gs.make_jaxpr(return_shape=True)
    def function(x):
        """Adds."""
        return x + 1

    assert function.__doc__ == "Adds."
    assert function(1.0)[1].shape == ()


def test_an_argument_that_is_no_array_is_an_error():
    with pytest.raises(
        StateTypeError, match="`make_jaxpr` takes Nodes, States and pytrees of arrays, but argument `x`"
    ):
        gs.make_jaxpr(lambda x: x)("text")
