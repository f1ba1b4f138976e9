"""In how many ways a place is reached.

A State that is shared has several paths, and in a graph of diamonds there are exponentially many. What is kept is
therefore a table of references, (parent, part) for each way that leads to a place, and paths are written out from
it only when somebody asks for them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, overload

from ._path import Part, Path

__all__ = ["Paths", "References", "Ways"]

References: TypeAlias = Sequence[Sequence[tuple[int, Part]]]


class Paths(Sequence[Path]):
    """All paths of one place, the first one first, written out at the first look."""

    __slots__ = ("_paths", "_write")

    def __init__(self, write: Callable[[], tuple[Path, ...]]) -> None:
        self._write = write
        self._paths: tuple[Path, ...] | None = None

    def _all(self) -> tuple[Path, ...]:
        if self._paths is None:
            self._paths = self._write()
        return self._paths

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | Sequence[Path]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[Path]:
        return iter(self._all())

    def __repr__(self) -> str:
        return repr(self._all())


class Ways:
    """The paths of the places of one graph that pass no place twice.

    Args:
        references: for each place every (parent, part) that leads to it, the first one met first; the root is place 0.
    """

    __slots__ = ("_children", "_found", "references")

    def __init__(self, references: References) -> None:
        self.references = references
        self._found: dict[int, tuple[Path, ...]] = {0: ((),)}
        self._children: list[list[int]] | None = None

    def paths(self, place: int) -> tuple[Path, ...]:
        """The paths of `place`; those through its first references come first."""
        suffix: list[Part] = []
        while place not in self._found and len(self.references[place]) == 1:
            # What is reached in one way lies on no path to its parent, so that the parent's paths decide.
            place, part = self.references[place][0]
            suffix.append(part)
        if place not in self._found:
            self._found[place] = tuple(self._search(place))
        suffix.reverse()
        return tuple((*path, *suffix) for path in self._found[place])

    def _search(self, place: int) -> Iterator[Path]:
        """Goes from `place` back to the root, along all references."""
        reachable = self._reached_without(place)
        passed, trail, suffix = {place}, [place], list[Part]()
        pending = [iter(self.references[place])]
        while pending:
            for parent, part in pending[-1]:
                if parent == 0:
                    yield (part, *reversed(suffix))
                elif parent in reachable and parent not in passed:
                    passed.add(parent)
                    trail.append(parent)
                    suffix.append(part)
                    pending.append(iter(self.references[parent]))
                    break
            else:
                pending.pop()
                passed.discard(trail.pop())
                if suffix:
                    suffix.pop()

    def _reached_without(self, place: int) -> set[int]:
        """The places that are reached from the root without passing `place`.

        Without this the search would look for a root in all that lies below a place with a reference to its parent.
        """
        if self._children is None:
            self._children = [[] for _ in self.references]
            for child, references in enumerate(self.references):
                for parent, _ in references:
                    self._children[parent].append(child)
        reached, pending = {0}, [0]
        while pending:
            for child in self._children[pending.pop()]:
                if child != place and child not in reached:
                    reached.add(child)
                    pending.append(child)
        return reached
