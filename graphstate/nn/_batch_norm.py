"""`BatchNorm`: normalisation by the statistics of a batch, and running ones for when there is none."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import ArrayLike, DTypeLike

from graphstate.errors import AxisError, BatchAxisError
from graphstate.graph import BatchState, Node, ParamState
from graphstate.random import RandomState

from ._errors import check_parameter, name_of, wrong_shape
from ._mode import is_fitting
from ._normalization import widened
from ._parameters import Initializer, as_dtype, parameter
from ._promotion import along_last, check_floats, promote
from ._sizes import as_epsilon, as_rate, as_size

__all__ = ["BatchNorm"]


class BatchNorm(Node):
    """Gives each feature zero mean and unit variance over a batch, then scales and shifts it.

    While fitting, the batch is all axes but the last, and, with `axis_name`, the lanes of the map of that name. Its
    mean and variance (the biased one) are followed by running ones, which take their place when not fitting. Whether
    it fits is said by the first of these that is not None: the call's `fit`, the layer's, the setting of `environ`.

    A map over examples that shares the layer needs `axis_name`: without it the running mean would be another one in
    each lane, which is a `BatchAxisError`. The members of an ensemble have statistics of their own.

    Args:
        features: size of the last axis of the input.
        momentum: how much of the running statistics a batch leaves, from 0 to 1.
        epsilon: added to the variance, in units of `x` squared.
        use_weight: whether there is a gain; without one it is None.
        use_bias: whether there is a shift; without one it is None.
        axis_name: the name or names of the map axes whose lanes are the batch, too.
        fit: True or False to make the layer independent of `environ`.
        weight_init: makes the gain.
        bias_init: makes the shift.
        dtype: dtype of the result; None for the common float dtype of input and parameters.
        param_dtype: dtype of the parameters; statistics are float32 at least.
        rng: what the parameters are drawn from; None for `random.DEFAULT`.

    Attributes:
        weight: `ParamState`, param_dtype[features], or None.
        bias: `ParamState`, param_dtype[features], or None.
        running_mean: `BatchState`, float[features].
        running_variance: `BatchState`, float[features].

    Raises:
        RangeError: `features` is not a positive whole number, `momentum` is not from 0 to 1, or `epsilon` is
            negative.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> norm, x = gs.nn.BatchNorm(2, momentum=0.5), jnp.array([[0.0, 1.0], [4.0, 3.0]])
        >>> norm(x, fit=True).round(3).tolist(), norm.running_mean.value.tolist()
        ([[-1.0, -1.0], [1.0, 1.0]], [1.0, 1.0])

        In a map over examples:

        >>> norm = gs.nn.BatchNorm(2, momentum=0.5, axis_name="batch")
        >>> y = gs.vmap(lambda x: norm(x, fit=True), axis_name="batch")(x)
        >>> y.round(3).tolist(), norm.running_mean.value.tolist()
        ([[-1.0, -1.0], [1.0, 1.0]], [1.0, 1.0])

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
    """

    weight: ParamState | None
    bias: ParamState | None

    def __init__(
        self,
        features: int,
        *,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        use_weight: bool = True,
        use_bias: bool = True,
        axis_name: str | Sequence[str] | None = None,
        fit: bool | None = None,
        weight_init: Initializer = initializers.ones,
        bias_init: Initializer = initializers.zeros,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rng: RandomState | None = None,
    ) -> None:
        self.features = as_size("BatchNorm", "features", features)
        self.momentum = as_rate("BatchNorm", "momentum", momentum, "the part of the running statistics that stays")
        self.epsilon = as_epsilon("BatchNorm", epsilon)
        self.axis_name = axis_name if axis_name is None or isinstance(axis_name, str) else tuple(axis_name)
        self.fit = fit
        self.dtype = as_dtype(dtype)
        shape = (self.features,)
        self.weight = parameter(weight_init, shape, param_dtype, rng) if use_weight else None
        self.bias = parameter(bias_init, shape, param_dtype, rng) if use_bias else None
        self.running_mean = BatchState(widened(jnp.zeros(shape, param_dtype)))
        self.running_variance = BatchState(widened(jnp.ones(shape, param_dtype)))

    def __call__(self, x: ArrayLike, *, fit: bool | None = None) -> Array:
        """The normalised input; while fitting, the running statistics follow.

        Args:
            x: activations, float[..., features].
            fit: True or False for this call only.

        Returns:
            float[..., features].

        Raises:
            ShapeError: the last axis of `x` is not `features` long, or the layer is a stack of layers.
            DtypeError: `x` holds no floats.
            BatchAxisError: while fitting, a feature has one value or none, or the running mean would be another one in
                each lane of a map.
            AxisError: while fitting, there is no map called `axis_name`.
        """
        x = jnp.asarray(x)
        self._check_input(x)
        parameters = [state.value for state in (self.weight, self.bias) if state is not None]
        dtype = promote(self, x, *parameters, dtype=self.dtype)[0].dtype
        wide = widened(x)
        mean, variance = self._follow(wide) if is_fitting(fit, self.fit) else self._running()
        mean, variance = (along_last(each.astype(wide.dtype), x.ndim) for each in (mean, variance))
        y = jax.nn.standardize(wide, -1, mean, variance, self.epsilon)
        if self.weight is not None:
            y = y * along_last(self.weight.value.astype(y.dtype), x.ndim)
        if self.bias is not None:
            y = y + along_last(self.bias.value.astype(y.dtype), x.ndim)
        return y.astype(dtype)

    def _follow(self, x: Array) -> tuple[Array, Array]:
        """The statistics of a batch, once the running ones have followed."""
        count = math.prod(x.shape[:-1]) * self._lanes()
        if count < 2:
            raise BatchAxisError(
                f"{name_of(self)} needs a batch while fitting, but got {('no', 'one')[count]} value a feature, "
                f"{x.shape}, which `running_mean` would take for the mean. Call it with leading axes; in a map over "
                "examples name its axis, `BatchNorm(..., axis_name='batch')` and `vmap(..., axis_name='batch')`."
            )
        axes = tuple(range(x.ndim - 1))
        mean = self._over_lanes(jnp.mean(x, axes))
        variance = self._over_lanes(jnp.mean(jnp.square(x - along_last(mean, x.ndim)), axes))
        for state, value in ((self.running_mean, mean), (self.running_variance, variance)):
            kept = jax.lax.stop_gradient(value).astype(state.value.dtype)
            state.value = self.momentum * state.value + (1 - self.momentum) * kept
        return mean, variance

    def _lanes(self) -> int:
        """How many lanes are one batch."""
        try:
            return 1 if self.axis_name is None else int(jax.lax.psum(1, self.axis_name))
        except NameError as error:
            raise AxisError(
                f"{name_of(self)} takes its batch from the lanes of a map called {self.axis_name!r}, but there is none "
                "here. Give the map its name, `vmap(..., axis_name=...)`, or the layer none, and it a whole batch."
            ) from error

    def _over_lanes(self, statistic: Array) -> Array:
        return statistic if self.axis_name is None else jax.lax.pmean(statistic, self.axis_name)

    def _running(self) -> tuple[Array, Array]:
        return self.running_mean.value, self.running_variance.value

    def _check_input(self, x: Array) -> None:
        check_floats(self, x)
        for name in ("weight", "bias", "running_mean", "running_variance"):
            state = getattr(self, name)
            if state is not None:
                check_parameter(self, name, state.value, (self.features,))
        if x.shape[-1:] != (self.features,):
            needed = f"activations of shape (..., {self.features})"
            raise wrong_shape(self, needed, x, "Move the features to the last axis; all others are the batch.")
