"""The MLP of `_mlp.py` in the peers, each as its own documentation writes it, with the same weights and example.

Each function imports its library and returns how to build the two calls, forward pass and train step of gradient
descent, for one model or an ensemble. The train step keeps its model wherever the library keeps it: in the objects,
or in the result.
"""

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp
from _mlp import RATE, Build, Call, Params, Single, loss_of

__all__ = ["installed_peers", "is_installed"]

Builders = Mapping[str, Build]


def _weights(depth: int, scale: Single) -> Params:
    """Those of one member."""
    return Single(scale.width).params(depth)


def _apply(layers: Iterable[Callable[[jax.Array], jax.Array]], x: jax.Array) -> jax.Array:
    for layer in layers:
        x = jnp.tanh(layer(x))
    return x


def _equinox() -> Builders:
    import equinox as eqx

    def linear(given: Mapping[str, jax.Array]) -> eqx.nn.Linear:
        layer = eqx.nn.Linear(*given["weight"].shape, key=jax.random.key(0))
        return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, (given["weight"].T, given["bias"]))

    class Model(eqx.Module):
        layers: list[eqx.nn.Linear]

        def __init__(self, weights: Params) -> None:
            self.layers = [linear(given) for given in weights]

        def __call__(self, x: jax.Array) -> jax.Array:
            return _apply(self.layers, x)

    def build(depth: int, scale: Single) -> Model:
        return scale.stack(Model(_weights(depth, scale)))

    def forward(depth: int, scale: Single) -> Call:
        model, (x, _) = build(depth, scale), scale.example()
        predict = scale.compile(lambda model, x: model(x), eqx.filter_jit, eqx.filter_vmap)
        return lambda: predict(model, x)

    def descent(depth: int, scale: Single) -> Call:
        model, (x, y) = build(depth, scale), scale.example()

        def step(model: Model, x: jax.Array, y: jax.Array) -> tuple[Model, jax.Array]:
            loss, grads = eqx.filter_value_and_grad(loss_of)(model, x, y)
            return eqx.apply_updates(model, jax.tree.map(lambda grad: -RATE * grad, grads)), loss

        compiled = scale.compile(step, eqx.filter_jit, eqx.filter_vmap)

        def call() -> jax.Array:
            nonlocal model
            model, loss = compiled(model, x, y)
            return loss

        return call

    return {"forward": forward, "descent": descent}


def _brainstate() -> Builders:
    import brainstate

    class Model(brainstate.nn.Module):
        def __init__(self, weights: Params) -> None:
            super().__init__()
            self.layers = [
                brainstate.nn.Linear(*given["weight"].shape, w_init=given["weight"], b_init=given["bias"])
                for given in weights
            ]

        def __call__(self, x: jax.Array) -> jax.Array:
            return _apply(self.layers, x)

    def build(depth: int, scale: Single) -> Model:
        model = Model(_weights(depth, scale))
        for state in model.states().values():
            state.value = scale.stack(state.value)
        return model

    def compiled(model: Model, step: Callable[..., Any], scale: Single) -> Callable[..., Any]:
        states = {0: model.states()}

        def vmap(step: Callable[..., Any]) -> Callable[..., Any]:
            return brainstate.transform.vmap(step, in_states=states, out_states=states)

        return scale.compile(step, brainstate.transform.jit, vmap)

    def forward(depth: int, scale: Single) -> Call:
        model, (x, _) = build(depth, scale), scale.example()
        predict = compiled(model, lambda x: model(x), scale)
        return lambda: predict(x)

    def descent(depth: int, scale: Single) -> Call:
        model, (x, y) = build(depth, scale), scale.example()
        params = model.states(brainstate.ParamState)

        def step(x: jax.Array, y: jax.Array) -> jax.Array:
            gradient = brainstate.transform.grad(lambda: loss_of(model, x, y), params, return_value=True)
            grads, loss = gradient()
            for path, param in params.items():
                param.value = jax.tree.map(lambda old, grad: old - RATE * grad, param.value, grads[path])
            return loss

        train = compiled(model, step, scale)
        return lambda: train(x, y)

    return {"forward": forward, "descent": descent}


def _flax(cached: bool) -> Builders:
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, weights: Params) -> None:
            rngs = nnx.Rngs(0)
            self.layers = nnx.List([nnx.Linear(*given["weight"].shape, rngs=rngs) for given in weights])
            for layer, given in zip(self.layers, weights, strict=True):
                layer.kernel[...], layer.bias[...] = given["weight"], given["bias"]

        def __call__(self, x: jax.Array) -> jax.Array:
            return _apply(self.layers, x)

    def build(depth: int, scale: Single) -> Model:
        graphdef, state = nnx.split(Model(_weights(depth, scale)))
        return nnx.merge(graphdef, scale.stack(state))

    def bind(function: Callable[..., Any], model: Model) -> Callable[..., Any]:
        return nnx.cached_partial(function, model) if cached else lambda *args: function(model, *args)

    def forward(depth: int, scale: Single) -> Call:
        model, (x, _) = build(depth, scale), scale.example()
        predict = bind(scale.compile(lambda model, x: model(x), nnx.jit, nnx.vmap), model)
        return lambda: predict(x)

    def descent(depth: int, scale: Single) -> Call:
        model, (x, y) = build(depth, scale), scale.example()

        def step(model: Model, x: jax.Array, y: jax.Array) -> jax.Array:
            loss, grads = nnx.value_and_grad(loss_of)(model, x, y)
            params = nnx.state(model, nnx.Param)
            nnx.update(model, jax.tree.map(lambda old, grad: old - RATE * grad, params, grads))
            return loss

        train = bind(scale.compile(step, nnx.jit, nnx.vmap), model)
        return lambda: train(x, y)

    return {"forward": forward, "descent": descent}


_PEERS: Final[Mapping[str, tuple[str, Callable[[], Builders]]]] = {
    "equinox": ("equinox", _equinox),
    "brainstate": ("brainstate", _brainstate),
    "flax.nnx": ("flax", lambda: _flax(cached=False)),
    "flax.nnx, cached_partial": ("flax", lambda: _flax(cached=True)),
}


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def installed_peers() -> dict[str, Builders]:
    """How to build the calls in each peer that can be imported, by the peer's name."""
    return {name: builders() for name, (package, builders) in _PEERS.items() if is_installed(package)}
