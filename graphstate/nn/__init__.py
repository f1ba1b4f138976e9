"""Layers: small Nodes with parameters, written as any user would write them.

They keep a few conventions:

- Sizes come first, options by name after them: `Linear(3, 2, use_bias=False)`. What is random is drawn from
  `random.DEFAULT`, or from the `RandomState` that is given as `rng=`.
- Features and channels are the last axis, places of an image the axes before it; all axes before one example are a
  batch. Parameters are called `weight` and `bias`; the last axis of a weight is that of the outputs.
- `param_dtype` is what parameters are kept in, `dtype` what is computed in: None for the common float dtype of input
  and parameters.
- Whether a layer is fitting (`Dropout`, `BatchNorm`) is said by the call's `fit=`, else by the layer's, else by the
  setting `fit` of `environ`. Running statistics are BatchStates; what recurrent layers and caches carry are
  HiddenStates, which `reset_state` resets.
- What does not fit is an error that names the layer, and in a transform its path, before anything is written.

Activations and initialisers are those of `jax.nn`; losses are those of optax.
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
from ._adaptive_pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
)
from ._attention import MultiHeadAttention
from ._batch_norm import BatchNorm
from ._bilinear import Bilinear
from ._cache import KeyValueCache
from ._cells import GRUCell, LSTMCell, MGUCell, RNNCell
from ._convolution import Conv1d, Conv2d, Conv3d
from ._dropout import AlphaDropout, Dropout
from ._einsum import Einsum
from ._embedding import Embedding
from ._ensemble import Ensemble
from ._errors import DtypeError, RangeError, ShapeError
from ._identity import Identity
from ._linear import Linear
from ._lora import LoRA, LoRAState
from ._normalization import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from ._parameters import with_axes
from ._pooling import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from ._recurrence import RNN, Bidirectional
from ._reparametrization import SpectralNorm, WeightNorm
from ._repeat import Repeat
from ._reset import reset_state
from ._rotary import RotaryEmbedding
from ._sequential import Sequential
from ._transposed_convolution import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ._tuning import add_lora, merge_lora

__all__ = [
    "RNN",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AlphaDropout",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm",
    "Bidirectional",
    "Bilinear",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "DtypeError",
    "Einsum",
    "Embedding",
    "Ensemble",
    "GRUCell",
    "GroupNorm",
    "Identity",
    "InstanceNorm",
    "KeyValueCache",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "LoRA",
    "LoRAState",
    "MGUCell",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MultiHeadAttention",
    "PReLU",
    "RMSNorm",
    "RNNCell",
    "RangeError",
    "Repeat",
    "RotaryEmbedding",
    "Sequential",
    "ShapeError",
    "SpectralNorm",
    "WeightNorm",
    "add_lora",
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
    "merge_lora",
    "mish",
    "relu",
    "relu6",
    "reset_state",
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
    "with_axes",
]
