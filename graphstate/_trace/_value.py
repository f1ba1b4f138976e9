"""What a State can hold, and how a value is kept so that a change in place does not pass unseen."""

import operator
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._compat import EVAL, ArrayImpl, Tracer, set_trace
from graphstate.errors import DonatedError, StateTypeError, TraceContextError


class _Missing:
    """The type of `MISSING`: no value is there."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()

_NUMBERS = (bool, int, float, complex, np.generic, np.ndarray, jax.Array, jax.ShapeDtypeStruct)


class Packed:
    """A value with containers that can be changed in place, and the leaves that it was written with."""

    __slots__ = ("_leaves", "_treedef", "_value")

    def __init__(self, value: Any) -> None:
        self._value = value
        self._leaves: list[Any]
        self._treedef: Any
        self._leaves, self._treedef = jax.tree.flatten(value)

    def checked(self) -> Any:
        """The value, as it was written; an error where it was changed in place since."""
        leaves, treedef = jax.tree.flatten(self._value)
        same = bool(treedef == self._treedef) and all(map(operator.is_, leaves, self._leaves))
        if not same:
            raise TraceContextError(
                "The value of a State was changed in place: a dict or list read from `.value` is not the State. "
                f"It was written as {self._treedef} and has now become {treedef}, or one of its leaves was replaced. "
                "Write a new value instead: `state.value = {**state.value, key: new}`."
            )
        return self._value

    def peeked(self) -> Any:
        """The value, for a reader that computes nothing with it."""
        return self.checked()

    def copied(self) -> "Packed":
        """The same value in containers of its own."""
        return Packed(jax.tree.map(immutable, self.checked()))


class Lost(Packed):
    """What a State holds whose buffers were donated to a call that failed: no value, until one is written.

    Args:
        value: what it held, of deleted arrays.
        name: how messages call the State.
        call: how they call the function.

    Attributes:
        types: `value`, with the shape and dtype in the place of each array.
    """

    __slots__ = ("_call", "_name", "types")

    def __init__(self, value: Any, name: str, call: str) -> None:
        self.types = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jax.typeof(leaf).dtype), value)
        self._name = name
        self._call = call

    def checked(self) -> Any:
        raise DonatedError(
            f"{self._name} has no value: its buffer was donated to `{self._call}`, which failed after that. Write the "
            "State before it is used again, with `state.value = ...` or `graphstate.update(node, saved)`. To keep "
            f"values through calls that fail, let `{self._call}` donate nothing."
        )


def copied(held: Any) -> Any:
    """A packed value for a trace inside: what is done there in place must not reach the value outside."""
    return held.copied() if isinstance(held, Packed) else immutable(held)


def immutable(leaf: Any) -> Any:
    """`leaf`, as an array of JAX if it is one of NumPy: `state.value += 1` would change that in place."""
    if not isinstance(leaf, np.ndarray):
        return leaf
    with set_trace(EVAL):  # the trace that reads it may be within that of the frame, which would keep its tracer
        return jnp.asarray(leaf)


def pack(value: Any) -> Any:
    """`value` as it is stored: itself, or `Packed` where it could be changed in place."""
    if type(value) is ArrayImpl or isinstance(value, _NUMBERS) or value is None:
        return value
    if type(value) is tuple and all(isinstance(part, _NUMBERS) for part in value):
        return value
    return value if isinstance(value, Packed) else Packed(value)


def unpack(held: Any) -> Any:
    """The value of what `pack` returned."""
    return held.checked() if isinstance(held, Packed) else held


def peeked(held: Any) -> Any:
    """As `unpack`, for a reader that computes nothing with the value."""
    return held.peeked() if isinstance(held, Packed) else held


def check_in_place(held: Any) -> None:
    """Raises where a container was changed in place since it was written."""
    if type(held) is Packed:
        held.checked()


def check_value(value: Any) -> None:
    """Refuses what no State can hold.

    Raises:
        StateTypeError: a leaf of `value` is neither an array nor a number, or `value` is a State.
    """
    if isinstance(value, _NUMBERS) or value is None:
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(value):
        if isinstance(leaf, _NUMBERS) or (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            continue
        where = jax.tree_util.keystr(path)
        raise StateTypeError(
            "A State holds an array, a number or a pytree of these, but "
            f"{f'its part {where}' if where else 'the value'} "
            f"is {_described(leaf)}. {_way_out(leaf)}"
        )


def is_traced(value: Any) -> bool:
    """Whether a leaf of `value` belongs to a trace in progress (or ended)."""
    return isinstance(value, Tracer) or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))


def _described(leaf: Any) -> str:
    return f"a {type(leaf).__name__}" if hasattr(leaf, "_home") else f"{str(leaf)[:60]!r} of type {type(leaf).__name__}"


def _way_out(leaf: Any) -> str:
    if hasattr(leaf, "_home"):
        return "Take its `.value`, or keep the State itself as an attribute of the Node."
    return "Keep static values as plain attributes of the Node."
