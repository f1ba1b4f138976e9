"""Correct modules, which no check may fault: all layers of `graphstate.nn`, and functions of every kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import graphstate as gs
from tests.nn.rows import ROWS, Row


@dataclass(frozen=True)
class Correct:
    """A module, and the arguments of one lane.

    Attributes:
        name: what it is.
        make: from a dtype to the module.
        shapes: of its real arguments.
        others: further arguments, of whole numbers or keys.
        dtypes: those that it works in.
    """

    name: str
    make: Callable[[Any], Any]
    shapes: tuple[tuple[int, ...], ...]
    others: tuple[Any, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float64")

    def examples(self, dtype: str) -> tuple[Any, ...]:
        """Arguments of one lane."""
        reals = [
            np.linspace(-1, 2, int(np.prod(shape))).reshape(shape).astype(jnp.dtype(dtype)) for shape in self.shapes
        ]
        return (*reals, *self.others)


def _layer(row: Row) -> Callable[[Any], Any]:
    def make(dtype):
        layer = row.layer(0, dtype) if "param_dtype" in row.options else row.layer(0)
        return Called(layer, dict(row.kwargs))

    return make


class Called(gs.Node):
    """A layer with the further arguments of its calls."""

    def __init__(self, layer, options):
        self.layer, self.options = layer, options

    def __call__(self, x):
        return self.layer(x, **self.options)


def function(name: str, f: Callable[..., Any], *shapes: tuple[int, ...], **options: Any) -> Correct:
    """A function that needs no parameters."""
    return Correct(name, lambda dtype: lambda *args: f(*args), shapes, **options)


LINEAR_ALGEBRA = ("float32", "float64")


def attention(q, k, v):
    return jax.nn.softmax(q @ k.T * jnp.asarray(0.5, q.dtype)) @ v


def recurrent(xs):
    def step(h, x):
        h = jnp.tanh(h * jnp.asarray(0.5, x.dtype) + x)
        return h, h

    return lax.scan(step, jnp.zeros_like(xs[0]), xs)


def halved(x):
    """As many steps as the lane needs."""
    return lax.while_loop(lambda carry: carry[0].sum() > 0.1, lambda carry: (carry[0] / 2, carry[1] + 1), (abs(x), 0))


def mlp(parameters, x):
    """In the style of JAX: parameters in a dict."""
    hidden = jnp.tanh(x @ parameters["in"]["w"] + parameters["in"]["b"])
    return hidden @ parameters["out"]["w"]


def make_mlp(dtype):
    keys = jax.random.split(jax.random.key(0), 2)
    parameters = {
        "in": {"w": jax.random.normal(keys[0], (3, 4), dtype), "b": jnp.zeros(4, dtype)},
        "out": {"w": jax.random.normal(keys[1], (4, 2), dtype)},
    }
    return lambda x: mlp(parameters, x)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Affine:
    """In the style of Equinox: a module that is a pytree."""

    weight: jax.Array
    bias: jax.Array

    def __call__(self, x):
        return self.weight @ x + self.bias


def make_affine(dtype):
    module = Affine(jnp.asarray([[1, 2, 3], [4, 5, 6]], dtype), jnp.ones(2, dtype))
    return lambda x: module(x)


class Memory(gs.Node):
    """A running mean, and a count of calls."""

    def __init__(self, dtype):
        self.mean, self.calls = gs.BatchState(jnp.zeros(3, dtype)), gs.State(jnp.int32(0))

    def __call__(self, x):
        self.calls.value += 1
        self.mean.value = (self.mean.value + x) / 2
        return x - self.mean.value


class Tied(gs.Node):
    """One layer by two names, in a cycle."""

    def __init__(self, dtype):
        self.first = gs.nn.Linear(3, 3, rng=gs.random.RandomState(0), param_dtype=dtype)
        self.layers = [self.first, self.first]
        self.me = self

    def __call__(self, x):
        for layer in self.me.layers:
            x = jnp.tanh(layer(x))
        return x


FUNCTIONS = [
    function("sum", jnp.sum, (3,)),
    function("mean", jnp.mean, (2, 3)),
    function("variance", jnp.var, (3,)),
    function("largest", jnp.max, (3,)),
    function("place of the largest", jnp.argmax, (3,)),
    function("sums so far", jnp.cumsum, (3,)),
    function("sorted", jnp.sort, (3,)),
    function("norm", jnp.linalg.norm, (3,), dtypes=LINEAR_ALGEBRA),
    function("logsumexp", jax.nn.logsumexp, (3,)),
    function("softmax", jax.nn.softmax, (3,)),
    function("standardize", lambda x: jax.nn.standardize(x, epsilon=1e-2), (4,)),
    function("gelu", jax.nn.gelu, (3,)),
    function("relu and its mask", lambda x: (jax.nn.relu(x), x > 0), (3,)),
    function("outer product", lambda x, y: x[:, None] * y[None], (2,), (3,)),
    function("product of matrices", jnp.matmul, (2, 3), (3, 2)),
    function("attention", attention, (3, 2), (4, 2), (4, 2)),
    function("convolution", lambda x, w: jnp.convolve(x, w, mode="same"), (4,), (3,)),
    function("images", lambda x, w: lax.conv(x[None], w, (1, 1), "SAME"), (1, 4, 4), (2, 1, 2, 2)),
    function("recurrent", recurrent, (4, 2)),
    function("as many steps as needed", halved, (3,)),
    function("branches", lambda x: lax.cond(x.sum() > 0, jnp.sin, lambda y: 2 * y, x), (3,)),
    function("a loop", lambda x: lax.fori_loop(0, 3, lambda _, y: jnp.tanh(y + x), x), (3,)),
    function("an associative scan", lambda x: lax.associative_scan(jnp.add, x), (4,)),
    function(
        "a solution",
        lambda x, y: jnp.linalg.solve(jnp.outer(x, x) + jnp.eye(3, dtype=x.dtype), y),
        (3,),
        (3,),
        dtypes=LINEAR_ALGEBRA,
    ),
    function("a Fourier transform", lambda x: jnp.fft.fft(x), (4,), dtypes=LINEAR_ALGEBRA),
    function("a row", lambda x, index: x[index], (3, 2), others=(np.int32(1),)),
    function("counted", lambda x: x + 1, others=(np.arange(3, dtype=np.int32),)),
    function("noise", lambda x, key: x + jax.random.normal(key, x.shape, x.dtype), (3,), others=(jax.random.key(0),)),
    Correct("parameters in a dict", make_mlp, ((3,),)),
    Correct("a module that is a pytree", make_affine, ((3,),)),
    Correct("a running mean", Memory, ((3,),)),
    Correct("tied weights", Tied, ((3,),)),
]

LAYERS = [
    Correct(
        name,
        _layer(row),
        () if row.integers else (row.shape,),
        (np.resize(np.arange(4), row.shape),) if row.integers else (),
        {"SpectralNorm": LINEAR_ALGEBRA}.get(name, ("float32", "bfloat16", "float64")),
    )
    for name, row in ROWS.items()
]

CORRECT = [*FUNCTIONS, *LAYERS]
