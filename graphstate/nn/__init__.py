"""Layers: small Nodes with parameters, written as any user would write them.

Sizes come first. What is random is drawn from `random.DEFAULT`, or from the `RandomState` that is given as `rng=`.
Activations and initialisers are those of `jax.nn`.
"""

from jax.nn import (
    celu,
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    identity,
    initializers,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_sign,
    softmax,
    softplus,
    sparse_plus,
    sparse_sigmoid,
    squareplus,
    standardize,
    swish,
    tanh,
)

from ._activation import PReLU
from ._dropout import Dropout
from ._embedding import Embedding
from ._errors import DtypeError, RangeError, ShapeError
from ._identity import Identity
from ._linear import Linear
from ._normalization import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from ._sequential import Sequential

__all__ = [
    "Dropout",
    "DtypeError",
    "Embedding",
    "GroupNorm",
    "Identity",
    "InstanceNorm",
    "LayerNorm",
    "Linear",
    "PReLU",
    "RMSNorm",
    "RangeError",
    "Sequential",
    "ShapeError",
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "initializers",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softmax",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "standardize",
    "swish",
    "tanh",
]
