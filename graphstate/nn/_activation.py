"""`PReLU`: the activation that has a parameter. Those without one are functions of `jax.nn`."""

import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import ArrayLike, DTypeLike

from graphstate.graph import Node, ParamState
from graphstate.random import RandomState

from ._errors import check_parameter, wrong_shape
from ._parameters import Initializer, parameter
from ._promotion import along_last, promote
from ._sizes import as_size

__all__ = ["PReLU"]


class PReLU(Node):
    """`x` where it is positive, `weight * x` where it is not.

    Args:
        features: size of the last axis of the input, each with a slope of its own; None for one slope for all.
        weight_init: makes the slopes.
        param_dtype: dtype of the slopes.
        rng: what the slopes are drawn from; None for `random.DEFAULT`.

    Attributes:
        weight: `ParamState`, param_dtype[features], or param_dtype[] where there is one for all.

    Raises:
        RangeError: `features` is not a positive whole number.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.PReLU()(jnp.array([-4.0, 4.0])).tolist()
        [-1.0, 4.0]

    Source: He et al. 2015, arXiv:1502.01852, eq. 1.
    """

    weight: ParamState

    def __init__(
        self,
        features: int | None = None,
        *,
        weight_init: Initializer = initializers.constant(0.25),  # noqa: B008  an initializer is a constant
        param_dtype: DTypeLike = jnp.float32,
        rng: RandomState | None = None,
    ) -> None:
        self.shape = () if features is None else (as_size("PReLU", "features", features),)
        self.weight = parameter(weight_init, self.shape, param_dtype, rng)

    def __call__(self, x: ArrayLike) -> Array:
        """The activated input.

        Args:
            x: float[...], or float[..., features].

        Returns:
            float, in the shape of `x`.

        Raises:
            ShapeError: the last axis of `x` is not `features` long.
            DtypeError: `x` holds no floats.
        """
        x, weight = jnp.asarray(x), self.weight.value
        check_parameter(self, "weight", weight, self.shape)
        if self.shape and x.shape[-1:] != self.shape:
            raise wrong_shape(self, f"activations of shape (..., {self.shape[0]})", x, "Each feature has its slope.")
        x, weight = promote(self, x, weight)
        return jnp.where(x >= 0, x, along_last(weight, x.ndim) * x)
