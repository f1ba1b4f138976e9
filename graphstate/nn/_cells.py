"""Recurrent cells: one step of a recurrence. What they carry are HiddenStates, which each call reads and writes.

`reset_state(batch_size)` makes them zero, and gives them the batch axes that the input has. In a map over examples
they are mapped: `vmap(..., state_in_axes=HiddenState)`. All weights of a cell are in two `Linear`s, `from_input` and
`from_hidden`, with the gates one after the other in the last axis.
"""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers
from jax.typing import ArrayLike, DTypeLike

from graphstate.graph import HiddenState, Node, nodes
from graphstate.random import RandomState

from ._errors import check_parameter, describe, wrong_shape
from ._linear import Linear
from ._normalization import widened
from ._parameters import Initializer, axes_of, with_axes
from ._promotion import check_floats
from ._reset import as_batch
from ._sizes import as_size

__all__ = ["GRUCell", "LSTMCell", "MGUCell", "RNNCell"]


class _Cell(Node):
    """What the cells share: two maps for all gates, and hidden values that begin as zeros."""

    gates: ClassVar[int]
    carried: ClassVar[tuple[str, ...]] = ("hidden",)
    hidden_bias: ClassVar[bool] = False

    from_input: Linear
    from_hidden: Linear
    hidden: HiddenState

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        use_bias: bool = True,
        weight_init: Initializer = initializers.lecun_normal(),  # noqa: B008  an initializer is a constant
        recurrent_init: Initializer = initializers.orthogonal(),  # noqa: B008
        bias_init: Initializer = initializers.zeros,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rng: RandomState | None = None,
    ) -> None:
        kind = type(self).__name__
        self.in_features = as_size(kind, "in_features", in_features)
        self.hidden_features = as_size(kind, "hidden_features", hidden_features)
        self.from_input, self.from_hidden = (
            Linear(
                size,
                self.gates * self.hidden_features,
                use_bias=bias,
                weight_init=_for_each_gate(init, self.gates),
                bias_init=bias_init,
                dtype=dtype,
                param_dtype=param_dtype,
                rng=rng,
            )
            for size, init, bias in (
                (self.in_features, weight_init, use_bias),
                (self.hidden_features, recurrent_init, use_bias and self.hidden_bias),
            )
        )
        self.state_dtype = jnp.dtype(param_dtype if dtype is None else dtype)
        for name in self.carried:
            setattr(self, name, HiddenState(jnp.zeros(self.hidden_features, self.state_dtype)))

    def reset_state(self, batch_size: int | tuple[int, ...] | None = None) -> None:
        """Makes the hidden values zero.

        Args:
            batch_size: sizes of their batch axes, which the inputs have too; None for no such axis.

        Raises:
            ShapeError: the cell is a stack of cells.
        """
        for linear in nodes(self, Linear).values():
            check_parameter(linear, "weight", linear.weight.value, (linear.in_features, linear.out_features))
        for name in self.carried:
            state = getattr(self, name)
            state.value = jnp.zeros((*as_batch(batch_size), self.hidden_features), self.state_dtype)

    def __call__(self, x: ArrayLike) -> Array:
        """The hidden value after one step, which is also kept.

        Args:
            x: float[..., in_features], with the batch axes of the hidden value.

        Returns:
            float[..., hidden_features].

        Raises:
            ShapeError: the last axis of `x` is not `in_features` long, or its batch axes are not those of the state.
            DtypeError: `x` holds no floats.
        """
        x = jnp.asarray(x)
        check_floats(self, x)
        before = tuple(getattr(self, name).value for name in self.carried)
        if x.shape[-1:] != (self.in_features,):
            needed = f"activations of shape (..., {self.in_features})"
            raise wrong_shape(self, needed, x, "Move the features to the last axis.")
        if x.shape[:-1] != before[0].shape[:-1]:
            needed = f"inputs with the batch axes of its hidden value, {describe(before[0])}"
            way_out = f"Call `reset_state(batch_size={x.shape[:-1]})` first; inside of `vmap` over examples, map it: "
            raise wrong_shape(self, needed, x, f"{way_out}`state_in_axes=HiddenState`.")
        projected = self.from_input(x)
        after = self._step(projected, *(each.astype(projected.dtype) for each in before))
        for name, value in zip(self.carried, after, strict=True):
            getattr(self, name).value = value.astype(self.state_dtype)
        return after[0]

    def _step(self, x: Array, *before: Array) -> tuple[Array, ...]:
        """What is carried after a step, from the projected input and what was carried before it."""
        raise AssertionError(type(self))


