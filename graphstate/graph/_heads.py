"""The closed set of records that a `GraphDef` is made of: one *head* for each place of a graph.

A head says what stands at a place, without its children; which children it has is kept beside it, as indices.
Heads are small, frozen and hashable, and code dispatches on their class.
"""

import enum
import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np

__all__ = [
    "ArrayHead",
    "DictHead",
    "Head",
    "ListHead",
    "MethodHead",
    "NodeHead",
    "OutsideHead",
    "PartialHead",
    "PytreeHead",
    "StateHead",
    "StaticHead",
    "StaticKey",
    "TupleHead",
    "WrapperHead",
    "node_head",
    "remembered",
    "state_head",
]

P = ParamSpec("P")
T = TypeVar("T")


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """A pure function that keeps its last few thousand results, with its own signature (types as arguments too)."""
    return functools.lru_cache(maxsize=4096)(function)  # type: ignore[return-value] # the cache forgets the signature


class StaticKey:
    """A static value that compares as structure: by type and value, 0.0 and -0.0 apart, NaN equal to NaN."""

    __slots__ = ("_hash", "_key", "value")

    def __init__(self, value: Hashable) -> None:
        self.value = value
        self._key = _comparable(value)
        self._hash = hash(self._key)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            type(other) is StaticKey and self._hash == other._hash and bool(self._key == other._key)
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return repr(self.value)

    def __reduce__(self) -> tuple[Any, ...]:
        return StaticKey, (self.value,)


def _comparable(value: Hashable) -> Hashable:
    kind = type(value)
    if kind is float:
        return float, value.hex()  # type: ignore[attr-defined]
    if kind is complex:
        return complex, value.real.hex(), value.imag.hex()  # type: ignore[attr-defined]
    if kind is tuple:
        return tuple, tuple(map(_comparable, value))  # type: ignore[call-overload]
    if kind is frozenset:
        return frozenset, frozenset(map(_comparable, value))  # type: ignore[call-overload]
    if isinstance(value, enum.Enum):
        return kind, value.name
    if isinstance(value, np.generic):
        return kind, str(value.dtype), value.tobytes()
    return kind, value


@dataclass(frozen=True, slots=True)
class NodeHead:
    """A Node, or an object of a registered class: its type and the names of its attributes, sorted."""

    type: type
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListHead:
    """A list."""


@dataclass(frozen=True, slots=True)
class TupleHead:
    """A tuple."""


@dataclass(frozen=True, slots=True)
class DictHead:
    """A dict: its keys, sorted, and where each stands in insertion order (iterating over it must not change)."""

    keys: tuple[StaticKey, ...]
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PytreeHead:
    """Any other pytree: one level of its treedef, and the path parts of its children."""

    treedef: Any
    parts: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class MethodHead:
    """A bound method of a Node of the graph; its child is that Node."""

    function: StaticKey


@dataclass(frozen=True, slots=True)
class WrapperHead:
    """A transformed function that reaches the graph; its child is the function."""

    wrapping: StaticKey


@dataclass(frozen=True, slots=True)
class PartialHead:
    """A `functools.partial`; its children are the function, the positional and the keyword arguments."""

    type: type
    positional: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StateHead:
    """A State: its type, tags and metadata, and what a subclass keeps in its `__dict__`."""

    type: type
    tags: frozenset[str]
    metadata: tuple[tuple[str, StaticKey], ...]
    extras: tuple[tuple[str, StaticKey], ...]


@dataclass(frozen=True, slots=True)
class ArrayHead:
    """An array that is an attribute or an element; a trace makes one of JAX of every numpy array, so they are one."""


@dataclass(frozen=True, slots=True)
class StaticHead:
    """A static value."""

    key: StaticKey


@dataclass(frozen=True, slots=True)
class OutsideHead:
    """An object that the walk stopped at: it belongs to the caller of a transform, and is used as it is."""


Head: TypeAlias = (
    NodeHead
    | ListHead
    | TupleHead
    | DictHead
    | PytreeHead
    | MethodHead
    | WrapperHead
    | PartialHead
    | StateHead
    | ArrayHead
    | StaticHead
    | OutsideHead
)


@remembered
def node_head(cls: type, names: tuple[str, ...]) -> NodeHead:
    """The one head of all Nodes of a class with these attributes."""
    return NodeHead(cls, names)


@remembered
def state_head(
    cls: type,
    tags: frozenset[str],
    metadata: tuple[tuple[str, StaticKey], ...],
    extras: tuple[tuple[str, StaticKey], ...],
) -> StateHead:
    """The one head of all States of this description."""
    return StateHead(cls, tags, metadata, extras)
