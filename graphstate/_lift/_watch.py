"""What a function depends on besides its arguments, and whether any of it has changed.

A `Watch` follows the references of a function: closure cells, defaults, named globals (also those of functions defined
inside it and of helpers from the same module), what it wraps or is bound to, and one level into plain containers and
instances. Nodes and States found there are roots of the graph; everything else is compared on each call.
"""

import functools
import itertools
import types
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final

import jax
import numpy as np

from graphstate._trace import Home
from graphstate.errors import TraceContextError
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._flatten import Flat, flatten, is_unchanged
from graphstate.graph._heads import StaticKey
from graphstate.graph._path import write_path
from graphstate.graph._references import SELF, Reference, iter_references
from graphstate.graph._state import State

from ._plan import plan_of

__all__ = ["Watch"]

_serials: Final = itertools.count(1)
_ATOMS: Final = frozenset({int, float, bool, str, bytes, complex, type(None)})
_UNCHANGING: Final = (types.ModuleType, type, types.BuiltinFunctionType)
_DEPTH: Final = 3


class _Seen:
    """Something a function refers to, as it was seen; held weakly where it may be large."""

    __slots__ = ("parts", "ref", "value")

    def __init__(self, value: Any, depth: int = 0) -> None:
        self.ref: weakref.ref[Any] | None = None
        self.value: Any = None
        self.parts: tuple[Any, list[_Seen]] | None = None
        kind = type(value)
        if kind in (list, tuple, dict) and depth < _DEPTH:
            keys, items = _elements(value)
            self.value = kind
            self.parts = (keys, [_Seen(item, depth + 1) for item in items])
        elif is_graph_object(value) or isinstance(value, jax.Array | np.ndarray):
            self.ref = weakref.ref(value)
        elif depth == 0 and _is_instance(value):
            self.ref = weakref.ref(value)
            self.parts = (tuple(vars(value)), [_Seen(item, _DEPTH) for item in vars(value).values()])
        else:
            self.value = value

    def matches(self, value: Any) -> bool:
        """Whether `value` is what was seen."""
        if self.parts is None:
            return (self.ref() if self.ref is not None else self.value) is value
        keys, seen = self.parts
        if self.ref is not None:
            if self.ref() is not value:
                return False
            now_keys, items = tuple(vars(value)), list(vars(value).values())
        else:
            if type(value) is not self.value:
                return False
            now_keys, items = _elements(value)
        return now_keys == keys and all(part.matches(item) for part, item in zip(seen, items, strict=True))

    def key(self) -> Hashable:
        """What programs are filed under: static values by value, all else by identity."""
        if self.parts is not None:
            keys, seen = self.parts
            return (self.value, keys, tuple(part.key() for part in seen))
        if self.ref is not None:
            value = self.ref()
            return None if is_graph_object(value) else _ById(value)
        return StaticKey(self.value) if type(self.value) in _ATOMS else _ById(self.value)


class _ById:
    """An object as a key: equal to itself only, and held weakly where that is possible."""

    __slots__ = ("_id", "_ref")

    def __init__(self, value: Any) -> None:
        self._id = id(value)
        try:
            self._ref: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            self._ref = lambda: value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self._id == other._id and self._ref() is other._ref() is not None

    def __hash__(self) -> int:
        return self._id >> 4


def _elements(value: Any) -> tuple[Any, list[Any]]:
    if isinstance(value, dict):
        return tuple(value), list(value.values())
    return len(value), list(value)


def _is_instance(value: Any) -> bool:
    """Whether `value` is a plain object whose attributes are followed."""
    if isinstance(value, (*_UNCHANGING, types.FunctionType, types.MethodType, functools.partial)) or hasattr(value, "__wrapped__"):
        return False
    if not hasattr(value, "__dict__") or jax.tree_util.is_tree_node(value):
        return False
    try:
        weakref.ref(value)
    except TypeError:
        return False
    return True


