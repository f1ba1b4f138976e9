"""`Sequential`: layers one after the other."""

import operator
from collections.abc import Callable, Iterator
from typing import Any, overload

from graphstate.errors import StateTypeError

from ._passing import Passing, takes

__all__ = ["Sequential"]

Layer = Callable[..., Any]


class Sequential(Passing):
    """Calls each layer with what the one before it returned.

    Args:
        layers: Nodes that can be called, or functions.
        named: the same with names, instead.

    Attributes:
        layers: the list of layers, or the dict of those with names; it may be changed.

    Raises:
        StateTypeError: a layer cannot be called, or some layers have names and others have not.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> model = gs.nn.Sequential(gs.nn.Linear(3, 4), gs.nn.relu, gs.nn.Linear(4, 1))
        >>> model(jnp.ones((8, 3))).shape
        (8, 1)
        >>> len(model), len(model[:2]), model[0].out_features
        (3, 2, 4)

        With names, which are parts of the paths:

        >>> model = gs.nn.Sequential(hidden=gs.nn.Linear(3, 4), out=gs.nn.Linear(4, 1, use_bias=False))
        >>> list(model.states()), model["out"] is model[1]
        ([('layers', 'hidden', 'bias'), ('layers', 'hidden', 'weight'), ('layers', 'out', 'weight')], True)

    Source: `torch.nn.Sequential`.
    """

    layers: list[Layer] | dict[str, Layer]

    def __init__(self, *layers: Layer, **named: Layer) -> None:
        if layers and named:
            raise StateTypeError(
                f"Sequential needs names for all layers or for none, but got {len(layers)} without and {len(named)} "
                f"with one, {next(iter(named))!r} first. Name the others, too."
            )
        for index, layer in enumerate(layers):
            _check_callable(layer, index)
        for name, layer in named.items():
            _check_callable(layer, name)
        self.layers = named or list(layers)

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """What the last layer returns; `x` itself where there is none.

        Args:
            x: what the first layer takes.
            args: further arguments of the first layer.
            kwargs: arguments of every layer that takes one of that name, as `fit`.

        Raises:
            TypeError: no layer takes an argument of that name.
        """
        if not args and not kwargs:
            for layer in self:
                x = layer(x)
            return x
        for name in kwargs:
            if not any(takes(layer, name) for layer in self):
                raise TypeError(f"Sequential got an argument {name!r}, which none of its layers takes.")
        for layer in self:
            x = layer(x, *args, **{name: value for name, value in kwargs.items() if takes(layer, name)})
            args = ()
        return x

    def append(self, layer: Layer, name: str | None = None) -> None:
        """Puts `layer` at the end; with a name where the others have one.

        Raises:
            StateTypeError: the layer cannot be called, has no name where others have one, or one that is in use.
        """
        _check_callable(layer, len(self.layers))
        if isinstance(self.layers, list) and name is None:
            self.layers.append(layer)
        elif isinstance(self.layers, dict) and name is not None and name not in self.layers:
            self.layers[name] = layer
        else:
            others = list(self.layers) if isinstance(self.layers, dict) else f"{len(self.layers)} without one"
            raise StateTypeError(
                f"Sequential needs a name for each layer, each once, or none at all, but got {name!r} for one beside "
                f"{others}."
            )

    @overload
    def __getitem__(self, index: int | str) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> "Sequential": ...
    def __getitem__(self, index: int | str | slice) -> Any:
        """The layer at an index or of a name; for a slice, a Sequential of these same layers."""
        if isinstance(index, str):
            return (self.layers if isinstance(self.layers, dict) else dict[str, Layer]())[index]
        if not isinstance(index, slice):
            return list(self)[index]
        if isinstance(self.layers, dict):
            return Sequential(**dict(list(self.layers.items())[index]))
        return Sequential(*self.layers[index])

    def __setitem__(self, index: int | str, layer: Layer) -> None:
        """Puts `layer` in the place of the one at an index or of a name.

        Raises:
            StateTypeError: the layer cannot be called.
            IndexError: there is none at that index.
            KeyError: there is none of that name.
        """
        _check_callable(layer, index)
        if isinstance(self.layers, list):
            if isinstance(index, str):
                raise KeyError(index)
            self.layers[operator.index(index)] = layer
            return
        name = index if isinstance(index, str) else list(self.layers)[operator.index(index)]
        if name not in self.layers:
            raise KeyError(name)
        self.layers[name] = layer

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers.values() if isinstance(self.layers, dict) else self.layers)

    def _passes_to(self) -> tuple[Any, ...]:
        return tuple(self)


def _check_callable(layer: object, index: int | str) -> None:
    if not callable(layer):
        raise StateTypeError(
            f"Sequential needs layers that can be called, but layer {index} is {str(layer)[:40]!r}, "
            f"a {type(layer).__name__}. Give Nodes with `__call__`, or functions; unpack a list of layers with `*`."
        )
