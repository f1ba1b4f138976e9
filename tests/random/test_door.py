"""What `graphstate.random` offers, and that it offers it twice: as functions and as methods."""

import inspect

import graphstate.random
from graphstate.random import RandomState

CALLS = [
    "ball", "bernoulli", "beta", "binomial", "bits", "categorical", "cauchy", "chisquare", "choice", "dirichlet",
    "double_sided_maxwell", "exponential", "f", "gamma", "generalized_normal", "geometric", "gumbel", "laplace",
    "loggamma", "logistic", "lognormal", "maxwell", "multinomial", "multivariate_normal", "normal", "orthogonal",
    "pareto", "permutation", "poisson", "rademacher", "rand", "randint", "randn", "random", "rayleigh", "seed",
    "split_key", "t", "triangular", "truncated_normal", "uniform", "wald", "weibull_min",
]  # fmt: skip
OTHERS = ["DEFAULT", "RandomState", "RandomnessWarning", "is_stacked", "lane_key", "lane_keys", "seed_context"]


def test_the_door_shows_these_names():
    assert sorted(graphstate.random.__all__) == sorted([*CALLS, *OTHERS])
    for name in graphstate.random.__all__:
        assert hasattr(graphstate.random, name)


def test_every_method_is_a_function_too():
    methods = {name for name in dir(RandomState) if not name.startswith("_")} - set(dir(graphstate.graph.State))
    assert methods - {"clone"} == set(CALLS)


def test_every_function_is_the_method_of_the_default_stream():
    for name in CALLS:
        function = getattr(graphstate.random, name)
        assert inspect.unwrap(function) is getattr(RandomState, name)
        assert function.__doc__ is not None
    with graphstate.random.seed_context(3):
        assert graphstate.random.normal() == RandomState(3).normal()
