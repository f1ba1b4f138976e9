"""A model for the tests of derivatives, its parameters as a dict, and the same model as a pure function of that."""

import jax.numpy as jnp

import graphstate as gs


class Affine(gs.Node):
    """A vector-valued model that counts its calls."""

    def __init__(self):
        self.weight = gs.ParamState(jnp.arange(1.0, 4.0))
        self.bias = gs.ParamState(jnp.float32(2.0))
        self.calls = gs.BatchState(jnp.int32(0))

    def __call__(self, x):
        self.calls.value = self.calls.value + 1
        return (self.weight.value * x) ** 2 + self.bias.value * x


PARAMS = {"weight": jnp.arange(1.0, 4.0), "bias": jnp.float32(2.0)}


def pure(params, x):
    return (params["weight"] * x) ** 2 + params["bias"] * x


def call(affine, x):
    return affine(x)


class Tied(gs.Node):
    """One State in two places."""

    def __init__(self):
        self.first = gs.ParamState(jnp.arange(1.0, 3.0))
        self.second = self.first

    def __call__(self):
        return jnp.sum(self.first.value * self.second.value**2)
