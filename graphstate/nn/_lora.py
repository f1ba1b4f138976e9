"""`LoRA`: a linear layer that is tuned by a product of two thin matrices."""

import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import ArrayLike

from graphstate.errors import StateTypeError
from graphstate.graph import Node, ParamState, clone
from graphstate.random import RandomState

from ._errors import check_parameter
from ._linear import Linear
from ._parameters import Initializer, drawn
from ._promotion import promote
from ._sizes import as_size

__all__ = ["LoRA", "LoRAState"]


class LoRAState(ParamState):
    """A parameter of a `LoRA`: what `grad(..., wrt=LoRAState)` and `Optimizer(..., wrt=LoRAState)` select."""

    __slots__ = ()


class LoRA(Node):
    """Adds a product of two thin matrices to the map of a `Linear`: `linear(x) + alpha / rank * x @ down @ up`.

    It takes the place of the layer, `model.layers[0] = LoRA(model.layers[0], 4)`, and at first changes nothing.
    `add_lora(model, 4)` does so for all of a model.

    Args:
        linear: what is tuned; its parameters stay parameters, choose by `wrt`.
        rank: the number of features between the two matrices.
        alpha: the scale of the product is `alpha / rank`; None for `rank`.
        down_init: makes the first matrix. The second one is zero.
        rng: what the first matrix is drawn from; None for `random.DEFAULT`.

    Attributes:
        linear: the layer.
        down: `LoRAState`, float[in_features, rank], of the dtype of the layer's weight.
        up: `LoRAState`, float[rank, out_features].

    Raises:
        StateTypeError: `linear` is no `Linear`.
        RangeError: `rank` is not a positive whole number.
        ShapeError: `linear` is a stack of layers.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> model = gs.nn.Sequential(gs.nn.Linear(3, 4), gs.nn.relu, gs.nn.Linear(4, 1))
        >>> model.layers[0] = gs.nn.LoRA(model.layers[0], 2)
        >>> list(gs.grad(lambda model: model(jnp.ones(3)).sum(), wrt=gs.nn.LoRAState)(model))
        [('layers', 0, 'down'), ('layers', 0, 'up')]

    Source: Hu et al. 2021, arXiv:2106.09685, eq. 3.
    """

    down: LoRAState
    up: LoRAState

    def __init__(
        self,
        linear: Linear,
        rank: int,
        *,
        alpha: float | None = None,
        down_init: Initializer = initializers.he_uniform(),  # noqa: B008  an initializer is a constant
        rng: RandomState | None = None,
    ) -> None:
        if not isinstance(linear, Linear):
            raise StateTypeError(f"LoRA tunes a `Linear`, but got a {type(linear).__name__}. Give the layer itself.")
        check_parameter(linear, "weight", linear.weight.value, (linear.in_features, linear.out_features))
        self.linear = linear
        self.rank = as_size("LoRA", "rank", rank)
        self.scale = 1.0 if alpha is None else float(alpha) / self.rank
        dtype = linear.weight.value.dtype
        value, metadata = drawn(down_init, (linear.in_features, self.rank), dtype, rng)
        self.down = LoRAState(value, **metadata)
        self.up = LoRAState(jnp.zeros((self.rank, linear.out_features), dtype))

    @property
    def in_features(self) -> int:
        """That of the layer."""
        return self.linear.in_features

    @property
    def out_features(self) -> int:
        """That of the layer."""
        return self.linear.out_features

    def __call__(self, x: ArrayLike) -> Array:
        """The mapped input.

        Args:
            x: float[..., in_features].

        Returns:
            float[..., out_features].

        Raises:
            ShapeError: as `Linear` does.
            DtypeError: as `Linear` does.
        """
        y = self.linear(x)
        dtype = self.linear.dtype or y.dtype
        x, down, up = promote(self, jnp.asarray(x), self.down.value, self.up.value, dtype=dtype)
        return y + self.scale * (x @ down @ up)

    def merged(self) -> Linear:
        """A `Linear` of its own that does the same, with the product added to its weight."""
        copied: Linear = clone(self.linear)
        copied.weight.value += self.scale * (self.down.value @ self.up.value)
        return copied
