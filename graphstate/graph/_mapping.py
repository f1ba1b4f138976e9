"""What `states` and `nodes` return: a mapping from path to live object that takes written paths too."""

from collections.abc import Iterator, Mapping, Sequence, ValuesView
from typing import Any, Generic, TypeVar

from ._graphdef import GraphDef
from ._layout import Layout, layout_of
from ._path import Path, split_key, write_path

__all__ = ["PathMapping"]

T = TypeVar("T")


class PathMapping(Mapping[Path, T], Generic[T]):
    """Live objects of a graph by path, each once; `m["layers/0/weight"]` works too.

    Paths are written out at the first look: those of ten thousand Nodes in a chain are long.

    Args:
        graphdef: the structure of the graph.
        items: the objects by place, in order.

    Example:
        >>> import graphstate as gs
        >>> gs.states(gs.nn.Linear(2, 3), gs.ParamState)["weight"].value.shape
        (2, 3)
    """

    __slots__ = ("_graphdef", "_items", "_paths")

    def __init__(self, graphdef: GraphDef, places: Sequence[int], items: Sequence[T]) -> None:
        self._graphdef = graphdef
        self._items = dict(zip(places, items, strict=True))
        self._paths: dict[Path, int] | None = None

    def _by_path(self) -> dict[Path, int]:
        if self._paths is None:
            self._paths = {self._graphdef.path(place): place for place in self._items}
        return self._paths

    @property
    def layout(self) -> Layout:
        """The layout of a GraphState with a value for each of these States."""
        numbers = {place: index for index, place in enumerate(self._graphdef.leaves)}
        return layout_of(self._graphdef).select(numbers[place] for place in self._items)

    def __getitem__(self, path: Path | str) -> T:
        place = self._graphdef.find(split_key(path))
        if place is None or place not in self._items:
            shown = [write_path(each) or "(root)" for each in list(self._by_path())[:6]]
            raise KeyError(
                f"nothing at {write_path(split_key(path))!r}; there are {', '.join(shown)}{', ...' * (len(self) > 6)}"
            )
        return self._items[place]

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str | tuple | int) and self._graphdef.find(split_key(path)) in self._items

    def __iter__(self) -> Iterator[Path]:
        return iter(self._by_path())

    def __len__(self) -> int:
        return len(self._items)

    def values(self) -> ValuesView[T]:
        """The objects, in the order of the paths."""
        return self._items.values()

    def __repr__(self) -> str:
        shown = list(self._items.items())[:20]
        lines = [f"  {write_path(self._graphdef.path(place)) or '(root)'}: {_line_of(item)}" for place, item in shown]
        if len(self) > len(lines):
            lines.append(f"  ... {len(self) - len(lines)} more")
        return "\n".join([f"{len(self)} at:", *lines]) if lines else "nothing selected"


def _line_of(item: Any) -> str:
    text = repr(item)
    return f"{type(item).__name__}(...)" if "\n" in text else text
