"""Random numbers: streams of keys, numpy-style samplers, and the default stream that functions draw from.

A `RandomState` is a State that holds a key; each draw advances it by one split. All samplers are methods of it,
and functions of this module, which draw from `DEFAULT`. Each takes

- the parameters of the distribution, by NumPy's names and in NumPy's order where NumPy has it, by those of
  `jax.random` otherwise: numbers, arrays or lists, never tuples;
- `size`, the shape of the result (of the batch, where one draw is a vector or a matrix);
- `key`, to draw with this key and leave every stream alone: bit for bit what the function of that name in
  `jax.random` gives with this key and shape;
- `dtype`, by default that of the `jax.random` function.

Inside a map each lane has a stream of its own. Importing this module starts no backend.

Example:
    >>> from graphstate import random
    >>> random.seed(0)
    >>> random.normal(size=(2, 3)).shape
    (2, 3)
    >>> with random.seed_context(42):
    ...     first = random.uniform()
    >>> with random.seed_context(42):
    ...     bool(random.uniform() == first)
    True
"""

from ._context import seed_context
from ._default import DEFAULT
from ._function import (
    ball,
    bernoulli,
    beta,
    binomial,
    bits,
    categorical,
    cauchy,
    chisquare,
    choice,
    dirichlet,
    double_sided_maxwell,
    exponential,
    f,
    gamma,
    generalized_normal,
    geometric,
    gumbel,
    laplace,
    loggamma,
    logistic,
    lognormal,
    maxwell,
    multinomial,
    multivariate_normal,
    normal,
    orthogonal,
    pareto,
    permutation,
    poisson,
    rademacher,
    rand,
    randint,
    randn,
    random,
    rayleigh,
    seed,
    split_key,
    t,
    triangular,
    truncated_normal,
    uniform,
    wald,
    weibull_min,
)
from ._key import RandomnessWarning, is_stacked, lane_key, lane_keys
from ._state import RandomState

__all__ = [
    "DEFAULT",
    "RandomState",
    "RandomnessWarning",
    "ball",
    "bernoulli",
    "beta",
    "binomial",
    "bits",
    "categorical",
    "cauchy",
    "chisquare",
    "choice",
    "dirichlet",
    "double_sided_maxwell",
    "exponential",
    "f",
    "gamma",
    "generalized_normal",
    "geometric",
    "gumbel",
    "is_stacked",
    "lane_key",
    "lane_keys",
    "laplace",
    "loggamma",
    "logistic",
    "lognormal",
    "maxwell",
    "multinomial",
    "multivariate_normal",
    "normal",
    "orthogonal",
    "pareto",
    "permutation",
    "poisson",
    "rademacher",
    "rand",
    "randint",
    "randn",
    "random",
    "rayleigh",
    "seed",
    "seed_context",
    "split_key",
    "t",
    "triangular",
    "truncated_normal",
    "uniform",
    "wald",
    "weibull_min",
]
