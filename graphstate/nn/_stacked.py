"""`Stacked`: many layers of one kind that are one Node, whose States have a leading axis for them."""

import copy
import operator
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self, overload

import jax
import jax.numpy as jnp
import numpy as np

from graphstate.errors import AliasError, StateTypeError, StructureError, some_of
from graphstate.graph import Node, diff, state, take, update
from graphstate.transform import vmap

from ._passing import Passing
from ._reset import reset_state
from ._sizes import as_size

__all__ = ["Stacked"]


class Stacked(Passing):
    """What `Repeat` and `Ensemble` share: layers that a mapped constructor makes, taken out and put back by index.

    A layer that is taken out is a copy, as an item of an array is: what is written to it reaches the stack once it is
    put back, `stack[i] = layer`.
    """

    n: int
    _sliced: ClassVar[str]
    """The attribute that is the stacked Node, of which each call is given a slice."""

    def _make(self, make: Callable[[], Any], n: int) -> Any:
        kind = type(self).__name__
        self.n = as_size(kind, "n", n)
        if isinstance(make, Node):
            raise StateTypeError(
                f"{kind} takes a function that makes a layer, since each is drawn by itself, but got a "
                f"{type(make).__name__}. Write `{kind}(lambda: {type(make).__name__}(...), n)`."
            )
        try:
            made = vmap(make, axis_size=self.n)()
        except AliasError as error:
            raise AliasError(
                f"{error}\n{kind} has no `out_axes`: give what all {self._sliced} share to each call, "
                f"`{kind.lower()}(x, shared)`."
            ) from error
        if not callable(made):
            raise StateTypeError(
                f"{kind} takes a function that makes a layer, which can be called, but it has returned a "
                f"{type(made).__name__}. Give it a `__call__`, or use `graphstate.vmap` itself."
            )
        return made

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Any:
        """A copy of the layer at an index; for a slice, a stack of copies.

        Args:
            index: negative ones count from the end.

        Raises:
            IndexError: there is none at that index.
        """
        place = range(self.n)[index]
        if isinstance(place, int):
            return take(self._stack(), place)
        part = copy.copy(self)
        part.n = len(place)
        setattr(part, self._sliced, take(self._stack(), np.asarray(place, int)))
        return part

    def __setitem__(self, index: int, layer: Any) -> None:
        """Puts the values of a layer in the place of those at an index.

        Args:
            index: negative ones count from the end.
            layer: of the same structure, shapes and dtypes as those of the stack; it stays a layer of its own.

        Raises:
            IndexError: there is none at that index.
            StructureError: the layer differs from those of the stack; nothing is changed.
        """
        place = range(self.n)[operator.index(index)]
        differences = diff(take(self._stack(), place), layer)
        if differences:
            raise StructureError(
                f"{type(self).__name__} puts a layer in the place of another like it, but these differ:\n"
                f"{some_of(differences)}\nNothing was changed. Take the layer out of the stack, write, put it back.",
                differences,
            )

        def put(whole: Any, one: Any) -> Any:
            return jax.tree.map(lambda all_, each: jnp.asarray(all_).at[place].set(each), whole, one)

        update(self._stack(), state(self._stack()).map(put, state(layer)))

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(self.n))

    def reset_state(self, batch_size: int | tuple[int, ...] | None = None) -> None:
        """Resets the recurrent states of each layer, as `nn.reset_state` does."""
        vmap(lambda layer: reset_state(layer, batch_size), axis_size=self.n)(self._stack())

    def _map(self, function: Callable[[Any], Any]) -> None:
        """Puts what a function gives for it in the place of each layer."""
        setattr(self, self._sliced, vmap(function, axis_size=self.n)(self._stack()))

    def _stack(self) -> Any:
        return getattr(self, self._sliced)

    def _passes_to(self) -> tuple[Any, ...]:
        return (self._stack(),)
