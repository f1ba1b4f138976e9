"""`BatchCase`: the arguments of one batch, and which of their axes the lanes are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from graphstate.errors import AxisError
from graphstate.filters import Filter
from graphstate.graph import StateAxes

from ._arrays import Change, cast_to, lane_axis, poison_lanes, take_lanes
from ._leaves import axis_in, leaves_of, rebuilt
from ._pasting import code_of

__all__ = ["BatchCase", "Lane"]


class Lane(NamedTuple):
    """The arguments of one lane.

    Attributes:
        args: positional arguments.
        kwargs: keyword arguments.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class BatchCase:
    """The arguments of one call of a mapped function.

    Its `repr` is code that can be pasted, `np` being NumPy.

    Args:
        axis_size: the number of lanes.
        args: positional arguments: pytrees of arrays (NumPy's or JAX's), Nodes and States.
        kwargs: keyword arguments, which are mapped over axis 0, as in `jax.vmap`.
        in_axes: the lane axis of each positional argument, as in `graphstate.vmap`.
        out_axes: where the lane axis of the result is, or shall be.
        state_in_axes: the lane axes of the States that a function closes over, as in `graphstate.vmap`.

    Raises:
        AxisError: an axis does not exist, or is not `axis_size` long.

    Example:
        >>> import numpy as np
        >>> from graphstate.testing import BatchCase
        >>> case = BatchCase(2, (np.arange(6.0).reshape(3, 2), np.ones(3)), in_axes=(1, None))
        >>> case.lane(1).args[0].tolist()
        [1.0, 3.0, 5.0]
        >>> case.with_batch(3).args[0].shape
        (3, 3)
        >>> BatchCase(2, (np.float32([0, 1]),))
        BatchCase(axis_size=2, args=(np.array([0.0, 1.0], 'float32'),))
    """

    axis_size: int
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    in_axes: Any = 0
    out_axes: Any = 0
    state_in_axes: Mapping[Filter, int | None] | StateAxes | Filter = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", tuple(self.args))
        object.__setattr__(self, "kwargs", dict(self.kwargs))
        if isinstance(self.in_axes, list):
            object.__setattr__(self, "in_axes", tuple(self.in_axes))
        leaves = leaves_of(self.args, dict(self.kwargs), self.in_axes)
        for value, axis in zip(leaves.values, leaves.axes, strict=True):
            for leaf in jax.tree.leaves(value):
                self._check(leaf, axis_in(leaf, axis))

    def _check(self, leaf: Any, axis: int | None) -> None:
        if axis is None:
            return
        shape = np.shape(leaf)
        if not -len(shape) <= axis < len(shape):
            raise AxisError(
                f"`BatchCase` needs the lane axis {axis} in every mapped array, but one has the shape {shape}. Give "
                "another axis in `in_axes`, or None for what all lanes share."
            )
        if shape[lane_axis(leaf, axis)] != self.axis_size:
            raise AxisError(
                f"`BatchCase` needs {self.axis_size} lanes in every mapped array, but one of shape {shape} has "
                f"{shape[lane_axis(leaf, axis)]} at axis {axis}. Give another `axis_size`, or other `in_axes`."
            )

    def lane(self, index: int) -> Lane:
        """The arguments of one lane; Nodes among them are copies.

        Args:
            index: which lane, from 0.

        Raises:
            AxisError: there is no such lane.
        """
        if not 0 <= index < self.axis_size:
            raise AxisError(f"`lane` needs a lane from 0 to {self.axis_size - 1}, but was asked for {index}.")
        return Lane(*self._rebuilt(take_lanes(index)))

    def permuted(self, order: Sequence[int]) -> "BatchCase":
        """The case with its lanes in another order.

        Args:
            order: for each lane which one it was, int[axis_size].
        """
        return self._with(len(order), take_lanes(np.asarray(order, np.int64)))

    def with_batch(self, size: int) -> "BatchCase":
        """The case with another number of lanes: the first ones are kept, further ones repeat them.

        Args:
            size: how many lanes.

        Raises:
            AxisError: there is no lane to repeat.
        """
        if size and not self.axis_size:
            raise AxisError(f"`with_batch({size})` needs a lane to repeat, but the case has none.")
        return self._with(size, take_lanes(np.arange(size) % max(self.axis_size, 1)))

    def poisoned(self, index: int) -> "BatchCase":
        """The case with NaN in all lanes but one, so that whatever reaches that one from another lane is seen.

        Integers and booleans, which have no NaN, take the values of the lane that is kept; keys stay.

        Args:
            index: the lane that is kept.
        """
        return self.changed(poison_lanes(index))

    def changed(self, change: Change) -> "BatchCase":
        """The case with something else in its mapped arrays, of the same shapes.

        Args:
            change: gives the new array for an array and its lane axis.
        """
        return self._with(self.axis_size, change)

    def astype(self, dtype: Any) -> "BatchCase":
        """The case with all real numbers, mapped or not, in another precision; complex ones alike.

        Args:
            dtype: as `numpy.float64` or `"bfloat16"`.
        """
        cast = cast_to(dtype)
        args, kwargs = rebuilt(self.args, dict(self.kwargs), self.in_axes, lambda leaf, axis: cast(leaf))
        return replace(self, args=args, kwargs=kwargs)

    def _with(self, size: int, change: Change) -> "BatchCase":
        args, kwargs = self._rebuilt(change)
        return replace(self, axis_size=size, args=args, kwargs=kwargs)

    def _rebuilt(self, change: Change) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return rebuilt(
            self.args,
            dict(self.kwargs),
            self.in_axes,
            lambda leaf, axis: leaf if axis is None else change(leaf, axis),
        )

    def __repr__(self) -> str:
        shown = [f"axis_size={self.axis_size}", f"args={code_of(self.args)}"]
        for each in fields(self)[2:]:
            value = getattr(self, each.name)
            usual = _usual(each.name)
            if not (type(value) is type(usual) and value == usual):
                shown.append(f"{each.name}={code_of(value)}")
        return f"BatchCase({', '.join(shown)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


def _usual(name: str) -> Any:
    """The default of a field."""
    return {"kwargs": {}, "state_in_axes": None}.get(name, 0)
