"""Each sampler against the `jax.random` function of its name, in the strictest world."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphstate import random

pytestmark = pytest.mark.no_leak_check("hundreds of eager draws; those of traces are in test_trace.py")

KEY = jax.random.key(7)
S = (2, 3)
F = np.float32
ONES = jnp.ones(S)
HALVES = jnp.full(S, 0.5)
LOGITS = jnp.arange(12.0).reshape(2, 6)

# The name, what the sampler here is given, what the function of JAX is given.
CASES: list[tuple[str, tuple[Any, ...], dict[str, Any], Callable[[], jax.Array]]] = [
    ("rand", (2, 3), {}, lambda: jax.random.uniform(KEY, S)),
    ("randn", (2, 3), {}, lambda: jax.random.normal(KEY, S)),
    ("random", (S,), {}, lambda: jax.random.uniform(KEY, S)),
    ("uniform", (), {"size": S}, lambda: jax.random.uniform(KEY, S)),
    ("uniform", (-1.5, 2), {"size": 4}, lambda: jax.random.uniform(KEY, (4,), minval=-1.5, maxval=2)),
    ("uniform", (-ONES, 2 * ONES), {}, lambda: jax.random.uniform(KEY, S, minval=-ONES, maxval=2 * ONES)),
    ("normal", (), {"size": S}, lambda: jax.random.normal(KEY, S)),
    ("normal", (), {"size": S, "dtype": "bfloat16"}, lambda: jax.random.normal(KEY, S, "bfloat16")),
    ("normal", (), {"size": S, "dtype": complex}, lambda: jax.random.normal(KEY, S, complex)),
    ("truncated_normal", (-1.0, 2.0, S), {}, lambda: jax.random.truncated_normal(KEY, -1.0, 2.0, S)),
    ("truncated_normal", (-ONES, ONES), {}, lambda: jax.random.truncated_normal(KEY, -ONES, ONES)),
    ("generalized_normal", (3.0, S), {}, lambda: jax.random.generalized_normal(KEY, F(3), S)),
    ("laplace", (), {"size": S}, lambda: jax.random.laplace(KEY, S)),
    ("logistic", (), {"size": S}, lambda: jax.random.logistic(KEY, S)),
    ("cauchy", (), {"size": S}, lambda: jax.random.cauchy(KEY, S)),
    ("gumbel", (), {"size": S}, lambda: jax.random.gumbel(KEY, S)),
    ("gumbel", (), {"size": S, "mode": "high"}, lambda: jax.random.gumbel(KEY, S, mode="high")),
    ("t", (3, S), {}, lambda: jax.random.t(KEY, F(3), S)),
    ("double_sided_maxwell", (1.5, 0.5, S), {}, lambda: jax.random.double_sided_maxwell(KEY, 1.5, 0.5, S)),
    ("triangular", (-1.0, 0.5, 2.0, S), {}, lambda: jax.random.triangular(KEY, -1.0, 0.5, 2.0, S)),
    ("exponential", (), {"size": S}, lambda: jax.random.exponential(KEY, S)),
    ("gamma", (2.5,), {"size": S}, lambda: jax.random.gamma(KEY, F(2.5), S)),
    ("gamma", (2 * ONES,), {}, lambda: jax.random.gamma(KEY, 2 * ONES)),
    ("loggamma", (0.1, S), {}, lambda: jax.random.loggamma(KEY, F(0.1), S)),
    ("beta", (2, 3.0, S), {}, lambda: jax.random.beta(KEY, F(2), F(3), S)),
    ("chisquare", (3, S), {}, lambda: jax.random.chisquare(KEY, F(3), S)),
    ("f", (3.0, 4.0, S), {}, lambda: jax.random.f(KEY, F(3), F(4), S)),
    ("lognormal", (), {"sigma": 0.5, "size": S}, lambda: jax.random.lognormal(KEY, 0.5, S)),
    ("maxwell", (S,), {}, lambda: jax.random.maxwell(KEY, S)),
    ("pareto", (3.0, S), {}, lambda: jax.random.pareto(KEY, 3.0, S)),
    ("rayleigh", (), {"size": S}, lambda: jax.random.rayleigh(KEY, F(1), S)),
    ("wald", (2.0,), {"size": S}, lambda: jax.random.wald(KEY, F(2), S)),
    ("weibull_min", (2.0, 1.5, S), {}, lambda: jax.random.weibull_min(KEY, 2.0, 1.5, S)),
    ("bernoulli", (), {"size": S}, lambda: jax.random.bernoulli(KEY, shape=S)),
    ("bernoulli", (HALVES,), {"mode": "high"}, lambda: jax.random.bernoulli(KEY, HALVES, mode="high")),
    ("bernoulli", (jnp.bfloat16(0.3), S), {}, lambda: jax.random.bernoulli(KEY, jnp.bfloat16(0.3), S)),
    ("binomial", (10, 0.3, S), {}, lambda: jax.random.binomial(KEY, F(10), F(0.3), S)),
    ("bits", (S,), {}, lambda: jax.random.bits(KEY, S)),
    ("bits", (S,), {"dtype": "uint8"}, lambda: jax.random.bits(KEY, S, "uint8")),
    ("categorical", (LOGITS,), {}, lambda: jax.random.categorical(KEY, LOGITS)),
    ("categorical", (LOGITS, 0, (4, 6)), {}, lambda: jax.random.categorical(KEY, LOGITS, 0, (4, 6))),
    (
        "categorical",
        (LOGITS, -1, (3, 2)),
        {"replace": False},
        lambda: jax.random.categorical(KEY, LOGITS, -1, (3, 2), False),
    ),
    ("choice", (5, S), {}, lambda: jax.random.choice(KEY, 5, S)),
    ("choice", (LOGITS, 3, False), {"axis": 1}, lambda: jax.random.choice(KEY, LOGITS, (3,), False, axis=1)),
    (
        "choice",
        (3, S),
        {"p": [0.2, 0.3, 0.5]},
        lambda: jax.random.choice(KEY, 3, S, p=jnp.array([0.2, 0.3, 0.5])),
    ),
    ("geometric", (0.3, S), {}, lambda: jax.random.geometric(KEY, 0.3, S)),
    ("permutation", (5,), {}, lambda: jax.random.permutation(KEY, 5)),
    ("permutation", (LOGITS, 1), {"independent": True}, lambda: jax.random.permutation(KEY, LOGITS, 1, True)),
    ("poisson", (3.5, S), {}, lambda: jax.random.poisson(KEY, F(3.5), S)),
    ("rademacher", (S,), {}, lambda: jax.random.rademacher(KEY, S)),
    ("randint", (6,), {"size": S}, lambda: jax.random.randint(KEY, S, 0, 6)),
    ("randint", (-2, 6, S), {}, lambda: jax.random.randint(KEY, S, -2, 6)),
    ("randint", (0, 256, S), {"dtype": "uint8"}, lambda: jax.random.randint(KEY, S, 0, 256, "uint8")),
    ("ball", (3,), {"size": S}, lambda: jax.random.ball(KEY, 3, F(2), shape=S)),
    ("dirichlet", ([1.0, 2.0, 3.0], 4), {}, lambda: jax.random.dirichlet(KEY, jnp.array([1.0, 2.0, 3.0]), (4,))),
    ("multinomial", (5, HALVES[0]), {}, lambda: jax.random.multinomial(KEY, F(5), HALVES[0])),
    ("multinomial", (5, HALVES[0], 2), {}, lambda: jax.random.multinomial(KEY, 5.0, HALVES[0], shape=(2, 3))),
    (
        "multivariate_normal",
        (jnp.zeros(2), jnp.eye(2), S),
        {},
        lambda: jax.random.multivariate_normal(KEY, jnp.zeros(2), jnp.eye(2), S),
    ),
    ("orthogonal", (3,), {"size": 2, "m": 2}, lambda: jax.random.orthogonal(KEY, 3, (2,), m=2)),
]
SAMPLERS = sorted({case[0] for case in CASES})
cases = pytest.mark.parametrize(
    ("name", "arguments", "keywords", "expected"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)]
)


def assert_same_bits(ours: jax.Array, expected: jax.Array) -> None:
    assert ours.dtype == expected.dtype
    assert ours.shape == expected.shape
    assert np.asarray(ours).tobytes() == np.asarray(expected).tobytes()


@cases
def test_a_draw_with_key_has_every_bit_of_the_one_of_jax(name, arguments, keywords, expected):
    assert_same_bits(getattr(random, name)(*arguments, key=KEY, **keywords), expected())


@cases
def test_a_draw_uses_one_split_of_the_stream_and_none_where_a_key_is_given(name, arguments, keywords, expected):
    rng = random.RandomState(3)
    before, sampler = rng.value, getattr(rng, name)
    new, base = jax.random.split(before)
    with_key = sampler(*arguments, key=base, **keywords)
    assert rng.value is before
    assert_same_bits(sampler(*arguments, **keywords), with_key)
    assert rng.value == new


def test_every_sampler_of_jax_is_here():
    others = {"PRNGKey", "clone", "fold_in", "key", "key_data", "key_dtype", "key_impl", "split", "wrap_key_data"}
    public = {name for name in dir(jax.random) if not name.startswith("_") and callable(getattr(jax.random, name))}
    assert public - others <= set(SAMPLERS)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_takes_a_key_and_a_dtype_and_says_so(name):
    function = getattr(random, name)
    parameters = inspect.signature(function).parameters
    assert "self" not in parameters
    for keyword in ("key", "dtype"):
        assert parameters[keyword].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[keyword].default is None
    for parameter in parameters:
        assert f"    {parameter}: " in function.__doc__
    assert "Returns:" in function.__doc__


# Parameters that are arrays, and scales that `jax.random` has not


LOCATIONS = jnp.array([[0.0], [10.0]])
SCALES = jnp.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize("name", ["normal", "laplace", "logistic", "cauchy", "gumbel", "double_sided_maxwell"])
def test_locations_and_scales_move_the_standard_draws(name):
    sampler = getattr(random, name)
    standard = sampler(size=S, key=KEY)
    np.testing.assert_allclose(sampler(LOCATIONS, SCALES, key=KEY), LOCATIONS + SCALES[None] * standard, rtol=1e-6)


@pytest.mark.parametrize(("name", "arguments"), [("exponential", ()), ("gamma", (2.0,))])
def test_scales_stretch_the_standard_draws(name, arguments):
    sampler = getattr(random, name)
    standard = sampler(*arguments, size=S, key=KEY)
    np.testing.assert_allclose(sampler(*arguments, SCALES, S, key=KEY), SCALES[None] * standard, rtol=1e-6)


def test_the_mean_of_lognormal_is_that_of_the_logarithm():
    drawn = random.lognormal(LOCATIONS, 0.5, S, key=KEY)
    np.testing.assert_allclose(jnp.log(drawn), LOCATIONS + jnp.log(random.lognormal(0, 0.5, S, key=KEY)), rtol=1e-5)


def test_the_scale_of_wald_scales_draws_of_a_smaller_mean():
    drawn = random.wald(6.0, 3.0, size=S, key=KEY)
    np.testing.assert_allclose(drawn, 3.0 * random.wald(2.0, size=S, key=KEY), rtol=1e-6)


def test_integers_are_drawn_between_arrays_of_ends():
    drawn = random.randint(jnp.array([[0], [10]]), jnp.array([5, 6, 7]) + 10, S, key=KEY)
    assert drawn.shape == S
    assert (drawn[1] >= 10).all()


def test_integers_end_at_the_first_argument_where_it_is_the_only_one():
    assert set(random.randint(3, size=100).tolist()) == {0, 1, 2}


def test_parameters_are_cast_to_the_dtype_of_the_draws():
    drawn = random.normal(np.float64(1.0), jnp.ones(3, int), dtype="bfloat16")
    assert drawn.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("binomial", (3, 0.5)), ("multinomial", (3, [0.5, 0.5])), ("poisson", (3.0,)), ("bernoulli", (0.5,))],
)
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_counts_may_be_integers_and_floats(name, arguments, dtype):
    drawn = getattr(random, name)(*arguments, dtype=dtype)
    assert drawn.dtype == jnp.dtype(dtype)


@pytest.mark.parametrize(("name", "arguments"), [("choice", (3,)), ("permutation", (3,)), ("categorical", (LOGITS,))])
def test_elements_are_cast_to_the_dtype_that_was_asked_for(name, arguments):
    assert getattr(random, name)(*arguments, dtype="float32").dtype == jnp.float32


def test_a_covariance_is_factored_once_for_a_batch():
    program = jax.make_jaxpr(lambda key: random.multivariate_normal(jnp.zeros((5, 2)), jnp.eye(2), key=key))(KEY)
    assert "f32[5,2,2]" not in str(program)


def test_means_and_covariances_of_two_dtypes_are_brought_together():
    mean = jnp.zeros(2, "bfloat16")
    assert random.multivariate_normal(mean, jnp.eye(2)).dtype == jnp.float32
    assert random.multivariate_normal(mean, jnp.eye(2), dtype="bfloat16").dtype == jnp.bfloat16


def test_a_gradient_goes_through_location_and_scale():
    slope = jax.grad(lambda scale: random.normal(0.0, scale, key=KEY))(2.0)
    np.testing.assert_allclose(slope, random.normal(key=KEY), rtol=1e-6)


# What a sampler refuses


ERRORS = [
    (
        lambda: random.normal((3,)),
        TypeError,
        r"`loc` is a number or an array, but got \(3,\) of type tuple.*size=\(3,\)",
    ),
    (lambda: random.exponential((3,)), TypeError, r"size=\(3,\)"),
    (lambda: random.bernoulli((3,)), TypeError, r"size=\(3,\)"),
    (lambda: random.randint((3,)), TypeError, r"`high` is a number or an array, but got \(3,\)"),
    (lambda: random.dirichlet((1.0, 2.0)), TypeError, r"jnp\.array\(\[1\.0, 2\.0\]\)"),
    (lambda: random.choice((1, 2)), TypeError, "several parameters are an array"),
    (lambda: random.rand((2, 3)), TypeError, r"`rand` takes dimensions.*got \(2, 3\).*uniform\(size=\.\.\.\)"),
    (lambda: random.randn([2, 3]), TypeError, r"`randn` takes dimensions.*normal\(size=\.\.\.\)"),
    (lambda: random.rand(2.5), TypeError, r"`rand\(\.\.\.\)` is an int or a tuple of ints"),
    (lambda: random.normal(KEY), TypeError, r"`loc` is a number or an array, but got a key\. A key goes into `key=`"),
    (lambda: random.normal(random.DEFAULT), TypeError, r"of type RandomState\. Take its `\.value`"),
    (lambda: random.normal("1"), TypeError, r"got 1 of type str\. Convert it"),
    (lambda: random.normal(1j), TypeError, r"`loc` is complex, but the draws are float32"),
    (lambda: random.normal(dtype=int), TypeError, "draws floats, but `dtype` is int32"),
    (lambda: random.randint(2.5), TypeError, r"`high` is made of integers, but got float64\[\]"),
    (lambda: random.choice(2.5), TypeError, "`a` is made of integers"),
    (lambda: random.permutation(jnp.float32(2)), TypeError, r"`x` is made of integers, but got float32\[\]"),
    (lambda: random.normal(size=2.5), TypeError, r"`size` is an int or a tuple of ints.*but got 2\.5"),
    (lambda: random.normal(size=(2, -1)), TypeError, r"none negative.*but got \(2, -1\)"),
    (lambda: jax.jit(lambda n: random.normal(size=n, key=KEY))(3), TypeError, "known when JAX traces"),
    (
        lambda: random.normal(jnp.zeros(3), size=2),
        ValueError,
        r"size=\(2,\), but their shapes are loc: \(3,\), scale: \(\)",
    ),
    (lambda: random.normal(jnp.zeros(3), jnp.ones(2)), ValueError, r"loc: \(3,\), scale: \(2,\)"),
    (lambda: random.dirichlet(1.0), ValueError, r"`alpha` needs 1 axis for one draw.*shape is \(\)"),
    (lambda: random.multivariate_normal([0.0], [1.0]), ValueError, r"`cov` needs 2 axes for one draw"),
    (lambda: random.categorical(LOGITS, 2), ValueError, r"`logits` of shape \(2, 6\) has no axis 2"),
    (lambda: random.categorical(LOGITS, size=3), ValueError, r"without the axis of categories: \(2,\)"),
    (lambda: random.normal(key=0), TypeError, r"`key` is one key.*but got a int"),
    (lambda: random.normal(key=jax.random.split(KEY)), TypeError, r"but got keys of shape \(2,\).*jax\.vmap"),
]


@pytest.mark.parametrize(("draw", "kind", "message"), ERRORS)
def test_a_wrong_argument_is_named_with_the_way_out_and_nothing_is_drawn(draw, kind, message):
    before = random.DEFAULT.value
    with pytest.raises(kind, match=f"(?s){message}") as caught:
        draw()
    assert len(str(caught.value).splitlines()) <= 10
    assert random.DEFAULT.value is before
