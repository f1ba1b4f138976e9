"""`Manifest`: what a checkpoint says of the graph that was saved, and the arrays that go with it."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._compat import Tracer
from graphstate._trace import outer_value, unpack
from graphstate.errors import CheckpointError, DonatedError, StateTypeError, TraceContextError
from graphstate.graph._heads import NodeHead, StaticHead
from graphstate.graph._path import Part, Path, show_path, write_path
from graphstate.graph._select import shared
from graphstate.graph._state import State
from graphstate.graph._summary import summarize_value
from graphstate.graph._walked import Walked, walk

from ._records import ArrayRecord, decode, encode, is_key, take_apart

__all__ = ["Entry", "Manifest", "manifest_of", "static_values", "walk_values"]

FORMAT: Final = 1
"""The version of what `to_json` writes."""

Static = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Entry:
    """One State, or one array: its first path, the name of its type, its tags, and its value as a record."""

    path: Path
    type: str
    tags: tuple[str, ...]
    value: Any


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was saved.

    Attributes:
        entries: each State and array.
        shared: the first path of what was reached in several ways, and its other paths.
        statics: the attributes that are numbers or text, by written path.
        sums: a checksum for each array, by its name in the store.
    """

    entries: tuple[Entry, ...]
    shared: Mapping[Path, tuple[Path, ...]]
    statics: Mapping[str, Static]
    sums: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON."""
        return {
            "format": FORMAT,
            "entries": [[list(each.path), each.type, list(each.tags), encode(each.value)] for each in self.entries],
            "shared": [[list(path), [list(other) for other in others]] for path, others in self.shared.items()],
            "statics": dict(self.statics),
            "sums": dict(self.sums),
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Manifest":
        """What `to_json` wrote.

        Raises:
            CheckpointError: a later version of graphstate wrote it.
        """
        if given["format"] != FORMAT:
            raise CheckpointError(
                f"This version of graphstate reads checkpoints of format {FORMAT}, but this one has format "
                f"{given['format']}. Install the version that wrote it, or a later one."
            )
        return cls(
            tuple(Entry(tuple(path), kind, tuple(tags), decode(value)) for path, kind, tags, value in given["entries"]),
            {tuple(path): tuple(map(tuple, others)) for path, others in given["shared"]},
            given["statics"],
            given["sums"],
        )


def walk_values(target: Any, call: str) -> Walked:
    """Walks a graph that has a place for values.

    Raises:
        StateTypeError: it has neither a Node nor a State nor an array.
    """
    flat = walk(target)
    if not flat.leaves and not any(isinstance(head, NodeHead) for head in flat.graphdef.heads):
        raise StateTypeError(
            f"`{call}` needs a Node, or a pytree of Nodes, States and arrays, but {summarize_value(target)} of type "
            f"{type(target).__name__} holds none. Give the object itself, not its class or what makes it."
        )
    return flat


def manifest_of(target: Any, call: str) -> tuple[Manifest, dict[str, Any]]:
    """What is to be written of a graph: the manifest, without its checksums, and the arrays by name.

    Raises:
        StateTypeError: the graph holds a `ShapeDtypeStruct`, or nothing that has a value.
        DonatedError: the buffer of an array is gone.
        TraceContextError: the graph holds a tracer.
    """
    flat = walk_values(target, call)
    arrays: dict[str, Any] = {}
    entries = []
    for place, leaf in zip(flat.graphdef.leaves, flat.leaves, strict=True):
        path = flat.graphdef.path(place)
        value = unpack(outer_value(leaf)) if isinstance(leaf, State) else leaf
        record = take_apart(value, functools.partial(_record, arrays, path))
        tags = sorted(leaf.tags, key=str) if isinstance(leaf, State) else ()
        entries.append(Entry(path, type_name(type(leaf)), tuple(map(str, tags)), record))
    return Manifest(tuple(entries), shared(flat.graphdef), static_values(flat), {}), arrays


def type_name(cls: type) -> str:
    """How a checkpoint writes a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def static_values(flat: Walked) -> dict[str, Static]:
    """The static values of a graph that are numbers or text, by written path."""
    found: dict[str, Static] = {}
    for place, head in enumerate(flat.graphdef.heads):
        value: Any = head.key.value if isinstance(head, StaticHead) else None
        if type(value) in (bool, int, float, str):
            found[write_path(flat.graphdef.path(place))] = value
    return found


def _record(arrays: dict[str, Any], path: Path, inner: tuple[Part, ...], leaf: Any) -> Any:
    """What is written of an array or number; arrays are put aside under a name of their own."""
    if not hasattr(leaf, "dtype") and isinstance(leaf, bool | int | float | complex):
        return leaf
    _check(path, leaf)
    name = write_path((*path, *inner))
    while name in arrays:
        name += "'"
    shape, dtype = tuple(leaf.shape), str(leaf.dtype)
    if not isinstance(leaf, jax.Array):
        arrays[name] = np.array(leaf, leaf.dtype.newbyteorder("="))  # the store knows the order of this machine only
        return ArrayRecord(name, shape, str(arrays[name].dtype), host=True)
    if is_key(leaf):
        arrays[name] = jax.random.key_data(leaf)
        return ArrayRecord(name, shape, dtype, implementation=str(jax.random.key_impl(leaf)))
    arrays[name] = leaf
    return ArrayRecord(name, shape, dtype, weak=bool(leaf.aval.weak_type))


def _check(path: Path, leaf: Any) -> None:
    if isinstance(leaf, Tracer):
        raise TraceContextError(
            f"A checkpoint holds values, but {show_path(path)} is a tracer. Save outside of the transformed function."
        )
    if isinstance(leaf, jax.ShapeDtypeStruct):
        raise StateTypeError(
            f"A checkpoint holds values, but {show_path(path)} is a ShapeDtypeStruct. Save a model that has been built."
        )
    if isinstance(leaf, jax.Array) and leaf.is_deleted():
        raise DonatedError(
            f"{show_path(path)} cannot be saved: its array was deleted, or donated to a call of JAX. Save before that "
            "call, or write the value anew."
        )
    if not _is_numeric(leaf):
        raise StateTypeError(
            f"A checkpoint holds arrays of numbers, but {show_path(path)} is a {type(leaf).__name__} "
            f"({getattr(leaf, 'dtype', 'no array')}). Save it by other means."
        )


def _is_numeric(leaf: Any) -> bool:
    if isinstance(leaf, jax.Array):
        return True
    if not isinstance(leaf, np.ndarray | np.generic) or isinstance(leaf, np.ma.MaskedArray):
        return False
    return bool(jnp.issubdtype(leaf.dtype, np.number) or leaf.dtype == bool)
