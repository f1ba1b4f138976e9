"""`Repeat`: many layers of one kind, traced and compiled as one."""

import functools
from collections.abc import Callable
from typing import Any, Final

import jax
import numpy as np

from graphstate._lift.programs._reuse import is_eager
from graphstate.transform import checkpoint, scan

from ._stacked import Stacked

__all__ = ["Repeat"]


class Repeat(Stacked):
    """Applies `n` layers of one kind, one after the other, by a scan: compile time does not grow with `n`.

    The layers are made by a mapped constructor, so that each is drawn by itself, and are one stacked Node: their
    parameters have a leading axis of size `n`, and their paths begin with `layers`. What all of them share is given to
    the call, `repeat(x, shared)`.

    `repeat[i]` is a copy of a layer, and `repeat[i] = layer` puts it back; `repeat[:i]` is a Repeat of copies.

    Args:
        make: makes one layer, whose call returns what the next one takes, in the same shape and dtype.
        n: how many.
        checkpoint: whether to keep only the input of each layer for the backward pass, and compute the rest again.
        policy: what is kept besides, as in `jax.checkpoint_policies`; it implies `checkpoint`.
        unroll: as in `jax.lax.scan`.

    Attributes:
        layers: the stacked Node.

    Raises:
        RangeError: `n` is not a positive whole number.
        StateTypeError: `make` is a layer, or returns none.
        AliasError: `make` puts a State that was there before into its layers.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> deep = gs.nn.Repeat(lambda: gs.nn.Sequential(gs.nn.Linear(8, 8), gs.nn.gelu), 64, checkpoint=True)
        >>> deep(jnp.ones((3, 8))).shape, len(deep), deep[0][0].weight.value.shape
        ((3, 8), 64, (8, 8))

    Source: a scan over stacked parameters, as `haiku.layer_stack`.
    """

    _sliced = "layers"

    def __init__(
        self,
        make: Callable[[], Any],
        n: int,
        *,
        checkpoint: bool = False,
        policy: Callable[..., bool] | None = None,
        unroll: int = 1,
    ) -> None:
        self.checkpoint = checkpoint or policy is not None
        self.policy = policy
        self.unroll = unroll
        self.layers = self._make(make, n)

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """What the last layer returns.

        Args:
            x: what the first layer takes.
            args: further arguments, the same for each layer.
            kwargs: the same, by name.

        Raises:
            CarryError: a layer returns another shape or dtype than it takes.
        """
        leaves, form = jax.tree.flatten((args, kwargs))
        carried: list[Any] = []
        given: tuple[tuple[type, Any], ...] = tuple((type(leaf), leaf) for leaf in leaves)
        step: Callable[..., Any] = _step.__wrapped__
        if is_eager() and all(isinstance(leaf, _ARRAYS + _PLAIN) for leaf in leaves):
            # A loop outside of compiled code is traced once for the same function, which may close over no array then.
            # In compiled code it may: of arrays that are carried a backward pass would keep one for each layer.
            carried = [leaf for leaf in leaves if isinstance(leaf, _ARRAYS)]
            given = tuple((_Carried, None) if isinstance(leaf, _ARRAYS) else (type(leaf), leaf) for leaf in leaves)
            step = _step
        call = step(self.checkpoint, self.policy, form, given)
        return scan(call, (x, carried), self.layers, self.n, unroll=self.unroll)[0][0]


_ARRAYS: Final = (jax.Array, np.ndarray)
_PLAIN: Final = (bool, int, str)


class _Carried:
    """The kind of an argument that is carried from layer to layer, as it is."""


@functools.lru_cache(256)
def _step(
    checkpointed: bool, policy: Callable[..., bool] | None, form: Any, given: tuple[tuple[type, Any], ...]
) -> Callable[[Any, Any], tuple[Any, None]]:
    """One layer, called with further arguments in the form of a pytree: given ones, and those that are carried."""

    def apply(carry: Any, layer: Any) -> tuple[Any, None]:
        x, carried = carry
        arrays = iter(carried)
        leaves = [next(arrays) if kind is _Carried else leaf for kind, leaf in given]
        args, kwargs = jax.tree.unflatten(form, leaves)
        return (layer(x, *args, **kwargs), carried), None

    return checkpoint(apply, prevent_cse=False, policy=policy) if checkpointed else apply
