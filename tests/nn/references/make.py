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


@case("AvgPool2d", (2, 4, 5, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.avg_pool2d(first(x), 2, stride=1, padding=1))


@case("AvgPool3d", (1, 4, 2, 4, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.avg_pool3d(first(x), 2))


@case("AdaptiveMaxPool1d", (2, 7, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.adaptive_max_pool1d(first(x), 3))


@case("AdaptiveAvgPool2d", (2, 5, 7, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.adaptive_avg_pool2d(first(x), (2, 3)))


@case("AdaptiveAvgPool3d", (1, 3, 4, 2, 2))
def _(x: Tensor, _: Parameters) -> Tensor:
    return last(F.adaptive_avg_pool3d(first(x), 2))


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
