"""One small MLP written three ways: as dicts for pure JAX, and as Nodes that are passed in or closed over.

The layers are so narrow that a call costs little but its dispatch. Weights are orthogonal, so that values and
gradients neither vanish nor grow in a thousand layers. Each way builds its own model and its own functions, and
gives the call to make: it takes one step, and returns the prediction or the loss.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp
import optax

import graphstate as gs

__all__ = ["MLP", "RATE", "STEPS", "WAYS", "WIDTH", "Call", "Params", "example", "loss_of", "params_of"]

WIDTH: Final = 4
RATE: Final = 1e-6
"""So small that training does not converge: vanishing gradients are denormal floats, which are slow to compute with."""

WAYS: Final = ("pure JAX", "argument", "closed over")

Call = Callable[[], jax.Array]
Params = list[dict[str, jax.Array]]


class MLP(gs.Node):
    def __init__(self, depth: int) -> None:
        rng = gs.random.RandomState(0)
        init = jax.nn.initializers.orthogonal()
        self.layers = [gs.nn.Linear(WIDTH, WIDTH, weight_init=init, rng=rng) for _ in range(depth)]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x


def params_of(model: MLP) -> Params:
    return [gs.state(layer).to_dict() for layer in model.layers]


def _apply(params: Params, x: jax.Array) -> jax.Array:
    for layer in params:
        x = jnp.tanh(x @ layer["weight"] + layer["bias"])
    return x


def example() -> tuple[jax.Array, jax.Array]:
    return jnp.linspace(-1, 1, WIDTH), jnp.full(WIDTH, 0.5)


def loss_of(predict: Callable[[jax.Array], jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean((predict(x) - y) ** 2)


# The forward pass


def _forward_pure(depth: int) -> Call:
    params, (x, _) = params_of(MLP(depth)), example()

    @jax.jit
    def predict(params: Params, x: jax.Array) -> jax.Array:
        return _apply(params, x)

    return lambda: predict(params, x)


def _forward_argument(depth: int) -> Call:
    model, (x, _) = MLP(depth), example()

    @gs.jit
    def predict(model: MLP, x: jax.Array) -> jax.Array:
        return model(x)

    return lambda: predict(model, x)


def _forward_closed_over(depth: int) -> Call:
    model, (x, _) = MLP(depth), example()

    @gs.jit
    def predict(x: jax.Array) -> jax.Array:
        return model(x)

    return lambda: predict(x)


# A train step of gradient descent, written by hand


def _descent_pure(depth: int) -> Call:
    params, (x, y) = params_of(MLP(depth)), example()

    @jax.jit
    def step(params: Params, x: jax.Array, y: jax.Array) -> tuple[Params, jax.Array]:
        loss, grads = jax.value_and_grad(lambda params: loss_of(lambda x: _apply(params, x), x, y))(params)
        return jax.tree.map(lambda param, grad: param - RATE * grad, params, grads), loss

    def call() -> jax.Array:
        nonlocal params
        params, loss = step(params, x, y)
        return loss

    return call


def _descent_argument(depth: int) -> Call:
    model, (x, y) = MLP(depth), example()

    @gs.jit
    def step(model: MLP, x: jax.Array, y: jax.Array) -> jax.Array:
        loss, grads = gs.value_and_grad(loss_of)(model, x, y)
        for path, param in gs.states(model, gs.ParamState).items():
            param.value -= RATE * grads[path]
        return loss

    return lambda: step(model, x, y)


def _descent_closed_over(depth: int) -> Call:
    model, (x, y) = MLP(depth), example()

    @gs.jit
    def step(x: jax.Array, y: jax.Array) -> jax.Array:
        params = gs.states(model, gs.ParamState)
        loss, grads = gs.value_and_grad(lambda: loss_of(model, x, y), states=params)()
        for path, param in params.items():
            param.value -= RATE * grads[path]
        return loss

    return lambda: step(x, y)


# A train step of adam


def _adam_pure(depth: int) -> Call:
    params, (x, y) = params_of(MLP(depth)), example()
    adam = optax.adam(RATE)
    kept = adam.init(params)

    @jax.jit
    def step(params: Params, kept: Any, x: jax.Array, y: jax.Array) -> tuple[Params, Any, jax.Array]:
        loss, grads = jax.value_and_grad(lambda params: loss_of(lambda x: _apply(params, x), x, y))(params)
        changes, kept = adam.update(grads, kept, params)
        return optax.apply_updates(params, changes), kept, loss

    def call() -> jax.Array:
        nonlocal params, kept
        params, kept, loss = step(params, kept, x, y)
        return loss

    return call


def _adam_argument(depth: int) -> Call:
    model, (x, y) = MLP(depth), example()
    optimizer = gs.optim.Optimizer(model, optax.adam(RATE))

    @gs.jit
    def step(model: MLP, optimizer: gs.optim.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
        loss, grads = gs.value_and_grad(loss_of)(model, x, y)
        optimizer.update(model, grads)
        return loss

    return lambda: step(model, optimizer, x, y)


def _adam_closed_over(depth: int) -> Call:
    model, (x, y) = MLP(depth), example()
    optimizer = gs.optim.Optimizer(model, optax.adam(RATE))

    @gs.jit
    def step(x: jax.Array, y: jax.Array) -> jax.Array:
        params = gs.states(model, gs.ParamState)
        loss, grads = gs.value_and_grad(lambda: loss_of(model, x, y), states=params)()
        optimizer.update(model, grads)
        return loss

    return lambda: step(x, y)


STEPS: Final[Mapping[str, Mapping[str, Callable[[int], Call]]]] = {
    "forward": dict(zip(WAYS, (_forward_pure, _forward_argument, _forward_closed_over), strict=True)),
    "descent": dict(zip(WAYS, (_descent_pure, _descent_argument, _descent_closed_over), strict=True)),
    "adam": dict(zip(WAYS, (_adam_pure, _adam_argument, _adam_closed_over), strict=True)),
}
