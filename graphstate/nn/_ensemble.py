"""`Ensemble`: many modules of one kind, as one module."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from graphstate.transform import vmap

from ._stacked import Stacked

__all__ = ["Ensemble"]


class Ensemble(Stacked):
    """Calls `n` members of one kind on the same input, all at once.

    The members are made by a mapped constructor, and each is drawn by itself. They are one stacked Node: States have
    a leading axis of size `n`. Whatever is random in a call is so for each member. What all of them share is given to
    the call, `ensemble(x, shared)`.

    `ensemble[i]` is a copy of a member, and `ensemble[i] = member` puts it back; `ensemble[:i]` is an Ensemble of
    copies.

    Args:
        make: makes one member.
        n: how many.
        in_axes: axes of the positional arguments of a call, as in `vmap`; None gives each member all of them.

    Attributes:
        members: the stacked Node.

    Raises:
        RangeError: `n` is not a positive whole number.
        StateTypeError: `make` is a layer, or returns none.
        AliasError: `make` puts a State that was there before into its members.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> ensemble = gs.nn.Ensemble(lambda: gs.nn.Linear(3, 2), 5)
        >>> ensemble(jnp.ones((8, 3))).shape, len(ensemble), ensemble[0].weight.value.shape
        ((5, 8, 2), 5, (3, 2))
        >>> member = ensemble[0]
        >>> member.bias.value += 1
        >>> ensemble[0] = member
        >>> ensemble.members.bias.value[:, 0].tolist()
        [1.0, 0.0, 0.0, 0.0, 0.0]
        >>> mean, spread = ensemble.predict(jnp.ones((8, 3)))
        >>> mean.shape, bool((spread > 0).all())
        ((8, 2), True)

    Source: for predictions, Lakshminarayanan, Pritzel & Blundell 2017, arXiv:1612.01474.
    """

    _sliced = "members"

    def __init__(self, make: Callable[[], Any], n: int, *, in_axes: Any = None) -> None:
        self.in_axes = in_axes
        self.members = self._make(make, n)

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
