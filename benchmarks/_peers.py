"""The MLP of `_mlp.py` in the peers, each as its own documentation writes it, with the same weights and example.

Each function imports its library and returns how to build the two calls, forward pass and train step of gradient
descent. The train step keeps its model wherever the library keeps it: in the objects, or in the result.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp
from _mlp import MLP, RATE, WIDTH, Call, Params, example, loss_of, params_of

__all__ = ["installed_peers", "versions_of_peers"]

Builders = Mapping[str, Callable[[int], Call]]


def _weights(depth: int) -> Params:
    return params_of(MLP(depth))


def _apply(layers: Iterable[Callable[[jax.Array], jax.Array]], x: jax.Array) -> jax.Array:
    for layer in layers:
        x = jnp.tanh(layer(x))
    return x


def _equinox() -> Builders:
    import equinox as eqx

    class Model(eqx.Module):
        layers: list[eqx.nn.Linear]

        def __init__(self, depth: int) -> None:
            made = [eqx.nn.Linear(WIDTH, WIDTH, key=jax.random.key(0)) for _ in range(depth)]
            layers = zip(made, _weights(depth), strict=True)
            self.layers = [
                eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, (given["weight"].T, given["bias"]))
                for layer, given in layers
            ]

        def __call__(self, x: jax.Array) -> jax.Array:
            return _apply(self.layers, x)

    def forward(depth: int) -> Call:
        model, (x, _) = Model(depth), example()
        predict = eqx.filter_jit(lambda model, x: model(x))
        return lambda: predict(model, x)

    def descent(depth: int) -> Call:
        model, (x, y) = Model(depth), example()

        @eqx.filter_jit
        def step(model: Model, x: jax.Array, y: jax.Array) -> tuple[Model, jax.Array]:
            loss, grads = eqx.filter_value_and_grad(loss_of)(model, x, y)
            return eqx.apply_updates(model, jax.tree.map(lambda grad: -RATE * grad, grads)), loss

        def call() -> jax.Array:
            nonlocal model
            model, loss = step(model, x, y)
            return loss

        return call

    return {"forward": forward, "descent": descent}


def _brainstate() -> Builders:
    import brainstate

    class Model(brainstate.nn.Module):
        def __init__(self, depth: int) -> None:
            super().__init__()
            self.layers = [
                brainstate.nn.Linear(WIDTH, WIDTH, w_init=given["weight"], b_init=given["bias"])
                for given in _weights(depth)
            ]

        def __call__(self, x: jax.Array) -> jax.Array:
            return _apply(self.layers, x)

    def forward(depth: int) -> Call:
        model, (x, _) = Model(depth), example()
        predict = brainstate.transform.jit(lambda x: model(x))
        return lambda: predict(x)

    def descent(depth: int) -> Call:
        model, (x, y) = Model(depth), example()
        params = model.states(brainstate.ParamState)

        @brainstate.transform.jit
        def step(x: jax.Array, y: jax.Array) -> jax.Array:
            gradient = brainstate.transform.grad(lambda: loss_of(model, x, y), params, return_value=True)
            grads, loss = gradient()
            for path, param in params.items():
                param.value = jax.tree.map(lambda old, grad: old - RATE * grad, param.value, grads[path])
            return loss

        return lambda: step(x, y)

    return {"forward": forward, "descent": descent}


def _flax(cached: bool) -> Builders:
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, depth: int) -> None:
            rngs = nnx.Rngs(0)
            self.layers = nnx.List([nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(depth)])
            for layer, given in zip(self.layers, _weights(depth), strict=True):
                layer.kernel[...], layer.bias[...] = given["weight"], given["bias"]

        def __call__(self, x: jax.Array) -> jax.Array:
            return _apply(self.layers, x)

    def bind(function: Callable[..., Any], model: Model) -> Callable[..., Any]:
        return nnx.cached_partial(function, model) if cached else lambda *args: function(model, *args)

    def forward(depth: int) -> Call:
        model, (x, _) = Model(depth), example()
        predict = bind(nnx.jit(lambda model, x: model(x)), model)
        return lambda: predict(x)

    def descent(depth: int) -> Call:
        model, (x, y) = Model(depth), example()

        @nnx.jit
        def step(model: Model, x: jax.Array, y: jax.Array) -> jax.Array:
            loss, grads = nnx.value_and_grad(loss_of)(model, x, y)
            params = nnx.state(model, nnx.Param)
            nnx.update(model, jax.tree.map(lambda old, grad: old - RATE * grad, params, grads))
            return loss

        bound = bind(step, model)
        return lambda: bound(x, y)

    return {"forward": forward, "descent": descent}


_PEERS: Final[Mapping[str, tuple[str, Callable[[], Builders]]]] = {
    "equinox": ("equinox", _equinox),
    "brainstate": ("brainstate", _brainstate),
    "flax.nnx": ("flax", lambda: _flax(cached=False)),
    "flax.nnx, cached_partial": ("flax", lambda: _flax(cached=True)),
}


def _installed() -> dict[str, tuple[str, Callable[[], Builders]]]:
    return {name: peer for name, peer in _PEERS.items() if importlib.util.find_spec(peer[0])}


def installed_peers() -> dict[str, Builders]:
    """How to build the calls in each peer that can be imported, by the peer's name."""
    return {name: builders() for name, (_, builders) in _installed().items()}


def versions_of_peers() -> dict[str, str]:
    """The version of each peer that can be imported, by the name of its distribution."""
    return {package: importlib.metadata.version(package) for package, _ in _installed().values()}