def _for_each_gate(init: Initializer, gates: int) -> Initializer:
    """Draws the weights of each gate by themselves, so that their number does not change the scale."""

    def draw(key: Array, shape: tuple[int, int], dtype: DTypeLike) -> Array:
        # Orthogonal matrices are not computed in narrow floats.
        wide = widened(jnp.zeros((), dtype)).dtype
        parts = [init(each, (shape[0], shape[1] // gates), wide) for each in jax.random.split(key, gates)]
        return jnp.concatenate(parts, 1).astype(dtype)

    axes = axes_of(init)
    return draw if axes is None else with_axes(draw, axes)


class RNNCell(_Cell):
    """The plain recurrence: `h' = activation(x @ W + b + h @ U)`.

    Args:
        in_features: size of the last axis of the input.
        hidden_features: size of the hidden value.
        activation: a function of arrays.
        use_bias: whether there are biases.
        weight_init: makes the weights of the input, for each gate.
        recurrent_init: makes those of the hidden value, for each gate.
        bias_init: makes the biases.
        dtype: what to compute in; None for the common float dtype of input and parameters.
        param_dtype: dtype of the parameters.
        rng: what the parameters are drawn from; None for `random.DEFAULT`.

    Attributes:
        from_input: `Linear`, W and b.
        from_hidden: `Linear`, U.
        hidden: `HiddenState`, float[..., hidden_features].

    Raises:
        RangeError: a size is not a positive whole number.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> cell = gs.nn.RNNCell(3, 4)
        >>> cell.reset_state(batch_size=8)
        >>> cell(jnp.ones((8, 3))).shape, cell.hidden.value.shape
        ((8, 4), (8, 4))

    Source: Elman 1990, Cognitive Science 14, 179.
    """

    gates = 1

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        activation: Callable[[Array], Array] = jnp.tanh,
        **options: object,
    ) -> None:
        super().__init__(in_features, hidden_features, **options)  # type: ignore[arg-type]
        self.activation = activation

    def _step(self, x: Array, *before: Array) -> tuple[Array, ...]:
        return (self.activation(x + self.from_hidden(before[0])),)


class GRUCell(_Cell):
    """The gated recurrent unit, with the reset gate after the product, as PyTorch, Flax and cuDNN have it.

    `r, z = sigmoid(...)`, `n = tanh(x @ W_n + b_n + r * (h @ U_n + c_n))`, `h' = (1 - z) * n + z * h`.

    Args:
        in_features: size of the last axis of the input.
        hidden_features: size of the hidden value.
        options: those of `RNNCell`, by name, but for `activation`.

    Attributes:
        from_input: `Linear`, W and b of r, z and n.
        from_hidden: `Linear`, U and c of r, z and n.
        hidden: `HiddenState`, float[..., hidden_features].

    Raises:
        RangeError: a size is not a positive whole number.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.for_loop(gs.nn.GRUCell(3, 4), jnp.ones((10, 3))).shape
        (10, 4)

    Source: Cho et al. 2014, arXiv:1406.1078, eq. 5 to 8.
    """

    gates = 3
    hidden_bias = True

    def _step(self, x: Array, *before: Array) -> tuple[Array, ...]:
        (hidden,) = before
        r, z, n = jnp.split(x, 3, -1)
        hidden_r, hidden_z, hidden_n = jnp.split(self.from_hidden(hidden), 3, -1)
        update = jax.nn.sigmoid(z + hidden_z)
        new = jnp.tanh(n + jax.nn.sigmoid(r + hidden_r) * hidden_n)
        return ((1 - update) * new + update * hidden,)


class MGUCell(_Cell):
    """The minimal gated unit: a GRU whose gates are one, in the form that Flax has.

    `f = sigmoid(x @ W_f + b_f + h @ U_f + c_f)`, `n = tanh(x @ W_n + b_n + f * (h @ U_n + c_n))`,
    `h' = (1 - f) * n + f * h`.

    Args:
        in_features: size of the last axis of the input.
        hidden_features: size of the hidden value.
        options: those of `RNNCell`, by name, but for `activation`.

    Attributes:
        from_input: `Linear`, W and b of f and n.
        from_hidden: `Linear`, U and c of f and n.
        hidden: `HiddenState`, float[..., hidden_features].

    Raises:
        RangeError: a size is not a positive whole number.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> gs.nn.MGUCell(3, 4)(jnp.ones(3)).shape
        (4,)

    Source: Zhou et al. 2016, arXiv:1603.09420; as `flax.nnx.nn.recurrent` and `flax.linen.MGUCell` write it.
    """

    gates = 2
    hidden_bias = True

    def _step(self, x: Array, *before: Array) -> tuple[Array, ...]:
        (hidden,) = before
        f, n = jnp.split(x, 2, -1)
        hidden_f, hidden_n = jnp.split(self.from_hidden(hidden), 2, -1)
        gate = jax.nn.sigmoid(f + hidden_f)
        new = jnp.tanh(n + gate * hidden_n)
        return ((1 - gate) * new + gate * hidden,)


class LSTMCell(_Cell):
    """Long short-term memory: the hidden value is read out of a memory, which gates protect.

    `i, f, o = sigmoid(...)`, `g = tanh(...)`, `c' = f * c + i * g`, `h' = o * tanh(c')`.

    Args:
        in_features: size of the last axis of the input.
        hidden_features: size of the hidden value and of the memory.
        options: those of `RNNCell`, by name, but for `activation`.

    Attributes:
        from_input: `Linear`, W and b of i, f, g and o.
        from_hidden: `Linear`, U of i, f, g and o.
        hidden: `HiddenState`, float[..., hidden_features].
        memory: `HiddenState`, float[..., hidden_features].

    Raises:
        RangeError: a size is not a positive whole number.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> cell = gs.nn.LSTMCell(3, 4)
        >>> cell(jnp.ones(3)).shape, cell.memory.value.shape
        ((4,), (4,))

    Source: Hochreiter & Schmidhuber 1997; with the forget gate of Gers, Schmidhuber & Cummins 2000.
    """

    gates = 4
    carried = ("hidden", "memory")

    memory: HiddenState

    def _step(self, x: Array, *before: Array) -> tuple[Array, ...]:
        hidden, memory = before
        i, f, g, o = jnp.split(x + self.from_hidden(hidden), 4, -1)
        new = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(new), new
