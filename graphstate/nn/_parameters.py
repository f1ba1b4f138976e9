"""Parameters: States that an initialiser draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from graphstate.graph import ParamState
from graphstate.random import DEFAULT, RandomState

from ._errors import ShapeError

__all__ = ["Initializer", "as_dtype", "axes_of", "drawn", "parameter", "with_axes"]

Initializer = Callable[..., Array]


def with_axes(init: Initializer, axes: Sequence[str | None]) -> Initializer:
    """An initialiser of a parameter whose axes have names, which `parallel.place` goes by.

    Any layer takes it in the place of the initialiser: the parameter is `ParamState(value, axes=axes)`.

    Args:
        init: what draws the values.
        axes: a name for each axis of the parameter, or None for an axis without one.

    Raises:
        ShapeError: by the layer that is made with it: a parameter has more or fewer axes.

    Example:
        >>> import graphstate as gs
        >>> init = gs.nn.with_axes(gs.nn.initializers.lecun_normal(), ("embed", "mlp"))
        >>> gs.nn.Linear(3, 2, weight_init=init).weight.metadata["axes"]
        ('embed', 'mlp')

    Source: `flax.nnx.with_partitioning`.
    """
    return _Named(init, tuple(axes))


@dataclass(frozen=True)
class _Named:
    init: Initializer
    axes: tuple[str | None, ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Array:
        return self.init(*args, **kwargs)


def axes_of(init: Initializer) -> tuple[str | None, ...] | None:
    """The names that `with_axes` has given to the axes of a parameter; None without any."""
    return init.axes if isinstance(init, _Named) else None


def parameter(init: Initializer, shape: tuple[int, ...], dtype: DTypeLike, rng: RandomState | None) -> ParamState:
    """A parameter, drawn from `rng`, or from `random.DEFAULT` where that is None.

    Raises:
        ShapeError: `init` names more or fewer axes than `shape` has.
    """
    value, metadata = drawn(init, shape, dtype, rng)
    return ParamState(value, **metadata)


def drawn(
    init: Initializer, shape: tuple[int, ...], dtype: DTypeLike, rng: RandomState | None
) -> tuple[Array, dict[str, Any]]:
    """The value of a parameter, and its metadata.

    Raises:
        ShapeError: as in `parameter`.
    """
    axes = axes_of(init)
    if axes is not None and len(axes) != len(shape):
        raise ShapeError(
            f"`with_axes` names each axis of a parameter, but got {axes} for one of shape {shape}. Give a name, or "
            "None, for each."
        )
    draw = DEFAULT if rng is None else rng
    return init(draw.split_key(), shape, dtype), {} if axes is None else {"axes": axes}


def as_dtype(dtype: DTypeLike | None) -> Any:
    """What to compute in, as layers keep it."""
    return None if dtype is None else jnp.dtype(dtype)
