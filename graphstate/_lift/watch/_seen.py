"""Python values that a function refers to, as they were seen, and whether they are still the same.

Graph objects and arrays are held weakly and compared by identity. Lists, dicts, sets and the attributes of plain
instances are looked into, each once, since they can be changed in place. Everything else is compared by
identity.
"""

import collections
import functools
import itertools
import types
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final

import jax
import numpy as np

from graphstate.graph._attributes import is_graph_object
from graphstate.graph._heads import StaticKey

from ._names import Names

__all__ = ["Seen", "by_id", "is_instance", "iter_parts", "see", "told_changes", "weak"]

_ATOMS: Final = frozenset({int, float, bool, str, bytes, complex, type(None)})
_OPAQUE: Final = (
    types.ModuleType,
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    functools.partial,
    jax.Array,
    np.ndarray,
    np.generic,
    np.dtype,
)
_SEQUENCES: Final = (list, tuple, collections.deque)
_MAPPINGS: Final = (dict, types.MappingProxyType)


class Seen:
    """One value as it was seen.

    Attributes:
        value: the value, unless it is held weakly.
        ref: a weak reference to it, if it is.
        keys: the keys of its parts; None for a value without parts.
        parts: its parts.
        names: of an instance the attributes that count; None for all.
    """

    __slots__ = ("keys", "kind", "names", "parts", "ref", "value")

    def __init__(
        self,
        value: Any,
        ref: Callable[[], Any] | None,
        kind: type,
        keys: Any,
        parts: "list[Seen] | None",
        names: Names = None,
    ) -> None:
        self.value = value
        self.ref = ref
        self.kind = kind
        self.keys = keys
        self.parts = parts
        self.names = names

    def is_same(self, value: Any) -> bool:
        """Whether `value` is what was seen."""
        if self.parts is None:
            return (self.value if self.ref is None else self.ref()) is value
        if type(value) is not self.kind or (self.ref is not None and self.ref() is not value):
            return False
        keys, items = _parts_of(value, self.names)
        return bool(keys == self.keys) and all(part.is_same(item) for part, item in zip(self.parts, items, strict=True))

    def key(self) -> Hashable:
        """What programs are filed under: static values by value, all else by identity."""
        if self.parts is not None:
            keys = tuple(map(_static_key, self.keys)) if isinstance(self.keys, tuple) else self.keys
            return (self.kind, keys, tuple(part.key() for part in self.parts))
        value = self.value if self.ref is None else self.ref()
        return _static_key(value)

    def changes(self, value: Any) -> Iterator[tuple[Hashable, ...]]:
        """Where `value` differs: the keys that lead to each part that does."""
        if self.parts is None or type(value) is not self.kind:
            if not self.is_same(value):
                yield ()
            return
        keys, items = _parts_of(value, self.names)
        if keys != self.keys:
            # A list that was appended to, a set that was added to: as a whole. A dict: by the keys that came or went.
            if not isinstance(keys, tuple):
                yield ()
                return
            yield (_KEYS,)
        now = dict(zip(keys if isinstance(keys, tuple) else range(len(items)), items, strict=True))
        for name, part in zip(self._names(), self.parts, strict=True):
            if name in now:
                for path in part.changes(now[name]):
                    yield (name, *path)

    def without(self, ignored: set[tuple[Hashable, ...]]) -> "Seen | None":
        """What remains to be compared where changes at these places do not count; None where nothing does."""
        if () in ignored:
            return None
        if self.parts is None or not ignored:
            return self
        return _Partial(self, ignored)

    @property
    def is_plain(self) -> bool:
        """Whether it is a number, a text or None."""
        return self.parts is None and self.kind in _ATOMS

    @property
    def is_frozen(self) -> bool:
        """Whether it stays the same as long as it is the same object, which may be held for comparison."""
        if self.ref is not None or self.parts is None:
            return self.ref is None
        return issubclass(self.kind, tuple) and all(part.is_frozen for part in self.parts)

    def _names(self) -> Any:
        return self.keys if isinstance(self.keys, tuple) else range(len(self.parts or ()))


_KEYS: Final = "keys of the container itself"


class _Partial(Seen):
    """What was seen, of which some parts do not count."""

    __slots__ = ("_ignored", "_kept")

    def __init__(self, seen: Seen, ignored: set[tuple[Hashable, ...]]) -> None:
        super().__init__(seen.value, seen.ref, seen.kind, seen.keys, seen.parts, seen.names)
        self._ignored = ignored
        kept: dict[Any, Seen] = {}
        for name, part in zip(seen._names(), seen.parts or (), strict=True):
            below = {path[1:] for path in ignored if path[0] == name}
            remaining = part.without(below)
            if remaining is not None:
                kept[name] = remaining
        self._kept = kept

    def is_same(self, value: Any) -> bool:
        if type(value) is not self.kind or (self.ref is not None and self.ref() is not value):
            return False
        keys, items = _parts_of(value, self.names)
        if keys != self.keys and (_KEYS,) not in self._ignored:
            return False
        now = dict(zip(keys if isinstance(keys, tuple) else range(len(items)), items, strict=True))
        return all(name in now and part.is_same(now[name]) for name, part in self._kept.items())

    def key(self) -> Hashable:
        return (self.kind, tuple((name, part.key()) for name, part in self._kept.items()))

    @property
    def is_frozen(self) -> bool:
        return False


class _Again(Seen):
    """A container or instance that was met before, and is compared there; here it must only be the same one."""

    __slots__ = ("_id",)

    def __init__(self, value: Any) -> None:
        super().__init__(None, None, type(value), None, None)
        self._id = id(value)

    def is_same(self, value: Any) -> bool:
        return id(value) == self._id

    def key(self) -> Hashable:
        return None

    @property
    def is_frozen(self) -> bool:
        return False


