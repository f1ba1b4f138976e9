"""Derivatives within each other, within all other transforms, and around them; the oracle is the plain nest."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs

pytestmark = pytest.mark.no_leak_check("runs many eager transforms")


class Cell(gs.Node):
    def __init__(self):
        self.weight = gs.ParamState(jnp.float32(3.0))
        self.count = gs.BatchState(jnp.int32(0))

    def __call__(self, x):
        self.count.value = self.count.value + 1
        return self.weight.value**2 * x


def derivatives(j):
    """Every derivative, from `gs` or `jax`, as a map from a function of a scalar to a function of a scalar."""
    return {
        "jacrev": lambda f: lambda x: j.jacrev(f)(x),
        "jacfwd": lambda f: lambda x: j.jacfwd(f)(x),
        "hessian": lambda f: lambda x: j.hessian(f)(x),
        "jvp": lambda f: lambda x: sum(j.jvp(f, (x,), (2 * x,))),
        "vjp": lambda f: lambda x: _vjp(j, f, x),
        "linearize": lambda f: lambda x: _linearize(j, f, x),
    }


def _vjp(j, f, x):
    value, pull_back = j.vjp(f, x)
    return value + pull_back(x)[0] + pull_back(2 * x)[0]


def _linearize(j, f, x):
    value, push = j.linearize(f, x)
    return value + push(x) + push(2 * x)


GRAPHSTATE = {
    **derivatives(gs),
    "vector_grad": lambda f: lambda x: gs.vector_grad(lambda x: jnp.stack([f(x)]))(x)[0],
}
PLAIN = {**derivatives(jax), "vector_grad": lambda f: lambda x: jax.jacrev(lambda x: jnp.stack([f(x)]))(x)[0]}
OTHERS = {
    "jit": lambda f: lambda x: gs.jit(f)(x),
    "vmap": lambda f: lambda x: gs.vmap(f)(jnp.stack([x, 2 * x])).sum(),
    "grad": lambda f: lambda x: gs.grad(f)(x),
    "scan": lambda f: lambda x: gs.scan(lambda c, y: (c + f(y), None), 0 * x, jnp.stack([x, 3 * x]))[0],
    "cond": lambda f: lambda x: gs.cond(x > 0, f, lambda x: x, x),
    "checkpoint": lambda f: lambda x: gs.checkpoint(f)(x),
}
PLAIN_OTHERS = {
    "jit": lambda f: lambda x: jax.jit(f)(x),
    "vmap": lambda f: lambda x: jax.vmap(f)(jnp.stack([x, 2 * x])).sum(),
    "grad": lambda f: lambda x: jax.grad(f)(x),
    "scan": lambda f: lambda x: jax.lax.scan(lambda c, y: (c + f(y), None), 0 * x, jnp.stack([x, 3 * x]))[0],
    "cond": lambda f: f,
    "checkpoint": lambda f: f,
}
OURS, PLAINS = {**GRAPHSTATE, **OTHERS}, {**PLAIN, **PLAIN_OTHERS}
PAIRS = [pair for pair in itertools.product(OURS, repeat=2) if not set(pair) <= set(OTHERS)]


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_a_derivative_within_any_transform_and_around_it(outer, inner):
    cell = Cell()
    quartic = lambda f: lambda x: f(x) ** 2  # noqa: E731, so that second derivatives are of interest
    expected = PLAINS[outer](quartic(PLAINS[inner](lambda x: 9.0 * x**3)))(1.5)

    nested = OURS[outer](quartic(OURS[inner](lambda x: cell(x**3))))
    calls = (2 if outer == "scan" else 1) * (2 if inner == "scan" else 1)
    np.testing.assert_allclose(nested(jnp.float32(1.5)), expected, rtol=1e-5)
    assert cell.count.value == calls
    np.testing.assert_allclose(gs.jit(nested)(jnp.float32(1.5)), expected, rtol=1e-5)
    assert cell.count.value == 2 * calls
    assert cell.weight.value == 3.0
