"""`axis_sizes`, `in_axes`, `out_axes`: how many lanes there are, and where they lie."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st

from graphstate.graph import Node, State
from graphstate.testing._structure import choose

__all__ = ["axis_sizes", "in_axes", "is_object", "out_axes"]

Axes = Any


def is_object(value: Any) -> bool:
    """Whether a part of an argument is a Node or State, which has axes of its own."""
    return isinstance(value, Node | State)


@st.composite
def _axis_sizes(draw: st.DrawFn, options: tuple[int, ...]) -> int:
    return choose(draw, options)


def axis_sizes(sizes: Sequence[int] = (2, 3, 1), *, allow_empty: bool = True) -> st.SearchStrategy[int]:
    """Draws numbers of lanes: 2 first, the fewest that can be mistaken for each other.

    Args:
        sizes: what to draw from, simplest first.
        allow_empty: whether to draw 0, too.

    Example:
        >>> import graphstate.testing as gst, hypothesis
        >>> hypothesis.find(gst.axis_sizes(), lambda size: size < 1)
        0
    """
    return _axis_sizes((*sizes, 0) if allow_empty else tuple(sizes))


def in_axes(
    example: tuple[Any, ...], *, none: bool = True, negative: bool = True, prefix: bool = True
) -> st.SearchStrategy[Axes]:
    """Draws `in_axes` for the arguments of one lane, 0 first; at least one leaf is mapped.

    Nodes and States are mapped at axis 0: use `state_axes` to choose by State.

    Args:
        example: the arguments of one lane, a tuple of pytrees of arrays.
        none: whether a leaf may be unmapped.
        negative: whether to count axes from the end, too.
        prefix: whether one axis may stand for all leaves of an argument, or for all arguments.

    Example:
        >>> import graphstate.testing as gst, hypothesis, numpy as np
        >>> example = (np.zeros((2, 3)), {"a": np.zeros(2), "b": np.zeros(())})
        >>> hypothesis.find(gst.in_axes(example), lambda axes: axes == (2, {"a": 1, "b": None}))
        (2, {'a': 1, 'b': None})
    """
    return _in_axes(example, none, negative, prefix)


def out_axes(example: Any, *, negative: bool = True, prefix: bool = True) -> st.SearchStrategy[Axes]:
    """Draws `out_axes` for the result of one lane, 0 first.

    Args:
        example: the result of one lane, a pytree of arrays or of anything with a `shape`.
        negative: whether to count axes from the end, too.
        prefix: whether one axis may stand for all leaves.

    Example:
        >>> import graphstate.testing as gst, hypothesis, numpy as np
        >>> hypothesis.find(gst.out_axes(np.zeros((2, 3))), lambda axis: axis > 1)
        2
    """
    return _out_axes(example, negative, prefix)


@st.composite
def _in_axes(draw: st.DrawFn, example: tuple[Any, ...], none: bool, negative: bool, prefix: bool) -> Axes:
    if not jax.tree.leaves(example, is_leaf=is_object):
        return 0
    axes = tuple(_tree_axes(draw, argument, none, negative, prefix) for argument in example)
    if not any(jax.tree.leaves(jax.tree.map(lambda axis: True, axes))):  # None is no leaf
        mapped = next(n for n, each in enumerate(example) if jax.tree.leaves(each, is_leaf=is_object))
        axes = (*axes[:mapped], 0, *axes[mapped + 1 :])
    one = axes[0] if isinstance(axes[0], int) and axes.count(axes[0]) == len(axes) else None
    if one is not None and prefix and choose(draw, [True, False]):
        return one
    return axes


@st.composite
def _out_axes(draw: st.DrawFn, example: Any, negative: bool, prefix: bool) -> Axes:
    return _tree_axes(draw, example, False, negative, prefix)


def _tree_axes(draw: st.DrawFn, example: Any, none: bool, negative: bool, prefix: bool) -> Axes:
    """An axis for each leaf, or one for all."""
    leaves = jax.tree.leaves(example, is_leaf=is_object)
    is_leaf = len(leaves) == 1 and leaves[0] is example
    if is_leaf or (prefix and choose(draw, [True, False])):
        return choose(draw, _options(leaves, none, negative))
    return jax.tree.map(lambda leaf: choose(draw, _options([leaf], none, negative)), example, is_leaf=is_object)


def _options(leaves: list[Any], none: bool, negative: bool) -> list[int | None]:
    """The axes that all of some leaves have once there are lanes, 0 first."""
    objects = any(is_object(leaf) for leaf in leaves)
    dims = 0 if objects else min((len(np.shape(leaf)) for leaf in leaves), default=0)
    options: list[int | None] = list(range(dims + 1))
    if negative and not objects:
        options += range(-1, -dims - 2, -1)
    if none and not objects:
        options.append(None)
    return options
