"""Makes references.npz: what PyTorch gives for some weights, forward and gradient.

    pip install torch numpy
    python tests/nn/references/make.py

Weights and inputs are in the layout of graphstate and converted here by differentiable operations, so that gradients
come in that layout, too. They are random float32; PyTorch computes in float64. Each case stores, under `name/`: the
input `x`, the parameters `param/path`, the output `y`, a `cotangent`, and the gradients of `sum(y * cotangent)`:
`grad/path`, and `grad_x` where the input is a float.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  the name that PyTorch gives it

Parameters = dict[str, Tensor]
Function = Callable[[Tensor, Parameters], Tensor]
CASES: dict[str, tuple[tuple[int, ...], dict[str, tuple[int, ...]], Function]] = {}


def case(name: str, x: tuple[int, ...], **parameters: tuple[int, ...]) -> Callable[[Function], Function]:
    """Declares a case by the shapes of its input and parameters; `__` in a name stands for `/`."""

    def declare(function: Function) -> Function:
        CASES[name] = (x, {path.replace("__", "/"): shape for path, shape in parameters.items()}, function)
        return function

    return declare


def first(x: Tensor) -> Tensor:
    """Channels last to channels first, for one leading axis."""
    return x.movedim(-1, 1)


def last(x: Tensor) -> Tensor:
    """Channels first to channels last."""
    return x.movedim(1, -1)


# Simple layers


@case("PReLU", (3, 4), weight=(4,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return F.prelu(x, p["weight"])


@case("Linear", (3, 4), weight=(4, 2), bias=(2,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return F.linear(x, p["weight"].T, p["bias"])


@case("attend", (3, 4), weight=(5, 4))
def _(x: Tensor, p: Parameters) -> Tensor:
    return F.linear(x, p["weight"])


@case("Embedding", (2, 3, 4), weight=(5, 4))
def _(x: Tensor, p: Parameters) -> Tensor:
    return F.embedding(torch.tensor([[0, 4, 0], [1, 1, 0]]), p["weight"]) * x


@case("LoRA", (3, 4), linear__weight=(4, 5), linear__bias=(5,), down=(4, 2), up=(2, 5))
def _(x: Tensor, p: Parameters) -> Tensor:
    return F.linear(x, p["linear/weight"].T, p["linear/bias"]) + 3 / 2 * F.linear(F.linear(x, p["down"].T), p["up"].T)


# Normalisation


@case("LayerNorm", (2, 3, 4), weight=(3, 4), bias=(3, 4))
def _(x: Tensor, p: Parameters) -> Tensor:
    return F.layer_norm(x, (3, 4), p["weight"], p["bias"], 1e-5)


@case("RMSNorm", (3, 5), weight=(5,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return F.rms_norm(x, (5,), p["weight"], 1e-6)


@case("GroupNorm", (2, 3, 2, 6), weight=(6,), bias=(6,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return last(F.group_norm(first(x), 3, p["weight"], p["bias"], 1e-5))


@case("InstanceNorm", (2, 5, 3), weight=(3,), bias=(3,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return last(F.instance_norm(first(x), weight=p["weight"], bias=p["bias"], eps=1e-5))


@case("BatchNorm", (4, 2, 3), weight=(3,), bias=(3,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return last(F.batch_norm(first(x), None, None, p["weight"], p["bias"], training=True, eps=1e-5))


# Products


@case("Bilinear", (2, 3 + 4), weight=(3, 4, 2), bias=(2,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return F.bilinear(x[..., :3], x[..., 3:], p["weight"].movedim(-1, 0), p["bias"])


@case("Einsum", (2, 3, 4), weight=(4, 2, 3), bias=(2, 3))
def _(x: Tensor, p: Parameters) -> Tensor:
    return torch.einsum("btd,dhk->bthk", x, p["weight"]) + p["bias"]


# Convolutions


def kernel(weight: Tensor) -> Tensor:
    """(*places, in / groups, out) to (out, in / groups, *places)."""
    return weight.movedim(-1, 0).movedim(-1, 1)


def transposed_kernel(weight: Tensor, groups: int = 1) -> Tensor:
    """(*places, in / groups, out) to (in, out / groups, *places)."""
    return torch.cat([part.movedim(-2, 0).movedim(-1, 1) for part in weight.chunk(groups, -1)])


@case("Conv1d", (2, 6, 3), weight=(3, 3, 2), bias=(2,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return last(F.conv1d(first(x), kernel(p["weight"]), p["bias"], padding="same"))


@case("Conv2d", (2, 5, 6, 4), weight=(3, 2, 2, 4), bias=(4,))
def _(x: Tensor, p: Parameters) -> Tensor:
    weight = kernel(p["weight"])
    return last(F.conv2d(first(x), weight, p["bias"], stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2))


@case("Conv3d", (1, 3, 4, 3, 2), weight=(2, 2, 2, 2, 2), bias=(2,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return last(F.conv3d(first(x), kernel(p["weight"]), p["bias"], stride=2, padding=1))


@case("Conv2d, reflect", (1, 4, 5, 2), weight=(3, 3, 2, 2), bias=(2,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return last(F.conv2d(F.pad(first(x), (2, 2, 1, 1), "reflect"), kernel(p["weight"]), p["bias"]))


@case("Conv2d, replicate", (1, 4, 5, 2), weight=(3, 3, 2, 2), bias=(2,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return last(F.conv2d(F.pad(first(x), (2, 2, 1, 1), "replicate"), kernel(p["weight"]), p["bias"]))


@case("Conv2d, circular", (1, 4, 5, 2), weight=(3, 3, 2, 2), bias=(2,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return last(F.conv2d(F.pad(first(x), (2, 2, 1, 1), "circular"), kernel(p["weight"]), p["bias"]))


@case("ConvTranspose1d", (2, 4, 4), weight=(3, 2, 6), bias=(6,))
def _(x: Tensor, p: Parameters) -> Tensor:
    weight = transposed_kernel(p["weight"], 2)
    options = {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2, "dilation": 2}
    return last(F.conv_transpose1d(first(x), weight, p["bias"], **options))


@case("ConvTranspose2d", (2, 3, 2, 3), weight=(3, 2, 3, 2), bias=(2,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return last(F.conv_transpose2d(first(x), transposed_kernel(p["weight"]), p["bias"], stride=(2, 1), padding=(1, 0)))


@case("ConvTranspose3d", (1, 2, 2, 2, 2), weight=(2, 2, 2, 2, 2), bias=(2,))
def _(x: Tensor, p: Parameters) -> Tensor:
    return last(F.conv_transpose3d(first(x), transposed_kernel(p["weight"]), p["bias"], stride=2))


# Pools


@case("MaxPool1d", (2, 7, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.max_pool1d(first(x), 3, stride=2, padding=1))


@case("MaxPool2d", (2, 4, 5, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.max_pool2d(first(x), (2, 3), stride=(2, 1)))


@case("MaxPool3d", (1, 4, 3, 4, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.max_pool3d(first(x), 2, stride=(2, 1, 2)))


@case("AvgPool1d", (2, 7, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.avg_pool1d(first(x), 3, stride=2, padding=1))


@case("AvgPool2d", (2, 4, 5, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.avg_pool2d(first(x), 2, stride=1, padding=1))


@case("AvgPool3d", (1, 4, 2, 4, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.avg_pool3d(first(x), 2))


@case("AdaptiveMaxPool1d", (2, 7, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.adaptive_max_pool1d(first(x), 3))


@case("AdaptiveMaxPool2d", (2, 5, 7, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.adaptive_max_pool2d(first(x), (2, 3)))


@case("AdaptiveMaxPool3d", (1, 3, 4, 2, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.adaptive_max_pool3d(first(x), 2))


@case("AdaptiveAvgPool1d", (2, 7, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.adaptive_avg_pool1d(first(x), 3))


@case("AdaptiveAvgPool2d", (2, 5, 7, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.adaptive_avg_pool2d(first(x), (2, 3)))


@case("AdaptiveAvgPool3d", (1, 3, 4, 2, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.adaptive_avg_pool3d(first(x), 2))


# Recurrences


def recurrent(kind: type[torch.nn.RNNBase], x: Tensor, p: Parameters, prefix: str = "cell") -> Tensor:
    """One layer of PyTorch along time, which has a second bias that is zero where graphstate has one."""
    weights = {
        "weight_ih_l0": p[f"{prefix}/from_input/weight"].T,
        "weight_hh_l0": p[f"{prefix}/from_hidden/weight"].T,
        "bias_ih_l0": p[f"{prefix}/from_input/bias"],
    }
    weights["bias_hh_l0"] = p.get(f"{prefix}/from_hidden/bias", torch.zeros_like(weights["bias_ih_l0"]))
    layer = kind(x.shape[-1], weights["weight_hh_l0"].shape[1], batch_first=True).double()
    return torch.func.functional_call(layer, weights, (x,))[0]


@case("RNN", (2, 4, 3), cell__from_input__weight=(3, 4), cell__from_input__bias=(4,), cell__from_hidden__weight=(4, 4))
def _(x: Tensor, p: Parameters) -> Tensor:
    return recurrent(torch.nn.RNN, x, p)


@case("LSTM", (2, 4, 3), cell__from_input__weight=(3, 8), cell__from_input__bias=(8,), cell__from_hidden__weight=(2, 8))
def _(x: Tensor, p: Parameters) -> Tensor:
    return recurrent(torch.nn.LSTM, x, p)


@case(
    "GRU",
    (2, 4, 3),
    cell__from_input__weight=(3, 6),
    cell__from_input__bias=(6,),
    cell__from_hidden__weight=(2, 6),
    cell__from_hidden__bias=(6,),
)
def _(x: Tensor, p: Parameters) -> Tensor:
    return recurrent(torch.nn.GRU, x, p)


@case(
    "MGU",
    (2, 4, 3),
    cell__from_input__weight=(3, 4),
    cell__from_input__bias=(4,),
    cell__from_hidden__weight=(2, 4),
    cell__from_hidden__bias=(4,),
)
def _(x: Tensor, p: Parameters) -> Tensor:
    hidden, outputs = torch.zeros(2, 2, dtype=x.dtype), []
    for time in range(4):
        f, n = F.linear(x[:, time], p["cell/from_input/weight"].T, p["cell/from_input/bias"]).chunk(2, -1)
        hf, hn = F.linear(hidden, p["cell/from_hidden/weight"].T, p["cell/from_hidden/bias"]).chunk(2, -1)
        gate = torch.sigmoid(f + hf)
        hidden = (1 - gate) * torch.tanh(n + gate * hn) + gate * hidden
        outputs.append(hidden)
    return torch.stack(outputs, 1)


@case(
    "Bidirectional",
    (2, 4, 3),
    forward__cell__from_input__weight=(3, 8),
    forward__cell__from_input__bias=(8,),
    forward__cell__from_hidden__weight=(2, 8),
    backward__cell__from_input__weight=(3, 8),
    backward__cell__from_input__bias=(8,),
    backward__cell__from_hidden__weight=(2, 8),
)
def _(x: Tensor, p: Parameters) -> Tensor:
    layer = torch.nn.LSTM(3, 2, batch_first=True, bidirectional=True).double()
    weights = {}
    for prefix, suffix in (("forward", ""), ("backward", "_reverse")):
        bias = p[f"{prefix}/cell/from_input/bias"]
        weights[f"weight_ih_l0{suffix}"] = p[f"{prefix}/cell/from_input/weight"].T
        weights[f"weight_hh_l0{suffix}"] = p[f"{prefix}/cell/from_hidden/weight"].T
        weights |= {f"bias_ih_l0{suffix}": bias, f"bias_hh_l0{suffix}": torch.zeros_like(bias)}
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([4, 2]), batch_first=True)
    output = torch.func.functional_call(layer, weights, (packed,))[0]
    return torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True)[0]


# Attention

LINEARS = ("query", "key", "value", "out")
PARTS = {"query": slice(3), "key": slice(3, None), "value": slice(3, None)}


def heads_of(x: Tensor, p: Parameters, name: str, features: int) -> Tensor:
    """One projection as (batch, heads, time, features)."""
    return F.linear(x, p[f"{name}/weight"].T, p[f"{name}/bias"]).unflatten(-1, (-1, features)).movedim(-2, 1)


def joined(read: Tensor, p: Parameters) -> Tensor:
    """The output of all heads, (batch, heads, time, features)."""
    return F.linear(read.movedim(1, -2).flatten(-2), p["out/weight"].T, p["out/bias"])


def attention_parameters(features: int, inner: int, shared: int) -> dict[str, tuple[int, ...]]:
    """Shapes for `inner` features of all queries, and `shared` of all keys."""
    sizes = {
        "query": (features, inner),
        "key": (features, shared),
        "value": (features, shared),
        "out": (inner, features),
    }
    return {f"{name}__weight": size for name, size in sizes.items()} | {
        f"{name}__bias": size[1:] for name, size in sizes.items()
    }


@case("attention", (2, 3, 4), **attention_parameters(4, 4, 4))
def _(x: Tensor, p: Parameters) -> Tensor:
    layer = torch.nn.MultiheadAttention(4, 2, batch_first=True).double()
    weights = {
        "in_proj_weight": torch.cat([p[f"{name}/weight"].T for name in LINEARS[:3]]),
        "in_proj_bias": torch.cat([p[f"{name}/bias"] for name in LINEARS[:3]]),
        "out_proj.weight": p["out/weight"].T,
        "out_proj.bias": p["out/bias"],
    }
    mask = torch.ones(3, 3, dtype=torch.bool).triu(1)
    return torch.func.functional_call(layer, weights, (x, x, x), {"attn_mask": mask, "need_weights": False})[0]


@case("attention to a memory", (2, 3 + 5, 4), **attention_parameters(4, 6, 6))
def _(x: Tensor, p: Parameters) -> Tensor:
    mask = torch.arange(2 * 3 * 5).reshape(2, 1, 3, 5) % 3 != 0
    query, key, value = (heads_of(x[:, part], p, name, 3) for name, part in PARTS.items())
    return joined(F.scaled_dot_product_attention(query, key, value, attn_mask=mask), p)


@case("attention in groups", (2, 3, 4), **attention_parameters(4, 8, 4))
def _(x: Tensor, p: Parameters) -> Tensor:
    query, key, value = (heads_of(x, p, name, 2) for name in LINEARS[:3])
    return joined(F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True), p)


@case("RotaryEmbedding", (2, 3, 2, 4))
def _(x: Tensor, _: Parameters) -> Tensor:
    angles = torch.arange(3)[:, None, None] * 100.0 ** (-torch.arange(2) / 2)
    turned = torch.complex(x[..., :2], x[..., 2:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], -1)


# Weights that are computed


@case("WeightNorm", (2, 5, 3), scale=(2,), layer__weight=(2, 3, 2), layer__bias=(2,))
def _(x: Tensor, p: Parameters) -> Tensor:
    direction = kernel(p["layer/weight"])
    weight = torch._weight_norm(direction, p["scale"][:, None, None], 0)
    return last(F.conv1d(first(x), weight, p["layer/bias"]))


@case("SpectralNorm", (3, 4), layer__weight=(4, 2), layer__bias=(2,))
def _(x: Tensor, p: Parameters) -> Tensor:
    # Not that of `parametrizations`, which makes half a step more than the paper.
    layer = torch.nn.utils.spectral_norm(torch.nn.Linear(4, 2).double())
    layer.weight_u.copy_(torch.tensor([0.6, 0.8]))
    weights = {"weight_orig": p["layer/weight"].T, "bias": p["layer/bias"]}
    return torch.func.functional_call(layer, weights, (x,))


# Making the file


def arrays_of(name: str) -> dict[str, np.ndarray]:
    """What is stored of a case."""
    shape, shapes, function = CASES[name]
    draw = np.random.default_rng(list(name.encode()))

    def leaf(shape: tuple[int, ...]) -> Tensor:
        return torch.tensor(draw.normal(size=shape).astype(np.float32)).double().requires_grad_()

    x, parameters = leaf(shape), {path: leaf(shape) for path, shape in shapes.items()}
    y = function(x, parameters)
    cotangent = leaf(tuple(y.shape))
    (y * cotangent).sum().backward()
    tensors = {"x": x, "y": y, "cotangent": cotangent, "grad_x": x.grad}
    tensors |= {f"param/{path}": value for path, value in parameters.items()}
    tensors |= {f"grad/{path}": value.grad for path, value in parameters.items()}
    return {f"{name}/{key}": value.detach().numpy().astype(np.float32) for key, value in tensors.items()}


if __name__ == "__main__":
    torch.manual_seed(0)
    stored: dict[str, np.ndarray] = {}
    for name in CASES:
        stored |= arrays_of(name)
    # One array and an index: each array of an npz file has a header that is longer than most of these.
    index = json.dumps({key: list(array.shape) for key, array in stored.items()})
    values = np.concatenate([array.ravel() for array in stored.values()])
    np.savez_compressed(Path(__file__).with_name("references.npz"), index=index, values=values)
