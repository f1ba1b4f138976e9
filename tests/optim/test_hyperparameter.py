"""Hyperparameters as States."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from graphstate.errors import StateTypeError
from graphstate.graph import LongTermState, Node, ParamState, State, state, states, write_path
from graphstate.optim import Optimizer


def make() -> Node:
    model = Node()
    model.weight = ParamState(jnp.array([1.0, -2.0]))
    return model


GRADS = {"weight": jnp.array([0.5, 0.25])}


def test_each_is_a_state_under_its_name() -> None:
    optimizer = Optimizer(make(), optax.adam, hyperparams={"learning_rate": 1e-3, "b1": 0.8})
    written = [write_path(path) for path in states(optimizer)]
    assert written[:2] == ["hyperparams/b1", "hyperparams/learning_rate"]
    assert isinstance(optimizer.hyperparams["b1"], LongTermState)


@pytest.mark.parametrize("value", [1e-3, 1, np.float32(0.5), np.float64(0.5), np.int64(2)])
def test_numbers_become_strong_floats_of_the_default_size(value: Any) -> None:
    held = Optimizer(make(), optax.sgd, hyperparams={"learning_rate": value}).hyperparams["learning_rate"].value
    assert (held.dtype, held.weak_type, held.shape) == (jnp.float32, False, ())


@pytest.mark.parametrize("value", [jnp.float16(0.5), jnp.int32(3), np.array([1.0, 2.0], np.float32)])
def test_arrays_keep_their_dtype_and_shape(value: Any) -> None:
    held = Optimizer(make(), optax.sgd, hyperparams={"learning_rate": value}).hyperparams["learning_rate"].value
    assert isinstance(held, jax.Array)
    assert (held.dtype, held.shape) == (value.dtype, value.shape)


def test_a_written_hyperparameter_holds_from_the_next_step_on() -> None:
    model = make()
    optimizer = Optimizer(model, optax.adam, hyperparams={"learning_rate": 0.1})
    params = state(make()).to_dict()
    opt_state = optax.adam(0.1).init(params)
    for rate in (0.1, 0.01, 0.5):
        optimizer.hyperparams["learning_rate"].value = rate
        optimizer.update(model, GRADS)
        with jax.numpy_dtype_promotion("standard"):  # optax multiplies floats by whole numbers
            updates, opt_state = optax.adam(rate).update(GRADS, opt_state, params)
        params = optax.apply_updates(params, updates)
        assert_allclose(model.weight.value, params["weight"], rtol=1e-6)


def test_the_function_may_be_any_that_makes_a_transformation() -> None:
    def clipped(learning_rate: jax.Array, norm: jax.Array) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(norm), optax.sgd(learning_rate))

    model = make()
    Optimizer(model, clipped, hyperparams={"learning_rate": 1.0, "norm": 0.1}).update(model, GRADS)
    step = model.weight.value - make().weight.value
    assert_allclose(jnp.linalg.norm(step), 0.1, rtol=1e-5)


def test_a_function_without_hyperparameters_is_called_without_any() -> None:
    model = make()
    Optimizer(model, lambda: optax.sgd(1.0), hyperparams={}).update(model, GRADS)
    assert_allclose(model.weight.value, jnp.array([0.5, -2.25]))


def test_what_is_no_number_goes_into_the_function() -> None:
    model = make()
    nesterov = functools.partial(optax.sgd, momentum=0.9, nesterov=True)
    Optimizer(model, nesterov, hyperparams={"learning_rate": 1.0}).update(model, GRADS)
    assert_allclose(model.weight.value, make().weight.value - 1.9 * GRADS["weight"], rtol=1e-6)


@pytest.mark.parametrize("value", [True, "fast", None, optax.constant_schedule(0.1), [0.1]])
def test_what_is_neither_number_nor_array_is_an_error_with_the_ways_out(value: Any) -> None:
    match = (
        r"a number or an array, .* but momentum is .*functools\.partial\(tx, momentum=\.\.\.\).*for a schedule, write"
    )
    with pytest.raises(StateTypeError, match=match):
        Optimizer(make(), optax.sgd, hyperparams={"learning_rate": 0.1, "momentum": value})


def test_a_state_as_hyperparameter_is_an_error() -> None:
    with pytest.raises(StateTypeError, match=r"learning_rate is 'State\(.*a State\."):
        Optimizer(make(), optax.sgd, hyperparams={"learning_rate": State(0.1)})
