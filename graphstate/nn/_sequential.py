"""`Sequential`: layers one after the other."""

from collections.abc import Callable, Iterator
from typing import Any, overload

from graphstate.errors import StateTypeError
from graphstate.graph import Node

__all__ = ["Sequential"]

Layer = Callable[..., Any]


class Sequential(Node):
    """Calls each layer with what the one before it returned.

    Args:
        layers: Nodes that can be called, or functions.

    Attributes:
        layers: the list of layers; it may be changed.

    Raises:
        StateTypeError: a layer cannot be called.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> model = gs.nn.Sequential(gs.nn.Linear(3, 4), gs.nn.relu, gs.nn.Linear(4, 1))
        >>> model(jnp.ones((8, 3))).shape
        (8, 1)
        >>> len(model), len(model[:2]), model[0].out_features
        (3, 2, 4)
    """

    def __init__(self, *layers: Layer) -> None:
        for index, layer in enumerate(layers):
            _check_callable(layer, index)
        self.layers = list(layers)

    def __call__(self, x: Any) -> Any:
        """What the last layer returns; `x` itself where there is none."""
        for layer in self.layers:
            x = layer(x)
        return x

    def append(self, layer: Layer) -> None:
        """Puts `layer` at the end."""
        _check_callable(layer, len(self.layers))
        self.layers.append(layer)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> "Sequential": ...
    def __getitem__(self, index: int | slice) -> Any:
        """The layer at an index; for a slice, a Sequential of these same layers."""
        return Sequential(*self.layers[index]) if isinstance(index, slice) else self.layers[index]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)


def _check_callable(layer: object, index: int) -> None:
    if not callable(layer):
        raise StateTypeError(
            f"Sequential needs layers that can be called, but layer {index} is {str(layer)[:40]!r}, "
            f"a {type(layer).__name__}. Give Nodes with `__call__`, or functions; unpack a list of layers with `*`."
        )
