"""`match`: a checkpoint's manifest laid beside a graph: which value goes where, and all that does not fit.

Paths are compared as they are written, so that 0 and "0" are one. A path that the checkpoint knows by another name,
since it led to a State that was shared, is found by that name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax

from graphstate._trace import is_lost, outer_value, peek, unpack
from graphstate.errors import FilterError
from graphstate.filters import Filter, to_predicate
from graphstate.graph import _state as state_types
from graphstate.graph._heads import StaticKey
from graphstate.graph._layout import Record, layout_of
from graphstate.graph._path import Path, show_path, write_path
from graphstate.graph._selection import partition
from graphstate.graph._state import State
from graphstate.graph._summary import summarize_static, summarize_value
from graphstate.graph._walked import Walked

from ._manifest import Entry, Manifest, static_values, type_name
from ._records import fits, plain, take_apart

__all__ = ["Match", "match", "present_value"]


@dataclass(frozen=True, slots=True)
class Match:
    """What of a checkpoint goes where.

    Attributes:
        pairs: (number of a leaf of the graph, entry of the checkpoint), in the order of the graph.
        differences: what does not fit, one line each.
    """

    pairs: tuple[tuple[int, Entry], ...]
    differences: tuple[str, ...]


def present_value(leaf: Any) -> Any:
    """What a State or array holds; the types of what a State has lost."""
    if not isinstance(leaf, State):
        return leaf
    return peek(leaf) if is_lost(leaf) else unpack(outer_value(leaf))


def match(manifest: Manifest, flat: Walked, filters: Sequence[Filter]) -> Match:
    """Lays a checkpoint beside a graph.

    Raises:
        FilterError: the filters select nothing of the graph.
    """
    graphdef, layout = flat.graphdef, layout_of(flat.graphdef)
    chosen = partition(layout, flat.leaves, [tuple(filters)])[0].numbers if filters else range(len(flat.leaves))
    if filters and not chosen:
        raise FilterError(
            f"`restore` needs filters that select States of `like`, but {', '.join(map(str, filters))[:200]} match "
            "none. Look at the paths with `graphstate.states(like)`."
        )
    names = _Names(manifest)
    here = {graphdef.find(entry.path): index for index, entry in enumerate(manifest.entries)}
    taken: dict[int, Path] = {}
    pairs, lines = [], []
    for number in chosen:
        place = graphdef.leaves[number]
        path = graphdef.path(place)
        index = names.find(path)
        index = here.get(place) if index is None else index
        if index is None:
            lines.append(f"{_shown(path)}: not in the checkpoint")
            continue
        entry = manifest.entries[index]
        if index in taken:
            lines.append(f"{_shown(path)}: one with {show_path(taken[index])} in the checkpoint, but not here")
        taken.setdefault(index, path)
        present = take_apart(present_value(flat.leaves[number]), lambda _, leaf: leaf)
        if fits(entry.value, present):
            pairs.append((number, entry))
        else:
            lines.append(f"{_shown(path)}: needs {_summary(present)}, the checkpoint has {_summary(entry.value)}")
    lines += _left_over(manifest, flat, taken, filters)
    if not filters:
        lines += _other_statics(manifest.statics, static_values(flat))
    return Match(tuple(pairs), tuple(lines))


class _Names:
    """The entries of a checkpoint under all paths that led to them."""

    def __init__(self, manifest: Manifest) -> None:
        self._entries = {_text(entry.path): index for index, entry in enumerate(manifest.entries)}
        self._shared = {_text(other): _text(first) for first, others in manifest.shared.items() for other in others}

    def find(self, path: Path) -> int | None:
        """The number of the entry that a path led to."""
        words, seen = _text(path), set[tuple[str, ...]]()
        while words not in self._entries:
            if words in seen:
                return None
            seen.add(words)
            ends = (end for end in range(len(words), 0, -1) if words[:end] in self._shared)
            end = next(ends, None)
            if end is None:
                return None
            words = (*self._shared[words[:end]], *words[end:])
        return self._entries[words]


def _text(path: Path) -> tuple[str, ...]:
    return tuple(map(str, path))


def _shown(path: Path) -> str:
    return write_path(path) or "(root)"


def _summary(tree: Any) -> str:
    return summarize_value(plain(tree, lambda leaf: leaf))


def _left_over(manifest: Manifest, flat: Walked, taken: Mapping[int, Path], filters: Sequence[Filter]) -> Iterator[str]:
    """A line for each entry that nothing was found for, or that is one with another here."""
    classes = {type_name(cls): cls for cls in _known_classes(flat)}
    selects = to_predicate(tuple(filters)) if filters else None
    leaves = {place: number for number, place in enumerate(flat.graphdef.leaves)}
    restored = {_text(path) for path in taken.values()}
    for index, entry in enumerate(manifest.entries):
        if index in taken:
            continue
        place = flat.graphdef.find(entry.path)
        if place in leaves:
            first = flat.graphdef.path(place)
            if _text(first) in restored:
                yield f"{_shown(entry.path)}: one with {show_path(first)} here, but not in the checkpoint"
        elif selects is None or selects.matches([entry.path], _record(entry, classes)):
            yield f"{_shown(entry.path)}: in the checkpoint only"


def _known_classes(flat: Walked) -> Iterator[type]:
    yield from (getattr(state_types, name) for name in state_types.__all__)
    yield from {type(leaf) for leaf in flat.leaves}


def _record(entry: Entry, classes: Mapping[str, type]) -> Record:
    """What a filter is asked about for an entry that the graph has no State for."""
    return Record(
        classes.get(entry.type, State), frozenset(entry.tags), MappingProxyType({}), plain(entry.value, _struct)
    )


def _struct(leaf: Any) -> Any:
    if not hasattr(leaf, "dtype"):
        return leaf
    dtype = "uint32" if leaf.implementation else leaf.dtype
    return jax.ShapeDtypeStruct(leaf.shape, jax.numpy.dtype(dtype))


def _other_statics(saved: Mapping[str, Any], present: Mapping[str, Any]) -> Iterator[str]:
    for path, value in saved.items():
        if path in present and StaticKey(value) != StaticKey(present[path]):
            here = summarize_static(present[path])
            yield f"{path}: {summarize_static(value)} in the checkpoint, {here} here (a static value)"
