"""What an optimizer takes as a transformation, and the tracers that one must not hold."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from numpy.testing import assert_allclose

from graphstate.errors import StateTypeError, TraceContextError
from graphstate.graph import Node, ParamState
from graphstate.optim import Optimizer

GRADS = {"weight": jnp.ones(2)}


def make() -> Node:
    model = Node()
    model.weight = ParamState(jnp.zeros(2))
    return model


def step(tx: Any) -> jax.Array:
    """The parameters of a fresh model after a step."""
    model = make()
    Optimizer(model, tx).update(model, GRADS)
    return model.weight.value  # type: ignore[no-any-return]


@pytest.mark.parametrize("wrong", [optax.adam, 3, None, "adam", lambda params: params])
def test_what_has_no_init_and_update_is_an_error(wrong: Any) -> None:
    with pytest.raises(
        StateTypeError, match=r"needs a transformation with `init` and `update`, .* but got .*hyperparams="
    ):
        Optimizer(make(), wrong)


@pytest.mark.parametrize("wrong", [optax.adam(1e-3), 3, None])
def test_hyperparameters_with_what_is_no_function_are_an_error(wrong: Any) -> None:
    with pytest.raises(
        StateTypeError, match=r"With `hyperparams`, an Optimizer needs a function .* Give the function itself"
    ):
        Optimizer(make(), wrong, hyperparams={"learning_rate": 1e-3})


class Scale:
    """A transformation as an object."""

    def __init__(self, factor: Any) -> None:
        self.factor = factor

    def init(self, params: Any) -> tuple[()]:
        return ()

    def update(self, updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        return jax.tree.map(lambda g: self.factor * g, updates), state


def by_default(rate: Any) -> optax.GradientTransformation:
    return optax.stateless(lambda updates, params, rate=rate: jax.tree.map(lambda g: rate * g, updates))


def by_partial(rate: Any) -> optax.GradientTransformation:
    def scale(updates: Any, state: Any, params: Any, *, rate: Any) -> tuple[Any, Any]:
        return jax.tree.map(lambda g: rate * g, updates), state

    return optax.GradientTransformation(lambda params: (), functools.partial(scale, rate=rate))


MAKERS = {
    "adam": optax.adam,
    "chain": lambda rate: optax.chain(optax.clip(1.0), optax.sgd(rate)),
    "schedule": lambda rate: optax.sgd(lambda count: rate * count),
    "masked": lambda rate: optax.masked(optax.sgd(rate), {"weight": True}),
    "dict": lambda rate: optax.stateless(lambda updates, params, rates={"weight": [rate]}: updates),
    "default": by_default,
    "partial": by_partial,
    "object": Scale,
    "method": lambda rate: optax.GradientTransformation(Scale(rate).init, Scale(rate).update),
}


@pytest.mark.no_leak_check("a tracer is leaked on purpose")
@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("trace", [jax.vmap, jax.jit, jax.grad])
def test_a_tracer_of_an_ended_trace_is_an_error_that_names_hyperparams(maker: Any, trace: Any) -> None:
    made: list[Any] = []

    def leak(rate: jax.Array) -> jax.Array:
        made.append(maker(rate))
        return rate

    trace(leak)(jnp.ones(3) if trace is jax.vmap else jnp.ones(()))
    with pytest.raises(TraceContextError, match=r"holds a tracer of a trace that has ended \(\w+\).*hyperparams="):
        step(made[0])
    with pytest.raises(TraceContextError, match="hyperparams="):
        jax.jit(lambda: step(made[0]))()


@pytest.mark.parametrize("maker", [optax.sgd, Scale])
@pytest.mark.parametrize("trace", [lambda f: f, jax.jit, jax.vmap, lambda f: jax.jit(jax.vmap(f))])
def test_a_tracer_of_a_trace_in_progress_is_taken(maker: Any, trace: Any) -> None:
    rates = jnp.array([[0.5, 2.0]])
    assert_allclose(jnp.abs(trace(lambda rates: step(maker(rates[..., 0])))(rates))[0], 0.5)
