"""Draws inside of traces, with the frames that transforms make."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphstate import random
from graphstate._trace import Frame

SAMPLERS = {
    "ball": (3,), "bernoulli": (), "beta": (2.0, 3.0), "binomial": (5, 0.5), "bits": (), "categorical": ([0.0, 1.0],),
    "cauchy": (), "chisquare": (3,), "choice": (3,), "dirichlet": ([1.0, 2.0],), "double_sided_maxwell": (),
    "exponential": (), "f": (2, 3), "gamma": (2.0,), "generalized_normal": (2.0,), "geometric": (0.5,), "gumbel": (),
    "laplace": (), "loggamma": (0.5,), "logistic": (), "lognormal": (), "maxwell": (), "multinomial": (3, [0.5, 0.5]),
    "multivariate_normal": ([0.0], [[1.0]]), "normal": (), "orthogonal": (2,), "pareto": (2.0,), "permutation": (3,),
    "poisson": (2.0,), "rademacher": (), "rand": (2,), "randint": (5,), "randn": (2,), "random": (), "rayleigh": (),
    "t": (3,), "triangular": (0.0, 0.5, 1.0), "truncated_normal": (-1.0, 1.0), "uniform": (), "wald": (2.0,),
    "weibull_min": (1.0, 2.0),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_may_be_traced(name):
    sizes = {} if name in ("permutation", "rand", "randn") else {"size": 5}
    draw = functools.partial(getattr(random, name), *SAMPLERS[name], **sizes)
    drawn = jax.eval_shape(lambda key: draw(key=key), jax.random.key(0))
    if sizes:
        assert drawn.shape[0] == 5


def test_the_table_holds_every_sampler():
    assert set(SAMPLERS) == set(dir(random.RandomState)) & set(random.__all__) - {"seed", "split_key"}


def test_draws_inside_of_a_frame_advance_the_frame_only():
    rng = random.RandomState(0)
    before, frame = rng.value, Frame()

    @jax.jit
    def draw():
        with frame:
            return rng.normal(), rng.normal(), rng.value

    first, second, after = draw()
    assert rng.value is before
    np.testing.assert_allclose([first, second], [rng.normal(), rng.normal()], rtol=1e-6)
    assert after == rng.value


def test_a_seed_inside_of_a_frame_holds_inside_only():
    before, frame = random.DEFAULT.value, Frame()

    @jax.vmap
    def draw(seed):
        with frame:
            random.seed(seed)
            return random.normal()

    np.testing.assert_allclose(draw(jnp.arange(3)), [random.RandomState(i).normal() for i in range(3)], rtol=1e-6)
    assert random.DEFAULT.value is before


def test_a_random_state_may_be_made_inside_of_a_trace_from_a_traced_seed():
    drawn = jax.vmap(lambda seed: random.RandomState(seed).normal())(jnp.arange(3))
    np.testing.assert_allclose(drawn, [random.RandomState(i).normal() for i in range(3)], rtol=1e-6)


def test_parameters_may_be_traced():
    drawn = jax.jit(lambda loc: random.normal(loc, 2.0, size=3, key=jax.random.key(0)))(1.0)
    np.testing.assert_allclose(drawn, random.normal(1.0, 2.0, size=3, key=jax.random.key(0)), rtol=1e-6)


def test_a_draw_inside_of_plain_jax_is_refused_and_changes_nothing():
    rng = random.RandomState(0)
    before = rng.value
    with pytest.raises(RuntimeError, match="was written inside of a transform of plain JAX"):
        jax.vmap(lambda i: rng.normal())(jnp.arange(2))
    with pytest.raises(RuntimeError, match="was written inside of a transform of plain JAX"):
        jax.vmap(rng.seed)(jnp.arange(2))
    assert rng.value is before
