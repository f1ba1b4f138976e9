"""`RNN` and `Bidirectional`: a cell applied along a sequence.

A cell is any Node that takes one step's input, carries HiddenStates whose arrays begin with the batch axes, and has
`reset_state(batch_size)`; or a Node of such, as a `Sequential` of cells. By default each call begins with a state
that is reset and leaves the cell as it was; a stateful RNN goes on where the last call has ended.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from graphstate.errors import UpdateError
from graphstate.graph import HiddenState, Node, state, states, write_path
from graphstate.transform import for_loop

from ._errors import DtypeError, RangeError, ShapeError, describe, name_of, wrong_shape
from ._promotion import check_floats
from ._reset import reset_state

__all__ = ["RNN", "Bidirectional"]


class RNN(Node):
    """Applies a cell to each step of a sequence.

    Args:
        cell: what is applied, as `LSTMCell(3, 4)`.
        reverse: whether to begin at the end.
        stateful: whether a call goes on with the state that the call before has left, as for windows of a long
            sequence; `reset_state(batch_size)` begins anew.
        unroll: as in `jax.lax.scan`.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> rnn = gs.nn.RNN(gs.nn.LSTMCell(3, 4))
        >>> rnn(jnp.ones((8, 10, 3))).shape
        (8, 10, 4)

        With sequences of several lengths, and the last state:

        >>> ys, last = rnn(jnp.ones((2, 10, 3)), lengths=jnp.array([10, 7]), return_state=True)
        >>> last["hidden"].shape, bool((last["hidden"][1] == ys[1, 6]).all())
        ((2, 4), True)

    Source: `y_t, state_t = cell(x_t, state_(t-1))`, as `torch.nn.RNN` and `flax.nnx.RNN` have it.
    """

    def __init__(
        self, cell: Callable[..., Any], *, reverse: bool = False, stateful: bool = False, unroll: int = 1
    ) -> None:
        self.cell = cell
        self.reverse = reverse
        self.stateful = stateful
        self.unroll = unroll

    def __call__(
        self,
        xs: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        initial: Mapping[Any, Any] | None = None,
        return_state: bool = False,
    ) -> Any:
        """What the cell returns for each step.

        Args:
            xs: float[..., time, in_features].
            lengths: int[...], how many steps of each sequence count. The state does not change in the others, and
                outputs are zero there. Backwards, a sequence begins with its last step that counts. A compiled call
                can't raise an error for a length that is none: all steps count where it is too large.
            initial: the state to begin with, as `return_state` gives it, or values for some of its paths.
            return_state: whether to return the state after the last step, too.

        Returns:
            float[..., time, hidden_features]; with `return_state` a pair of this and a GraphState of the cell.

        Raises:
            ShapeError: `xs` has no time axis, or `lengths` not the batch axes of `xs`.
            DtypeError: `xs` holds no floats, or `lengths` no whole numbers.
            RangeError: a length is negative, or larger than the number of steps.
            UpdateError: `initial` has a path that is none of the cell's.
        """
        xs, lengths = jnp.asarray(xs), None if lengths is None else jnp.asarray(lengths)
        self._check_inputs(xs, lengths)
        carried = states(self.cell, HiddenState)
        self._check_initial(initial or {}, carried)
        before = {path: each.value for path, each in carried.items()}
        kept = False
        try:
            if not self.stateful:
                reset_state(self.cell, xs.shape[:-2] or None)
            for path, value in (initial or {}).items():
                carried[path].value = value
            ys = self._run(xs, lengths)
            last = state(self.cell, HiddenState)
            kept = self.stateful
        finally:
            if not kept:
                for path, value in before.items():
                    carried[path].value = value
        return (ys, last) if return_state else ys

    def reset_state(self, batch_size: int | tuple[int, ...] | None = None) -> None:
        """Resets the cell, as `nn.reset_state` does."""
        reset_state(self.cell, batch_size)

    def _run(self, xs: Array, lengths: Array | None) -> Any:
        steps = jnp.moveaxis(xs, -2, 0)
        if lengths is None:
            ys = for_loop(self._step, steps, reverse=self.reverse, unroll=self.unroll)
        else:
            counts = jnp.arange(len(steps)).reshape(-1, *(1,) * lengths.ndim) < lengths[None]
            ys = for_loop(self._masked_step, steps, counts, reverse=self.reverse, unroll=self.unroll)
        return jax.tree.map(lambda y: jnp.moveaxis(y, 0, xs.ndim - 2), ys)

    # Methods, not functions made at each call: a loop outside of compiled code is traced once for the same function.

    def _step(self, x: Array) -> Any:
        return self.cell(x)

    def _masked_step(self, x: Array, counts: Array) -> Any:
        return _masked(self.cell, x, counts)

    def _check_initial(self, initial: Mapping[Any, Any], carried: Mapping[Any, Any]) -> None:
        unknown = [path for path in initial if path not in carried]
        if unknown:
            raise UpdateError(
                f"{name_of(self)} takes as `initial` values of the states that its cell carries, "
                f"{', '.join(map(write_path, carried))}, but got one called {unknown[0]!r}. Give what `return_state` "
                "gives, or a part of it.",
                unknown,
            )

    def _check_inputs(self, xs: Array, lengths: Array | None) -> None:
        check_floats(self, xs)
        if xs.ndim < 2:
            raise wrong_shape(self, "sequences of shape (..., time, features)", xs, "Call the cell for one step.")
        if lengths is not None and lengths.shape != xs.shape[:-2]:
            raise ShapeError(
                f"{name_of(self)} takes as `lengths` one number for each sequence, of shape {xs.shape[:-2]} for xs of "
                f"{describe(xs)}, but got {lengths.shape}. A mask of steps is turned into lengths by summing it."
            )
        if lengths is not None and not jnp.issubdtype(lengths.dtype, jnp.integer):
            raise DtypeError(
                f"{name_of(self)} takes whole numbers as `lengths`, but got {describe(lengths)}. A mask of steps is "
                "turned into lengths by summing it."
            )
        if lengths is None or isinstance(lengths, Tracer):
            return
        wrong = [length for length in np.ravel(lengths).tolist() if not 0 <= length <= xs.shape[-2]]
        if wrong:
            raise RangeError(
                f"{name_of(self)} takes as `lengths` numbers from 0 to {xs.shape[-2]}, the number of steps, but got "
                f"{wrong[0]}. Are they those of other sequences?"
            )


def _masked(cell: Callable[..., Any], x: Array, counts: Array) -> Any:
    """A step of those sequences for which it counts."""
    # What stands in the others may be NaN, which a gradient would not lose.
    x = _where(counts, x, jnp.zeros_like(x))
    carried = list(states(cell, HiddenState).values())
    before = [each.value for each in carried]
    y = cell(x)
    for each, old in zip(carried, before, strict=True):
        each.value = jax.tree.map(lambda new, old: _where(counts, new, old), each.value, old)
    return jax.tree.map(lambda y: _where(counts, y, jnp.zeros_like(y)), y)


def _where(counts: Array, one: Array, other: Array) -> Array:
    return jnp.where(counts.reshape(counts.shape + (1,) * (one.ndim - counts.ndim)), one, other)


class Bidirectional(Node):
    """Applies one cell forwards and another one backwards, and joins their outputs in the last axis.

    Args:
        forward: the cell that begins at the start.
        backward: the cell that begins at the end.
        unroll: as in `jax.lax.scan`.

    Attributes:
        forward: `RNN` of the first cell.
        backward: `RNN` of the second cell, reversed.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> both = gs.nn.Bidirectional(gs.nn.GRUCell(3, 4), gs.nn.GRUCell(3, 5))
        >>> both(jnp.ones((8, 10, 3))).shape
        (8, 10, 9)

    Source: Schuster & Paliwal 1997, IEEE Transactions on Signal Processing 45, 2673.
    """

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any], *, unroll: int = 1) -> None:
        self.forward = RNN(forward, unroll=unroll)
        self.backward = RNN(backward, reverse=True, unroll=unroll)

    def __call__(
        self,
        xs: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        initial: tuple[Mapping[Any, Any] | None, Mapping[Any, Any] | None] | None = None,
        return_state: bool = False,
    ) -> Any:
        """The outputs of both cells for each step.

        Args:
            xs: float[..., time, in_features].
            lengths: int[...], how many steps of each sequence count, as in `RNN`.
            initial: the states that both begin with, as `return_state` gives them.
            return_state: whether to return the last states of both, too.

        Returns:
            float[..., time, forward + backward features]; with `return_state` a pair of this and the pair of
            GraphStates.

        Raises:
            ShapeError: as in `RNN`.
            DtypeError: as in `RNN`.
            RangeError: as in `RNN`.
            UpdateError: as in `RNN`.
        """
        begin, end = (None, None) if initial is None else initial
        ys, last = self.forward(xs, lengths=lengths, initial=begin, return_state=True)
        back, first = self.backward(xs, lengths=lengths, initial=end, return_state=True)
        joined = jnp.concatenate([ys, back], -1)
        return (joined, (last, first)) if return_state else joined
