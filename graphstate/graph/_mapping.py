"""What `states` and `nodes` return: a mapping from path to live object that takes written paths too."""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any, Final, Generic, TypeVar

from ._graphdef import GraphDef
from ._layout import Layout, layout_of
from ._path import Path, split_key, write_path
from ._picker import picker

__all__ = ["PathItems", "PathKeys", "PathMapping", "Places"]

T = TypeVar("T")

_LONG: Final = 100


class Places:
    """Some places of a graph, which a call selects; kept with the GraphDef, so that it must not hold it.

    Attributes:
        numbers: the places, in order.
        pick: picks what stands there from the objects of all places.
    """

    __slots__ = ("_paths", "numbers", "pick")

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = numbers
        self.pick = picker(numbers)
        self._paths: Sequence[Path] | None = None

    def paths(self, graphdef: GraphDef) -> Sequence[Path]:
        """Their first paths, written out when they are first asked for."""
        if self._paths is not None:
            return self._paths
        paths = [graphdef.path(place) for place in self.numbers]
        # Those of ten thousand Nodes in a chain take more memory than the chain.
        if sum(map(len, paths)) <= _LONG * len(paths):
            self._paths = paths
        return paths


class PathKeys(KeysView[Path]):
    """The paths of a mapping; a written path is in it, too."""

    __slots__ = ()

    _mapping: Mapping[Path, Any]

    def __iter__(self) -> Iterator[Path]:
        return iter(self._mapping)


class PathItems(ItemsView[Path, T]):
    """The paths and objects of a mapping; none of them is looked up to be listed."""

    __slots__ = ()

    _mapping: Mapping[Path, T]

    def __iter__(self) -> Iterator[tuple[Path, T]]:
        return zip(self._mapping, self._mapping.values(), strict=True)


class PathMapping(Mapping[Path, T], Generic[T]):
    """Live objects of a graph by path, each once; `m["layers/0/weight"]` works too.

    Paths are written out at the first look: those of ten thousand Nodes in a chain are long.

    Args:
        graphdef: the structure of the graph.
        places: where the objects stand in it.
        objects: the objects of all its places.

    Example:
        >>> import graphstate as gs
        >>> gs.states(gs.nn.Linear(2, 3), gs.ParamState)["weight"].value.shape
        (2, 3)
    """

    __slots__ = ("_graphdef", "_items", "_paths", "_places")

    def __init__(self, graphdef: GraphDef, places: Places, objects: Sequence[Any]) -> None:
        self._graphdef = graphdef
        self._places = places
        self._items: dict[int, T] = dict(zip(places.numbers, places.pick(objects), strict=True))
        self._paths: Sequence[Path] | None = None

    @property
    def layout(self) -> Layout:
        """The layout of a GraphState with a value for each of these States."""
        numbers = {place: index for index, place in enumerate(self._graphdef.leaves)}
        return layout_of(self._graphdef).select(numbers[place] for place in self._items)

    def __getitem__(self, path: Path | str) -> T:
        place = self._graphdef.find(split_key(path))
        if place is None or place not in self._items:
            shown = [write_path(each) or "(root)" for each in list(self)[:6]]
            raise KeyError(
                f"nothing at {write_path(split_key(path))!r}; there are {', '.join(shown)}{', ...' * (len(self) > 6)}"
            )
        return self._items[place]

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str | tuple | int) and self._graphdef.find(split_key(path)) in self._items

    def __iter__(self) -> Iterator[Path]:
        if self._paths is None:
            self._paths = self._places.paths(self._graphdef)
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._items)

    def keys(self) -> KeysView[Path]:
        """The paths."""
        return PathKeys(self)

    def items(self) -> ItemsView[Path, T]:
        """The paths and objects."""
        return PathItems(self)

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
