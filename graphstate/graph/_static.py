"""`Static`: a wrapper that makes any value static."""

from typing import Any

from ._heads import StaticKey

__all__ = ["Static"]


class Static:
    """Wraps a value that stays static whatever it is; an unhashable one compares by identity.

    Args:
        value: anything; read it back as `.value`.

    Example:
        >>> import graphstate as gs
        >>> node = gs.Node()
        >>> node.table = gs.graph.Static({"a": 1})
        >>> node.table.value["a"]
        1
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static):
            return False
        try:
            return StaticKey(self.value) == StaticKey(other.value)
        except TypeError:
            return self.value is other.value

    def __hash__(self) -> int:
        try:
            return hash(StaticKey(self.value))
        except TypeError:
            return hash(id(self.value))

    def __copy__(self) -> "Static":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Static":
        return self

    def __repr__(self) -> str:
        return f"Static({type(self.value).__name__})"
