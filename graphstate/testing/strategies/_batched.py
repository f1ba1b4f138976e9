"""`batched`: arguments of several lanes, no two of which are alike.

Lanes that are equal hide a mistake about lanes, and hypothesis likes equal numbers. Therefore each lane of an argument
is drawn again until it differs from those before it, and a case in which two lanes have all in common is given up, but
for bools, of which there are only two. All lanes have the structure of the first.
"""

from collections.abc import Mapping
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

from graphstate.testing._case import BatchCase

from ._arrays import drawn
from ._axes import axis_sizes, in_axes
from ._lanes import Placed, draw_lanes, place

__all__ = ["batched"]


def batched(
    *args: st.SearchStrategy[Any],
    axis_size: int | st.SearchStrategy[int] | None = None,
    in_axes: Any = None,
    out_axes: Any = 0,
    **kwargs: st.SearchStrategy[Any],
) -> st.SearchStrategy[BatchCase]:
    """Draws the arguments of a mapped function as a `BatchCase`, with lanes that differ from each other.

    Args:
        *args: a strategy for each argument of one lane: an array, a pytree of arrays, a key, a Node.
        axis_size: the number of lanes, or a strategy for it; None for 2, 3 and 1.
        in_axes: the axes of the lanes as in `vmap`, or a strategy for them; None for all that the arguments have, None
            among them. For a function that takes a batch as it is, without `vmap`, give 0.
        out_axes: the axes of the lanes in the result, or a strategy for them.
        **kwargs: a strategy for each keyword argument; they are mapped at axis 0.

    Raises:
        StrategyError: the lanes of an argument have different structures. The strategies of this package draw all
            lanes alike; shapes that others draw must be fixed.

    Example:
        >>> import graphstate.testing as gst, hypothesis
        >>> case = hypothesis.find(gst.batched(gst.arrays(), in_axes=0), lambda case: case.axis_size == 2)
        >>> case.args[0].shape, case.args[0][0] == case.args[0][1]
        ((2,), np.False_)
    """
    return _batched(args, kwargs, axis_size, in_axes, out_axes)


@st.composite
def _batched(
    draw: st.DrawFn,
    args: tuple[st.SearchStrategy[Any], ...],
    kwargs: Mapping[str, st.SearchStrategy[Any]],
    size: Any,
    axes: Any,
    out_axes: Any,
) -> BatchCase:
    size = draw(axis_sizes(allow_empty=False)) if size is None else drawn(draw, size)
    lanes = [draw_lanes(draw, each, max(size, 1)) for each in args]
    named = {name: draw_lanes(draw, each, max(size, 1)) for name, each in kwargs.items()}
    axes = draw(in_axes(tuple(each.first for each in lanes))) if axes is None else drawn(draw, axes)
    each_axes = axes if isinstance(axes, tuple | list) else (axes,) * len(lanes)
    placed = [place(each, axis) for each, axis in zip(lanes, each_axes, strict=True)]
    placed_named = {name: place(each, 0) for name, each in named.items()}
    _check_distinct([*placed, *placed_named.values()], size)
    return BatchCase(
        axis_size=size,
        args=tuple(each.joined(size) for each in placed),
        kwargs={name: each.joined(size) for name, each in placed_named.items()},
        in_axes=axes,
        out_axes=drawn(draw, out_axes),
    )


def _check_distinct(placed: list[Placed], size: int) -> None:
    """Gives up a case with two lanes that are alike, unless there are too few values."""
    lanes = {tuple(each.identity(lane) for each in placed) for lane in range(size)}
    leaves = [leaf for each in placed for leaf in each.mapped(0)]
    few = all(leaf.dtype.kind == "b" for leaf in leaves) and 2 ** sum(leaf.size for leaf in leaves) < size
    if leaves and not few and len(lanes) < size:
        reject()
