"""`Ensemble`: many modules of one kind, as one module."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from graphstate.graph import take
from graphstate.transform import vmap

from ._passing import Passing
from ._reset import reset_state
from ._sizes import as_size

__all__ = ["Ensemble"]


class Ensemble(Passing):
    """Calls `n` members of one kind on the same input, all at once.

    The members are made by a mapped constructor, and each is drawn by itself. They are one stacked Node: States have
    a leading axis of size `n`. Whatever is random in a call is so for each member.

    Args:
        make: makes one member.
        n: how many.
        in_axes: axes of the positional arguments of a call, as in `vmap`; None gives each member all of them.

    Attributes:
        members: the stacked Node.

    Raises:
        RangeError: `n` is not a positive whole number.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> ensemble = gs.nn.Ensemble(lambda: gs.nn.Linear(3, 2), 5)
        >>> ensemble(jnp.ones((8, 3))).shape, len(ensemble), ensemble[0].weight.value.shape
        ((5, 8, 2), 5, (3, 2))
        >>> mean, spread = ensemble.predict(jnp.ones((8, 3)))
        >>> mean.shape, bool((spread > 0).all())
        ((8, 2), True)

    Source: for predictions, Lakshminarayanan, Pritzel & Blundell 2017, arXiv:1612.01474.
    """

    def __init__(self, make: Callable[[], Any], n: int, *, in_axes: Any = None) -> None:
        self.n = as_size("Ensemble", "n", n)
        self.in_axes = in_axes
        self.members = vmap(make, axis_size=self.n)()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What each member returns, stacked along a leading axis."""

        def call(member: Any, args: tuple[Any, ...]) -> Any:
            return member(*args, **kwargs)

        return vmap(call, in_axes=(0, self.in_axes), axis_size=self.n)(self.members, args)

    def predict(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """The mean of what the members return, and how far they are apart.

        Args:
            args: what each member is called with.
            kwargs: the same, by name.

        Returns:
            Mean and standard deviation over the members, in the form of what one returns.
        """
        predicted = self(*args, **kwargs)
        return jax.tree.map(lambda y: jnp.mean(y, 0), predicted), jax.tree.map(lambda y: jnp.std(y, 0), predicted)

    def __getitem__(self, index: int) -> Any:
        """The member at an index, taken out: what is written to it does not reach the ensemble."""
        return take(self.members, range(self.n)[index])

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(self.n))

    def reset_state(self, batch_size: int | tuple[int, ...] | None = None) -> None:
        """Resets the recurrent states of each member, as `nn.reset_state` does."""
        vmap(lambda member: reset_state(member, batch_size), axis_size=self.n)(self.members)

    def _passes_to(self) -> tuple[Any, ...]:
        return (self.members,)