def _graph_parts(name: str, value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The Nodes and States in `value`, with how they are called."""
    if is_graph_object(value):
        yield name, value
    elif type(value) in (list, tuple) and depth < _DEPTH:
        for index, item in enumerate(value):
            yield from _graph_parts(f"{name}[{index}]", item, depth + 1)
    elif type(value) is dict and depth < _DEPTH:
        for key, item in value.items():
            yield from _graph_parts(f"{name}[{key!r}]", item, depth + 1)
    elif depth == 0 and _is_instance(value):
        for key, item in vars(value).items():
            yield from _graph_parts(f"{name}.{key}", item, _DEPTH)


def _place(reference: Reference) -> Hashable:
    return id(reference.holder), reference.key


class Watch:
    """What one function refers to, as it was seen at one time.

    Attributes:
        serial: a number that no other watch has.
        key: equal for two watches of the same function that a traced program may be shared between.
        functions: the functions whose references were followed, by id.
    """

    __slots__ = ("_ignored", "_named", "_plans", "_references", "functions", "key", "serial")

    def __init__(self, function: Any, ignored: set[Hashable] = frozenset()) -> None:  # type: ignore[assignment]
        self.serial = next(_serials)
        self._ignored = ignored
        self.functions: dict[int, Any] = {}
        self._references: list[tuple[Reference, _Seen]] = []
        self._named: list[tuple[str, weakref.ref[Any]]] = []
        self._follow(function)
        roots = self.roots()
        self._plans = [(weakref.ref(root), plan_of(root).serial) for _, root in roots]
        graph = flatten(tuple(root for _, root in roots)).graphdef if roots else None
        self.key = (graph, tuple(seen.key() for _, seen in self._references))

    def _follow(self, function: Any) -> None:
        module = getattr(function, "__module__", None)
        if is_graph_object(function):
            self._named.append((type(function).__name__, weakref.ref(function)))
        pending = [_code_of(function)]
        while pending:
            current = pending.pop()
            if id(current) in self.functions:
                continue
            self.functions[id(current)] = current
            for reference in iter_references(current):
                value = reference.get()
                if isinstance(value, types.ModuleType):
                    continue
                if _place(reference) not in self._ignored:
                    self._references.append((reference, _Seen(value)))
                self._named += [(name, weakref.ref(item)) for name, item in _graph_parts(reference.name, value)]
                if _is_followed(value, module):
                    pending.append(value)
        if not is_graph_object(function) and _is_instance(function):
            self._named += [(name, weakref.ref(item)) for name, item in _graph_parts(type(function).__name__, function)]
            itself = Reference("self", function, SELF)
            if _place(itself) not in self._ignored:
                self._references.append((itself, _Seen(function)))

    def is_current(self) -> bool:
        """Whether everything is as it was seen."""
        for reference, seen in self._references:
            if not seen.matches(reference.get()):
                return False
        for ref, serial in self._plans:
            root = ref()
            if root is None or plan_of(root).serial != serial:
                return False
        return True

    def forgive(self, ignored: set[Hashable]) -> bool:
        """Adds to `ignored` what the function has changed itself; whether that explains every change."""
        ignored.update(_place(reference) for reference, seen in self._references if not seen.matches(reference.get()))
        return all((root := ref()) is not None and plan_of(root).serial == serial for ref, serial in self._plans)

    def roots(self) -> list[tuple[str, Any]]:
        """The Nodes and States that the function refers to, with how it calls them."""
        found = {}
        for name, ref in self._named:
            root = ref()
            if root is not None and id(root) not in found:
                found[id(root)] = (name, root)
        return list(found.values())

    def states(self) -> dict[int, tuple[str, tuple[Any, ...], State]]:
        """The States that the function reaches: how each is called, its paths, and the State, by id."""
        found: dict[int, tuple[str, tuple[Any, ...], State]] = {}
        for name, root in self.roots():
            flat = plan_of(root).flat
            for place in flat.graphdef.leaves:
                state = flat.objects[place]
                if isinstance(state, State) and id(state) not in found:
                    found[id(state)] = (name, flat.graphdef.paths(place), state)
        return found

    def name_of(self, cell: Any) -> str | None:
        """How messages call a State that the function reaches."""
        entry = self.states().get(id(cell))
        if entry is None:
            return None
        name, paths, _ = entry
        return f"{name}.{write_path(paths[0])}" if paths[0] else name

    def is_inside(self, home: Home | None) -> bool:
        """Whether the function refers to something that was born at `home`."""
        return any(getattr(root, "_graph_home", getattr(root, "_home", None)) is home for _, root in self.roots())

    def guarded(self) -> "StructureGuard":
        """A block in which the graphs that the function only refers to must keep their structure."""
        return StructureGuard([(name, plan_of(root).flat) for name, root in self.roots()])


def _code_of(function: Any) -> Any:
    """The function that runs when `function` is called: of a class its `__init__`, of an instance its `__call__`."""
    if isinstance(function, type):
        return function.__init__  # type: ignore[misc]
    if is_graph_object(function) or _is_instance(function):
        return getattr(type(function), "__call__", function)
    return function


def _is_followed(value: Any, module: str | None) -> bool:
    """Whether the references of `value` are those of the function that refers to it."""
    if isinstance(value, types.FunctionType):
        return value.__module__ == module or bool(value.__closure__) or hasattr(value, "__wrapped__")
    return isinstance(value, types.MethodType | functools.partial) or hasattr(value, "__wrapped__")


class StructureGuard:
    """Finds a list or dict of a closed-over Node that was changed in place, puts it back, and raises."""

    __slots__ = ("_flats",)

    def __init__(self, flats: list[tuple[str, Flat]]) -> None:
        self._flats = flats

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        changed = [(name, flat) for name, flat in self._flats if not is_unchanged(flat)]
        for name, flat in changed:
            place = _restore(flat)
            if place is not None and error is None:
                path = write_path(flat.graphdef.path(place))
                raise TraceContextError(
                    f"`{name}.{path}`, part of a Node that the function reached through its closure, was changed in place inside of a "
                    "transform; the change was taken back. Pass the Node as an argument of the transformed function: "
                    "then its structure may change, and the change comes out."
                )


def _restore(flat: Flat) -> int | None:
    """Puts the containers of a graph back; the place of the first that had changed."""
    first = None
    for container, elements, keys in flat.containers:
        if type(container) is list and (len(container) != len(elements) or any(a is not b for a, b in zip(container, elements, strict=True))):
            container[:] = elements
        elif type(container) is dict and (list(container) != keys or any(a is not b for a, b in zip(container.values(), elements, strict=True))):
            container.clear()
            container.update(zip(keys, elements, strict=True))
        else:
            continue
        if first is None:
            first = next(place for place, item in enumerate(flat.objects) if item is container)
    return first
