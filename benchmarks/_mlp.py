"""One small MLP written in four ways: as dicts or flat leaves for pure JAX, as Nodes that are passed in or closed over.

The layers are so narrow that a call costs little but its dispatch. Weights are orthogonal, so that values and
gradients neither vanish nor grow in a thousand layers. Each way builds its own model and its own functions, and
gives the call to make: it takes one step, and returns the prediction or the loss.

Pure JAX is what its users write: a list of dicts, and a step that returns the new one. Flat leaves are the floor: the
same step on a flat list of arrays, so that JAX has next to no structure to take apart. Nobody writes this.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import jax
import jax.numpy as jnp
import optax

import graphstate as gs

__all__ = ["BASE", "FLAT", "MLP", "OURS", "RATE", "STEPS", "Build", "Call", "Ensemble", "Params", "Single", "loss_of"]

RATE: Final = 1e-6
"""So small that training does not converge: vanishing gradients are denormal floats, which are slow to compute with."""

BASE: Final = "pure JAX"
FLAT: Final = "flat leaves"
OURS: Final = ("graphstate", "graphstate, closed over")

T = TypeVar("T")
Call = Callable[[], jax.Array]
Params = list[dict[str, jax.Array]]
Function = Callable[..., Any]


class MLP(gs.Node):
    def __init__(self, depth: int, width: int) -> None:
        rng = gs.random.RandomState(0)
        init = jax.nn.initializers.orthogonal()
        self.layers = [gs.nn.Linear(width, width, weight_init=init, rng=rng) for _ in range(depth)]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x


@dataclass(frozen=True)
class Single:
    """One model, and a step that is compiled as it is."""

    width: int = 4

    def build(self, make: Callable[..., T], *args: Any) -> T:
        """What `make` builds, from arguments that were built alike."""
        return make(*args)

    def stack(self, tree: T) -> T:
        """The arrays of one model as those of all."""
        return tree

    def compile(self, step: Function, jit: Function, vmap: Function) -> Function:
        """A step of one model as the compiled step of all."""
        return jit(step)  # type: ignore[no-any-return]

    def example(self) -> tuple[jax.Array, jax.Array]:
        return self.stack((jnp.linspace(-1, 1, self.width), jnp.full(self.width, 0.5)))

    def model(self, depth: int) -> MLP:
        return self.build(lambda: MLP(depth, self.width))

    def params(self, depth: int) -> Params:
        return [gs.state(layer).to_dict() for layer in self.model(depth).layers]


@dataclass(frozen=True)
class Ensemble(Single):
    """Many models side by side, and a step that is mapped over them before it is compiled."""

    members: int = 16

    def build(self, make: Callable[..., T], *args: Any) -> T:
        return gs.vmap(make, axis_size=self.members)(*args)  # type: ignore[no-any-return]

    def stack(self, tree: T) -> T:
        return jax.tree.map(lambda array: jnp.stack([array] * self.members), tree)

    def compile(self, step: Function, jit: Function, vmap: Function) -> Function:
        return jit(vmap(step))  # type: ignore[no-any-return]


Build = Callable[[int, Single], Call]
"""From the number of layers, and whether it is one model or many, to the call."""


def loss_of(predict: Callable[[jax.Array], jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean((predict(x) - y) ** 2)


# Pure JAX: what a step keeps goes in first, and comes out first


def _predict(params: Params, x: jax.Array) -> jax.Array:
    for layer in params:
        x = jnp.tanh(x @ layer["weight"] + layer["bias"])
    return x


def _gradient(params: Params, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Params]:
    return jax.value_and_grad(lambda params: loss_of(lambda x: _predict(params, x), x, y))(params)


def _descend(params: Params, x: jax.Array, y: jax.Array) -> tuple[Params, jax.Array]:
    loss, grads = _gradient(params, x, y)
    return jax.tree.map(lambda param, grad: param - RATE * grad, params, grads), loss


def _adapt(kept: tuple[Params, Any], x: jax.Array, y: jax.Array) -> tuple[tuple[Params, Any], jax.Array]:
    params, moments = kept
    loss, grads = _gradient(params, x, y)
    changes, moments = optax.adam(RATE).update(grads, moments, params)
    return (optax.apply_updates(params, changes), moments), loss


def _start_descent(depth: int, scale: Single) -> Params:
    return scale.params(depth)


def _start_adam(depth: int, scale: Single) -> tuple[Params, Any]:
    params = scale.params(depth)
    return params, scale.build(optax.adam(RATE).init, params)


def _reading(kept: Any, step: Function, scale: Single) -> Call:
    compiled, (x, _) = scale.compile(step, jax.jit, jax.vmap), scale.example()
    return lambda: compiled(kept, x)


def _writing(kept: Any, step: Function, scale: Single) -> Call:
    compiled, (x, y) = scale.compile(step, jax.jit, jax.vmap), scale.example()

    def call() -> jax.Array:
        nonlocal kept
        kept, loss = compiled(kept, x, y)
        return loss

    return call


def _forward_pure(depth: int, scale: Single) -> Call:
    return _reading(scale.params(depth), _predict, scale)


def _forward_flat(depth: int, scale: Single) -> Call:
    leaves, tree = jax.tree.flatten(scale.params(depth))
    return _reading(leaves, lambda leaves, x: _predict(jax.tree.unflatten(tree, leaves), x), scale)


def _train_pure(depth: int, scale: Single, *, start: Function, step: Function) -> Call:
    return _writing(start(depth, scale), step, scale)


def _train_flat(depth: int, scale: Single, *, start: Function, step: Function) -> Call:
    leaves, tree = jax.tree.flatten(start(depth, scale))

    def flat(leaves: list[jax.Array], x: jax.Array, y: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        kept, loss = step(jax.tree.unflatten(tree, leaves), x, y)
        return jax.tree.leaves(kept), loss

    return _writing(leaves, flat, scale)


# Nodes


def _passed(step: Function, scale: Single) -> Function:
    return scale.compile(step, gs.jit, gs.vmap)


def _closed(step: Function, scale: Single) -> Function:
    return scale.compile(step, gs.jit, functools.partial(gs.vmap, state_in_axes=...))


def _forward_argument(depth: int, scale: Single) -> Call:
    model, (x, _) = scale.model(depth), scale.example()
    predict = _passed(lambda model, x: model(x), scale)
    return lambda: predict(model, x)


def _forward_closed_over(depth: int, scale: Single) -> Call:
    model, (x, _) = scale.model(depth), scale.example()
    predict = _closed(lambda x: model(x), scale)
    return lambda: predict(x)


def _descent_argument(depth: int, scale: Single) -> Call:
    model, (x, y) = scale.model(depth), scale.example()

    def step(model: MLP, x: jax.Array, y: jax.Array) -> jax.Array:
        loss, grads = gs.value_and_grad(loss_of)(model, x, y)
        for path, param in gs.states(model, gs.ParamState).items():
            param.value -= RATE * grads[path]
        return loss

    compiled = _passed(step, scale)
    return lambda: compiled(model, x, y)


def _descent_closed_over(depth: int, scale: Single) -> Call:
    model, (x, y) = scale.model(depth), scale.example()

    def step(x: jax.Array, y: jax.Array) -> jax.Array:
        params = gs.states(model, gs.ParamState)
        loss, grads = gs.value_and_grad(lambda: loss_of(model, x, y), states=params)()
        for path, param in params.items():
            param.value -= RATE * grads[path]
        return loss

    compiled = _closed(step, scale)
    return lambda: compiled(x, y)


def _optimizer(model: MLP) -> gs.optim.Optimizer:
    return gs.optim.Optimizer(model, optax.adam(RATE))


def _adam_argument(depth: int, scale: Single) -> Call:
    model, (x, y) = scale.model(depth), scale.example()
    optimizer = scale.build(_optimizer, model)

    def step(model: MLP, optimizer: gs.optim.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
        loss, grads = gs.value_and_grad(loss_of)(model, x, y)
        optimizer.update(model, grads)
        return loss

    compiled = _passed(step, scale)
    return lambda: compiled(model, optimizer, x, y)


def _adam_closed_over(depth: int, scale: Single) -> Call:
    model, (x, y) = scale.model(depth), scale.example()
    optimizer = scale.build(_optimizer, model)

    def step(x: jax.Array, y: jax.Array) -> jax.Array:
        params = gs.states(model, gs.ParamState)
        loss, grads = gs.value_and_grad(lambda: loss_of(model, x, y), states=params)()
        optimizer.update(model, grads)
        return loss

    compiled = _closed(step, scale)
    return lambda: compiled(x, y)


def _ways(pure: Build, flat: Build, argument: Build, closed_over: Build) -> Mapping[str, Build]:
    return {BASE: pure, FLAT: flat, **dict(zip(OURS, (argument, closed_over), strict=True))}


def _train(start: Function, step: Function, argument: Build, closed_over: Build) -> Mapping[str, Build]:
    pure, flat = (functools.partial(way, start=start, step=step) for way in (_train_pure, _train_flat))
    return _ways(pure, flat, argument, closed_over)


STEPS: Final[Mapping[str, Mapping[str, Build]]] = {
    "forward": _ways(_forward_pure, _forward_flat, _forward_argument, _forward_closed_over),
    "descent": _train(_start_descent, _descend, _descent_argument, _descent_closed_over),
    "adam": _train(_start_adam, _adapt, _adam_argument, _adam_closed_over),
}
"""By what a call does (the forward pass, a step of gradient descent by hand, one of adam) and in which way."""
