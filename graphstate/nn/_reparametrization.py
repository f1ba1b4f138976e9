"""`WeightNorm` and `SpectralNorm`: a layer whose weight is computed from parameters at each call.

The layer keeps its own weight, which is a parameter as before; what it is called with is another one.
"""

import copy
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax import Array

from graphstate.errors import StateTypeError
from graphstate.graph import BatchState, Node, ParamState, State
from graphstate.random import DEFAULT, RandomState

from ._mode import is_fitting
from ._passing import Passing
from ._promotion import along_last
from ._sizes import as_epsilon, as_size

__all__ = ["SpectralNorm", "WeightNorm"]


def _weight_of(owner: str, layer: Any, name: str) -> State:
    """The State that holds the weight.

    Raises:
        StateTypeError: the layer has none of that name.
    """
    state = getattr(layer, name, None)
    if not isinstance(layer, Node) or not isinstance(state, State):
        raise StateTypeError(
            f"{owner} normalises a State of a layer, but a {type(layer).__name__} has none called {name!r}. "
            'Say which one is meant, as `name="weight"`.'
        )
    return state


def _call_with(weight: Array, layer: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the layer, with all that it has but for another weight, returns. What it sets on itself is set on it."""
    other = copy.copy(layer)
    setattr(other, name, ParamState(weight))
    before = dict(vars(other))
    returned = other(*args, **kwargs)
    for attribute, value in vars(other).items():
        if attribute not in before or before[attribute] is not value:
            setattr(layer, attribute, value)
    return returned


_FIRST_STEPS: Final = 15
"""Steps of the power iteration before the first call, as many as PyTorch takes."""


class WeightNorm(Passing):
    """Splits a weight into direction and length: `scale * weight / |weight|`, for each output.

    Args:
        layer: whose weight it is; its last axis is that of the outputs.
        name: of the weight.

    Attributes:
        layer: with the direction as its weight.
        scale: `ParamState`, float[features], the lengths; at first those that the weight has.

    Raises:
        StateTypeError: the layer has no State of that name.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> linear, x = gs.nn.Linear(3, 2), jnp.ones(3)
        >>> bool(jnp.allclose(gs.nn.WeightNorm(linear)(x), linear(x), atol=1e-6))
        True

    Source: Salimans & Kingma 2016, arXiv:1602.07868, eq. 2.
    """

    scale: ParamState

    def __init__(self, layer: Any, *, name: str = "weight") -> None:
        self.layer = layer
        self.name = name
        self.scale = ParamState(jnp.linalg.norm(_matrix(_weight_of("WeightNorm", layer, name).value), axis=0))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer returns with the weight that direction and length give."""
        direction = _weight_of("WeightNorm", self.layer, self.name).value
        lengths = jnp.linalg.norm(_matrix(direction), axis=0)
        weight = direction * along_last(self.scale.value / lengths, direction.ndim)
        return _call_with(weight, self.layer, self.name, args, kwargs)

    def _passes_to(self) -> tuple[Any, ...]:
        return (self.layer,)


class SpectralNorm(Passing):
    """Divides a weight by its largest singular value, which power iteration follows while fitting.

    Args:
        layer: whose weight it is; its last axis is that of the outputs, all others are inputs.
        name: of the weight.
        steps: of the power iteration, in each call while fitting.
        epsilon: the least length of a vector that is normalised.
        fit: True or False to make the layer independent of `environ`.
        rng: what the first vector is drawn from; None for `random.DEFAULT`. 15 steps are taken from there.

    Attributes:
        layer: with the weight as it is.
        direction: `BatchState`, float[features], the singular vector of the outputs, as far as it is known.

    Raises:
        StateTypeError: the layer has no State of that name.
        RangeError: `steps` is not a positive whole number, or `epsilon` is negative.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> norm = gs.nn.SpectralNorm(gs.nn.Linear(3, 2, use_bias=False), steps=50)
        >>> y = norm(jnp.eye(3), fit=True)  # the weight itself
        >>> round(float(jnp.linalg.svd(y, compute_uv=False)[0]), 3)
        1.0

    Source: Miyato et al. 2018, arXiv:1802.05957, algorithm 1.
    """

    direction: BatchState

    def __init__(
        self,
        layer: Any,
        *,
        name: str = "weight",
        steps: int = 1,
        epsilon: float = 1e-12,
        fit: bool | None = None,
        rng: RandomState | None = None,
    ) -> None:
        weight = _weight_of("SpectralNorm", layer, name).value
        self.layer = layer
        self.name = name
        self.steps = as_size("SpectralNorm", "steps", steps)
        self.epsilon = as_epsilon("SpectralNorm", epsilon)
        self.fit = fit
        draw = DEFAULT if rng is None else rng
        direction = self._unit(draw.normal(size=weight.shape[-1:]).astype(weight.dtype))
        for _ in range(_FIRST_STEPS):
            direction = self._followed(_matrix(weight), direction)
        self.direction = BatchState(direction)

    def __call__(self, *args: Any, fit: bool | None = None, **kwargs: Any) -> Any:
        """What the layer returns with the divided weight.

        Args:
            args: for the layer.
            fit: True or False for this call only; while fitting, the singular vector is followed.
            kwargs: for the layer.
        """
        weight = _weight_of("SpectralNorm", self.layer, self.name).value
        matrix, outputs = jax.lax.stop_gradient(_matrix(weight)), self.direction.value
        inputs = self._unit(matrix @ outputs)
        for _ in range(self.steps if is_fitting(fit, self.fit) else 0):
            inputs = self._unit(matrix @ outputs)
            outputs = self._unit(inputs @ matrix)
        divided = weight / (inputs @ _matrix(weight) @ outputs)
        returned = _call_with(divided, self.layer, self.name, args, kwargs)
        if is_fitting(fit, self.fit):
            self.direction.value = outputs
        return returned

    def _passes_to(self) -> tuple[Any, ...]:
        return (self.layer,)

    def _followed(self, matrix: Array, outputs: Array) -> Array:
        """A step of the power iteration."""
        return self._unit(self._unit(matrix @ outputs) @ matrix)

    def _unit(self, vector: Array) -> Array:
        return vector / jnp.maximum(jnp.linalg.norm(vector), self.epsilon)


def _matrix(weight: Array) -> Array:
    """A weight as (inputs, outputs)."""
    return weight.reshape(-1, weight.shape[-1])
