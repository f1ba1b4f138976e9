"""`pytrees`: containers of arrays, nested in each other."""

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import jax
from hypothesis import strategies as st

from graphstate.testing._structure import choose, several

from ._arrays import arrays

__all__ = ["Boxed", "Pair", "pytrees"]

Pair = namedtuple("Pair", ["first", "second"])
_DEPTH = 3


@jax.tree_util.register_pytree_with_keys_class
class Boxed:
    """A container that JAX knows by registration only."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __repr__(self) -> str:
        return f"Boxed({self.content!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Boxed) and bool(self.content == other.content)

    __hash__ = None  # type: ignore[assignment]  # as a list's: its content may change

    def tree_flatten_with_keys(self) -> tuple[Any, None]:
        """The content, and nothing static."""
        return ((jax.tree_util.GetAttrKey("content"), self.content),), None

    @classmethod
    def tree_unflatten(cls, static: None, children: Any) -> "Boxed":
        """A box with other content."""
        return cls(*children)


def pytrees(leaves: st.SearchStrategy[Any] | None = None, max_leaves: int = 4) -> st.SearchStrategy[Any]:
    """Draws pytrees of lists, tuples, dicts, namedtuples, None and a registered class; a bare leaf first.

    Args:
        leaves: a strategy for the leaves; None for `arrays()`.
        max_leaves: the largest number of leaves.

    Example:
        >>> import graphstate.testing as gst, hypothesis
        >>> hypothesis.find(gst.pytrees(), lambda tree: tree == [None])
        [None]
    """
    return _pytrees(arrays() if leaves is None else leaves, max_leaves)


@st.composite
def _pytrees(draw: st.DrawFn, leaves: st.SearchStrategy[Any], max_leaves: int) -> Any:
    return _subtree(draw, leaves, [max_leaves], _DEPTH)


def _subtree(draw: st.DrawFn, leaves: st.SearchStrategy[Any], room: list[int], depth: int) -> Any:
    """A pytree that takes its leaves from the number in `room`, and containers where there is none left."""
    kinds = ["leaf"] if room[0] else []
    kind = choose(draw, [*kinds, *(["dict", "list", "tuple", "pair", "box"] if depth else []), "none"])
    if kind == "none":
        return None
    if kind == "leaf":
        room[0] -= 1
        return draw(leaves)
    least, most = {"pair": (2, 2), "box": (1, 1)}.get(kind, (0, 3))
    parts = several(draw, least, most, lambda: _subtree(draw, leaves, room, depth - 1))
    return _CONTAINERS[kind](parts)


_CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "dict": lambda parts: dict(zip("abc", parts, strict=False)),
    "list": list,
    "tuple": tuple,
    "pair": lambda parts: Pair(*parts),
    "box": lambda parts: Boxed(*parts),
}
