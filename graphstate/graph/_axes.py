"""`StateAxes`: which axis of each State is the lane axis, or which of them a mesh splits."""

from collections.abc import Mapping, Sequence
from typing import Any

from jax.sharding import PartitionSpec

from graphstate.errors import AxisError
from graphstate.filters import Filter, to_predicate

from ._path import Path, show_path
from ._selection import check_order

__all__ = ["StateAxes"]


class StateAxes:
    """Chooses the lane axis of each State of a Node by filters.

    It may stand wherever an int may in `in_axes` and `out_axes`, and as the `axis` of `stack`, `unstack` and `take`.
    With a PartitionSpec for each filter it may stand wherever one may in the `in_specs` and `out_specs` of `shard_map`.

    Args:
        axes: from filter to axis; None says that the State is not mapped. The first filter that matches decides.

    Raises:
        AxisError: an axis is neither an int, a PartitionSpec nor None.
        FilterError: `...` is not the last filter.

    Example:
        >>> import graphstate as gs
        >>> gs.StateAxes({gs.ParamState: 0, ...: None})
        StateAxes({ParamState: 0, ...: None})
    """

    __slots__ = ("_axes", "_predicates")

    def __init__(self, axes: Mapping[Filter, int | PartitionSpec | None]) -> None:
        for axis in axes.values():
            if axis is not None and (isinstance(axis, bool) or not isinstance(axis, int | PartitionSpec)):
                raise AxisError(
                    f"An axis in `StateAxes` is an int or None, but one is {axis!r} of type {type(axis).__name__}. For "
                    "`shard_map` it is a PartitionSpec or None."
                )
        check_order(tuple(axes))
        self._axes = tuple(axes.items())
        self._predicates = tuple((to_predicate(each), axis) for each, axis in self._axes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StateAxes) and self._axes == other._axes

    def __hash__(self) -> int:
        return hash(self._axes)

    def __repr__(self) -> str:
        items = (f"{_named(each)}: {axis}" for each, axis in self._axes)
        return f"StateAxes({{{', '.join(items)}}})"

    def by_filter(self) -> dict[Filter, int | PartitionSpec | None]:
        """The axis that each filter gives, in order."""
        return dict(self._axes)

    def axes(self) -> tuple[int | PartitionSpec | None, ...]:
        """All axes, in the order of the filters."""
        return tuple(axis for _, axis in self._axes)

    def find(self, paths: Sequence[Path], record: Any, default: Any) -> Any:
        """The axis of a State; `default` where no filter matches it."""
        for predicate, axis in self._predicates:
            if predicate.matches(paths, record):
                return axis
        return default

    def axis(self, paths: Sequence[Path], record: Any) -> int | None:
        """The axis of a State.

        Raises:
            AxisError: no filter matches it, or it is given a PartitionSpec.
        """
        axis = self._choose(paths, record)
        if isinstance(axis, PartitionSpec):
            raise AxisError(
                f"`StateAxes` gives {show_path(paths[0])} ({record.type.__name__}) the {axis!r}, which says how a mesh "
                "splits it, for `shard_map`; a lane axis is an int or None."
            )
        return axis

    def spec(self, paths: Sequence[Path], record: Any) -> Any:
        """How a mesh splits a State, where all axes are PartitionSpecs or None.

        Raises:
            AxisError: no filter matches it.
        """
        return self._choose(paths, record)

    def _choose(self, paths: Sequence[Path], record: Any) -> int | PartitionSpec | None:
        axis = self.find(paths, record, ...)
        if axis is ...:
            raise AxisError(
                f"`StateAxes` needs an axis for every state, but {show_path(paths[0])} ({record.type.__name__}) is "
                "matched by none of its filters. Add `...: None` as the last entry to leave the rest unmapped, or "
                "`...: 0` to map it."
            )
        return axis  # type: ignore[no-any-return]


def _named(each: Any) -> str:
    if each is ...:
        return "..."
    return each.__name__ if isinstance(each, type) else repr(each)
