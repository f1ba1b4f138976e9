"""`shapes`: how many numbers there are, along how many axes."""

from collections.abc import Sequence
from itertools import product

from hypothesis import strategies as st

from graphstate.testing._structure import choose

__all__ = ["shapes"]


@st.composite
def _shapes(draw: st.DrawFn, options: list[tuple[int, ...]]) -> tuple[int, ...]:
    return choose(draw, options)


def shapes(
    min_dims: int = 0, max_dims: int = 2, *, sides: Sequence[int] = (2, 3, 1), allow_empty: bool = False
) -> st.SearchStrategy[tuple[int, ...]]:
    """Draws shapes with few, small sides: each new shape is a compilation.

    Squares are among them, in which two axes can be mistaken for each other without an error.

    Args:
        min_dims: the least number of axes.
        max_dims: the largest number of axes.
        sides: the lengths of axes, simplest first.
        allow_empty: whether an axis may have length 0, too.

    Example:
        >>> import graphstate.testing as gst, hypothesis
        >>> hypothesis.find(gst.shapes(), lambda shape: len(shape) == 2)
        (2, 2)
    """
    lengths = (*sides, 0) if allow_empty else tuple(sides)
    return _shapes([shape for dims in range(min_dims, max_dims + 1) for shape in product(lengths, repeat=dims)])
