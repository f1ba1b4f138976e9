"""Normalisation of single examples: `LayerNorm`, `RMSNorm`, `GroupNorm`, `InstanceNorm`.

None of them keeps statistics; each example, or part of one, is normalised by its own mean and variance. They are
computed in float32 at least. `GroupNorm` and `InstanceNorm` are told how many axes are spatial, since an input of
shape (8, 5, 3) may be eight sequences or one image, and nothing here guesses.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import ArrayLike, DTypeLike

from graphstate.graph import Node, ParamState
from graphstate.random import RandomState

from ._errors import check_parameter, wrong_shape
from ._parameters import Initializer, as_dtype, parameter
from ._promotion import along_last, check_floats, promote
from ._sizes import as_divisor, as_epsilon, as_size, as_sizes

__all__ = ["GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm", "widened"]


def widened(x: Array) -> Array:
    """`x` in a dtype that statistics can be computed in: float32 where it is narrower."""
    return x.astype(jnp.float32) if x.dtype in (jnp.bfloat16, jnp.float16) else x


def _standardized(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    mean, variance = jnp.mean(x, axes, keepdims=True), jnp.var(x, axes, keepdims=True)
    standardized: Array = jax.nn.standardize(x, axes, mean, variance, epsilon)
    return standardized


class _Norm(Node):
    """What the layers of this module share: a gain and a shift along the last axes."""

    shape: tuple[int, ...]
    weight: ParamState | None
    bias: ParamState | None

    def _build(
        self,
        epsilon: float,
        use: tuple[bool, bool],
        init: tuple[Initializer, Initializer],
        dtypes: tuple[DTypeLike | None, DTypeLike],
        rng: RandomState | None,
    ) -> None:
        self.epsilon = as_epsilon(type(self).__name__, epsilon)
        self.dtype = as_dtype(dtypes[0])
        self.weight = parameter(init[0], self.shape, dtypes[1], rng) if use[0] else None
        self.bias = parameter(init[1], self.shape, dtypes[1], rng) if use[1] else None

    def __call__(self, x: ArrayLike) -> Array:
        """The normalised input.

        Args:
            x: activations, float[...], with the last axes that the class says.

        Returns:
            float, in the shape of `x`.

        Raises:
            ShapeError: the last axes of `x` are others, or the layer is a stack of layers.
            DtypeError: `x` holds no floats.
        """
        x = jnp.asarray(x)
        check_floats(self, x)
        self._check_input(x)
        parameters = {
            name: state.value for name, state in (("weight", self.weight), ("bias", self.bias)) if state is not None
        }
        for name, array in parameters.items():
            check_parameter(self, name, array, self.shape)
        dtype = promote(self, x, *parameters.values(), dtype=self.dtype)[0].dtype
        y = self._normalized(widened(x))
        if "weight" in parameters:
            y = y * along_last(parameters["weight"].astype(y.dtype), y.ndim)
        if "bias" in parameters:
            y = y + along_last(parameters["bias"].astype(y.dtype), y.ndim)
        return y.astype(dtype)

    def _check_input(self, x: Array) -> None:
        if x.shape[-len(self.shape) :] != self.shape:
            needed = f"activations of shape (..., {', '.join(map(str, self.shape))})"
            raise wrong_shape(self, needed, x, "Give the shape of the last axes when the layer is made.")

    def _normalized(self, x: Array) -> Array:
        raise AssertionError(type(self))


class LayerNorm(_Norm):
    """Gives the last axes of each example zero mean and unit variance, then scales and shifts them.

    Args:
        shape: sizes of the axes that are normalised together, the last ones; an int for the last one.
        epsilon: added to the variance, in units of `x` squared.
        use_weight: whether there is a gain; without one it is None.
        use_bias: whether there is a shift; without one it is None.
        weight_init: makes the gain.
        bias_init: makes the shift.
        dtype: dtype of the result; None for the common float dtype of input and parameters.
        param_dtype: dtype of the parameters.
        rng: what the parameters are drawn from; None for `random.DEFAULT`.

    Attributes:
        weight: `ParamState`, param_dtype[*shape], or None.
        bias: `ParamState`, param_dtype[*shape], or None.

    Raises:
        RangeError: a size is not a positive whole number, or `epsilon` is negative.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> y = gs.nn.LayerNorm(3)(jnp.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]))
        >>> y.tolist()
        [[-1.22..., 0.0, 1.22...], [-1.22..., 0.0, 1.22...]]

    Source: Ba, Kiros & Hinton 2016, arXiv:1607.06450, eq. 4.
    """

    def __init__(
        self,
        shape: int | Sequence[int],
        *,
        epsilon: float = 1e-5,
        use_weight: bool = True,
        use_bias: bool = True,
        weight_init: Initializer = initializers.ones,
        bias_init: Initializer = initializers.zeros,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rng: RandomState | None = None,
    ) -> None:
        self.shape = as_sizes("LayerNorm", "shape", shape)
        self._build(epsilon, (use_weight, use_bias), (weight_init, bias_init), (dtype, param_dtype), rng)

    def _normalized(self, x: Array) -> Array:
        return _standardized(x, tuple(range(-len(self.shape), 0)), self.epsilon)


class RMSNorm(_Norm):
    """Divides the last axes of each example by their root mean square, then scales them.

    Args:
        shape: sizes of the axes that are normalised together, the last ones; an int for the last one.
        epsilon: added to the mean square, in units of `x` squared.
        use_weight: whether there is a gain; without one it is None.
        weight_init: makes the gain.
        dtype: dtype of the result; None for the common float dtype of input and parameters.
        param_dtype: dtype of the gain.
        rng: what the gain is drawn from; None for `random.DEFAULT`.

    Attributes:
        weight: `ParamState`, param_dtype[*shape], or None.

    Raises:
        RangeError: a size is not a positive whole number, or `epsilon` is negative.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.RMSNorm(2)(jnp.array([3.0, 4.0])).tolist()
        [0.848..., 1.131...]

    Source: Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4.
    """

    def __init__(
        self,
        shape: int | Sequence[int],
        *,
        epsilon: float = 1e-6,
        use_weight: bool = True,
        weight_init: Initializer = initializers.ones,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rng: RandomState | None = None,
    ) -> None:
        self.shape = as_sizes("RMSNorm", "shape", shape)
        self._build(epsilon, (use_weight, False), (weight_init, initializers.zeros), (dtype, param_dtype), rng)

    def _normalized(self, x: Array) -> Array:
        axes = tuple(range(-len(self.shape), 0))
        return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axes, keepdims=True) + self.epsilon)


class GroupNorm(_Norm):
    """Gives groups of channels zero mean and unit variance over all places of an example, then scales each channel.

    Args:
        features: number of channels, the last axis of the input.
        groups: into how many groups of neighbours they are split; 1 normalises all of an example together.
        spatial_dims: how many axes before the channels belong to one example; 0 for vectors, 2 for images.
        epsilon: added to the variance, in units of `x` squared.
        use_weight: whether there is a gain; without one it is None.
        use_bias: whether there is a shift; without one it is None.
        weight_init: makes the gain.
        bias_init: makes the shift.
        dtype: dtype of the result; None for the common float dtype of input and parameters.
        param_dtype: dtype of the parameters.
        rng: what the parameters are drawn from; None for `random.DEFAULT`.

    Attributes:
        weight: `ParamState`, param_dtype[features], or None.
        bias: `ParamState`, param_dtype[features], or None.

    Raises:
        RangeError: a size is not a positive whole number, `groups` does not divide `features`, or `epsilon` is
            negative.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> norm = gs.nn.GroupNorm(6, 2, spatial_dims=2)
        >>> norm(jnp.ones((5, 4, 6))).shape, norm(jnp.ones((8, 5, 4, 6))).shape
        ((5, 4, 6), (8, 5, 4, 6))

    Source: Wu & He 2018, arXiv:1803.08494, eq. 7.
    """

    def __init__(
        self,
        features: int,
        groups: int,
        *,
        spatial_dims: int,
        epsilon: float = 1e-5,
        use_weight: bool = True,
        use_bias: bool = True,
        weight_init: Initializer = initializers.ones,
        bias_init: Initializer = initializers.zeros,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rng: RandomState | None = None,
    ) -> None:
        kind = type(self).__name__
        self.features = as_size(kind, "features", features)
        self.groups = as_divisor(kind, "groups", groups, features=self.features)
        self.spatial_dims = as_size(kind, "spatial_dims", spatial_dims, least=0)
        self.shape = (self.features,)
        self._build(epsilon, (use_weight, use_bias), (weight_init, bias_init), (dtype, param_dtype), rng)

    def _check_input(self, x: Array) -> None:
        if x.shape[-1:] != self.shape or x.ndim <= self.spatial_dims:
            needed = f"activations of shape (..., {self.spatial_dims} spatial axes, {self.features})"
            raise wrong_shape(self, needed, x, "Channels come last; `spatial_dims` says how many axes stand before.")

    def _normalized(self, x: Array) -> Array:
        leading, places = x.shape[: x.ndim - 1 - self.spatial_dims], x.shape[x.ndim - 1 - self.spatial_dims : -1]
        grouped = x.reshape(*leading, math.prod(places), self.groups, self.features // self.groups)
        return _standardized(grouped, (-3, -1), self.epsilon).reshape(x.shape)


class InstanceNorm(GroupNorm):
    """Gives each channel zero mean and unit variance over the places of an example, then scales it.

    Args:
        features: number of channels, the last axis of the input.
        spatial_dims: how many axes before the channels belong to one example, at least 1.
        options: those of `GroupNorm`, by name.

    Attributes:
        weight: `ParamState`, param_dtype[features], or None.
        bias: `ParamState`, param_dtype[features], or None.

    Raises:
        RangeError: a size is not a positive whole number, or `epsilon` is negative.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.InstanceNorm(3, spatial_dims=1)(jnp.ones((8, 5, 3))).shape
        (8, 5, 3)

    Source: Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022, eq. 2.
    """

    def __init__(self, features: int, *, spatial_dims: int, **options: object) -> None:
        as_size("InstanceNorm", "spatial_dims", spatial_dims)
        super().__init__(features, features, spatial_dims=spatial_dims, **options)  # type: ignore[arg-type]