def see(value: Any, names: Names, met: set[int]) -> Seen:
    """`value` as it is now.

    Args:
        value: any object.
        names: of plain instances the attributes that count; None for all.
        met: the ids of the containers and instances that were looked into before; this call adds to it.
    """
    if is_graph_object(value) or isinstance(value, jax.Array | np.ndarray):
        return Seen(None, weak(value), type(value), None, None)
    if not _has_parts(value):
        return Seen(value, None, type(value), None, None)
    if id(value) in met:
        return _Again(value)
    met.add(id(value))
    counting = None if hasattr(type(value), "__getattr__") else names
    keys, items = _parts_of(value, counting)
    held = None if isinstance(value, (*_SEQUENCES, *_MAPPINGS, set, frozenset)) else weak(value)
    return Seen(None, held, type(value), keys, [see(item, names, met) for item in items], counting)


def told_changes(name: str, seen: Seen, value: Any) -> Iterator[str]:
    """Where `value` differs from what was seen, as messages say it.

    Args:
        name: how they call it.
        seen: what was seen.
        value: what is there now.
    """
    if seen.parts is None or type(value) is not seen.kind:
        if not seen.is_same(value):
            kind = seen.kind.__name__
            if seen.kind is type(value) and not seen.is_plain:
                yield f"{name}: became another {kind}"
            else:
                before = repr(seen.value) if seen.is_plain else f"a {kind}"
                after = repr(value)[:60] if type(value) in _ATOMS else f"a {type(value).__name__}"
                yield f"{name}: {before} became {after}"
        return
    keys, items = _parts_of(value, seen.names)
    if keys != seen.keys:
        yield f"{name}: {'the keys' if isinstance(keys, tuple | frozenset) else 'the length'} changed"
    now = dict(zip(keys if isinstance(keys, tuple) else range(len(items)), items, strict=False))
    is_instance_of = not isinstance(value, (*_SEQUENCES, *_MAPPINGS))
    for key, part in zip(seen._names(), seen.parts, strict=True):
        if key in now:
            yield from told_changes(f"{name}.{key}" if is_instance_of else f"{name}[{key!r}]", part, now[key])


def _has_parts(value: Any) -> bool:
    """Whether `value` is looked into."""
    if type(value) in _ATOMS or isinstance(value, _OPAQUE):
        return False
    return isinstance(value, (*_SEQUENCES, *_MAPPINGS, set, frozenset)) or is_instance(value)


def is_instance(value: Any) -> bool:
    """Whether `value` is a plain object whose attributes are looked at."""
    if isinstance(value, _OPAQUE) or is_graph_object(value) or hasattr(value, "__wrapped__"):
        return False
    if type(value).__module__.partition(".")[0] in _NOT_FOLLOWED:
        return False
    return hasattr(value, "__dict__") or bool(_slots_of(value))


# Objects of these packages are known not to hold what users change.
_NOT_FOLLOWED: Final = frozenset(
    {"builtins", "jax", "jaxlib", "numpy", "graphstate", "functools", "typing", "logging", "threading", "_thread"}
)


def _slots_of(value: Any) -> tuple[str, ...]:
    cls: Any = type(value)
    return _slots(cls)


@functools.lru_cache(maxsize=1024)
def _slots(cls: Hashable) -> tuple[str, ...]:
    names: list[str] = []
    for base in cls.__mro__:  # type: ignore[attr-defined]
        declared = base.__dict__.get("__slots__", ())
        names += [declared] if isinstance(declared, str) else declared
    return tuple(name for name in names if not name.startswith("__"))


def _parts_of(value: Any, names: Names = None) -> tuple[Any, list[Any]]:
    """The keys of a container and its parts; of an instance those of these names."""
    if isinstance(value, _MAPPINGS):
        return tuple(value), list(value.values())
    if isinstance(value, _SEQUENCES):
        return len(value), list(value)
    if isinstance(value, set | frozenset):
        return frozenset(value), []
    attributes = dict(getattr(value, "__dict__", {}))
    attributes.update((name, getattr(value, name)) for name in _slots_of(value) if hasattr(value, name))
    if names is not None:
        attributes = {name: item for name, item in attributes.items() if name in names}
    return tuple(attributes), list(attributes.values())


def iter_parts(name: str, value: Any, names: Names, met: set[int]) -> Iterator[tuple[str, Any]]:
    """`value` and all that is looked at inside of it, with how messages call it; what was `met` is passed over."""
    yield name, value
    if is_graph_object(value) or not _has_parts(value) or id(value) in met:
        return
    met.add(id(value))
    keys, items = _parts_of(value, None if hasattr(type(value), "__getattr__") else names)
    for key, item in zip(keys if isinstance(keys, tuple) else itertools.count(), items, strict=False):
        label = f"{name}[{key!r}]" if isinstance(value, (*_SEQUENCES, *_MAPPINGS)) else f"{name}.{key}"
        yield from iter_parts(label, item, names, met)


def _static_key(value: Any) -> Hashable:
    return StaticKey(value) if type(value) in _ATOMS else by_id(value)


def weak(value: Any) -> Callable[[], Any]:
    """A weak reference to `value`, or what stands for one where there is none."""
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


class by_id:  # noqa: N801, reads as a function
    """An object as a key: equal to itself only, and held weakly where that is possible."""

    __slots__ = ("_id", "_ref")

    def __init__(self, value: Any) -> None:
        self._id = id(value)
        self._ref = weak(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, by_id) and self._id == other._id and self._ref() is other._ref() is not None

    def __hash__(self) -> int:
        return self._id >> 4

    def get(self) -> Any:
        """The object; None where it is gone."""
        return self._ref()
