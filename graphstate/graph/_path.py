"""Paths: tuples of str and int, written `layers/0/weight` in every message, checkpoint and filter."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

__all__ = [
    "Part",
    "Path",
    "as_part",
    "follow",
    "part_order",
    "path_from",
    "shorten_path",
    "show_path",
    "split_key",
    "write_path",
]

Part: TypeAlias = str | int
Path: TypeAlias = tuple[Part, ...]

_END = 8


def write_path(path: Iterable[Part]) -> str:
    """`path` as it is written: its parts with a slash between them.

    Example:
        >>> import graphstate as gs
        >>> gs.graph.write_path(("layers", 0, "weight"))
        'layers/0/weight'
    """
    return "/".join(map(str, path))


def show_path(path: Iterable[Part]) -> str:
    """`path` for a message, where the root must be seen too."""
    return f"`{shorten_path(path) or '(root)'}`"


def shorten_path(path: Iterable[Part]) -> str:
    """`path` as it is written, or, for a very long one, its two ends."""
    parts = tuple(path)
    if len(parts) <= 2 * _END:
        return write_path(parts)
    return f"{write_path(parts[:_END])}/...{len(parts) - 2 * _END} more.../{write_path(parts[-_END:])}"


def split_key(key: Any) -> Path:
    """The path that a key of a mapping stands for: a path, a written path, or one part."""
    if isinstance(key, tuple):
        return key
    if isinstance(key, str):
        return tuple(key.split("/")) if key else ()
    return (as_part(key),)


def as_part(key: Any) -> Part:
    """The path part of a dict key: str and int stand for themselves, all else for its text."""
    return key if type(key) in (str, int) else str(key)


def part_order(part: Part) -> tuple[int, Part]:
    """What parts are sorted by: numbers first, by size, then text."""
    return (0, part) if type(part) is int else (1, str(part))


def path_from(edges: Sequence[tuple[int, Part]], place: int, root: int) -> Path:
    """The path from `root` to `place` in a table that has one (parent, part) for each place."""
    parts = []
    while place != root:
        place, part = edges[place]
        parts.append(part)
    return tuple(reversed(parts))


def follow(children: Mapping[tuple[int, str], int], start: int, path: Sequence[Part], *, joined: bool) -> int | None:
    """The place that `path` leads to from `start`; None where it leads nowhere.

    Args:
        children: the child of a place under the text of a part.
        start: the place to begin at.
        path: parts, or their text.
        joined: whether there are parts with a slash in them, where a written path was split wrongly.
    """
    words = [str(part) for part in path]
    pending = [(start, 0)]
    while pending:
        place, position = pending.pop()
        if position == len(words):
            return place
        for end in range(len(words) if joined else position + 1, position, -1):
            child = children.get((place, "/".join(words[position:end])))
            if child is not None:
                pending.append((child, end))
    return None
