"""`eval_shape`: the result without the work, and without a trace of it."""

import functools

import jax
import jax.numpy as jnp
import pytest

import graphstate as gs
from graphstate.errors import StateTypeError, TraceContextError


class Affine(gs.Node):
    def __init__(self, size=3):
        self.weight = gs.ParamState(jnp.ones((2, size)), tags="big")
        self.twin = self.weight
        self.scale = 2.0

    def __call__(self, x):
        return x @ self.weight.value * self.scale


def test_a_pure_function_equals_jax_eval_shape():
    def function(x, *, y):
        return {"product": x["a"] @ y, "none": None}

    arguments = {"a": jax.ShapeDtypeStruct((4, 2), "float32")}
    expected = jax.eval_shape(function, arguments, y=jnp.ones((2, 3)))
    assert gs.eval_shape(function, arguments, y=jnp.ones((2, 3))) == expected


def test_nodes_may_be_arguments():
    assert gs.eval_shape(lambda affine, x: affine(x), Affine(), jax.ShapeDtypeStruct((5, 2), "float32")).shape == (5, 3)


def test_a_class_gives_a_node_that_holds_shapes():
    affine = gs.eval_shape(functools.partial(Affine, 7))
    assert isinstance(affine, Affine)
    assert affine.weight.value == jax.ShapeDtypeStruct((2, 7), "float32")
    assert affine.twin is affine.weight
    assert affine.weight.tags == {"big"}
    assert affine.scale == 2.0
    assert gs.eval_shape(Affine).weight.value.shape == (2, 3)


def test_it_changes_nothing():
    affine, total, key = Affine(), gs.State(jnp.float32(1.0)), gs.random.DEFAULT.value

    def change(affine, x):
        affine.weight.value = jnp.zeros(7)
        affine.scale = 5.0
        affine.extra = gs.State(x)
        total.value = total.value + 1
        gs.random.normal()
        return affine

    result = gs.eval_shape(change, affine, jnp.ones(3))
    assert result is not affine
    assert (result.weight.value.shape, result.scale, result.extra.value.shape) == ((7,), 5.0, (3,))
    assert affine.weight.value.shape == (2, 3)
    assert affine.scale == 2.0
    assert not hasattr(affine, "extra")
    assert total.value == 1.0
    assert gs.random.DEFAULT.value == key


def test_closed_over_states_are_read():
    affine = Affine()
    assert gs.eval_shape(lambda x: affine(x), jax.ShapeDtypeStruct((2,), "float32")).shape == (3,)
    affine.weight.value = jnp.ones((2, 4))
    assert gs.eval_shape(lambda x: affine(x), jax.ShapeDtypeStruct((2,), "float32")).shape == (4,)


def test_it_works_inside_of_other_transforms():
    affine = Affine()

    def shape_of(x):
        return x * gs.eval_shape(affine, x).size

    assert gs.jit(shape_of)(jnp.ones(2)).tolist() == [3.0, 3.0]
    assert gs.vmap(shape_of)(jnp.ones((4, 2))).shape == (4, 2)


def test_a_sharing_of_arguments_is_seen():
    affine = Affine()

    def function(a, b):
        a.weight.value = jnp.zeros((2, 9))
        return b.weight.value

    assert gs.eval_shape(function, affine, affine).shape == (2, 9)


def test_failures_change_nothing():
    affine = Affine()

    def fail(affine):
        affine.weight.value = jnp.zeros(3)
        affine.flag = True
        raise KeyError("user")

    with pytest.raises(KeyError, match="user"):
        gs.eval_shape(fail, affine)
    assert affine.weight.value.shape == (2, 3)
    assert not hasattr(affine, "flag")


def test_an_argument_or_result_that_is_no_array_is_an_error():
    with pytest.raises(StateTypeError, match=r"`eval_shape` takes .* but argument `x` of .* is 'text' of type str"):
        gs.eval_shape(lambda x: 1.0, "text")
    with pytest.raises(
        StateTypeError, match=r"A function transformed by `eval_shape` returns .* but its result is 'text' of type str"
    ):
        gs.eval_shape(lambda x: "text", 1.0)


def test_a_closed_over_node_keeps_its_structure():
    affine = Affine()
    affine.items = []

    def change(x):
        affine.items.append(x)
        return x

    with pytest.raises(TraceContextError, match=r"`affine.items`, part of a Node .* was changed in place"):
        gs.eval_shape(change, 1.0)
    assert affine.items == []


def test_only_functions_are_evaluated():
    with pytest.raises(StateTypeError, match="transforms a function, but it was given '3' of type int"):
        gs.eval_shape(3)
