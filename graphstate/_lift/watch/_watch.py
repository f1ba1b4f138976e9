"""What a function depends on besides its arguments, and whether any of it has changed.

A `Watch` follows the references of a function: closure cells, defaults, named globals (also those of functions defined
inside it, of helpers from the same module and of the methods of the Nodes that it reaches), what it wraps or is bound
to, and plain containers and instances. Nodes and States found there are roots of the graph; everything else is
compared on each call.
"""

import functools
import itertools
import types
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final

import jax
import numpy as np

from graphstate.errors import AliasError
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._flatten import flatten
from graphstate.graph._graphdef import GraphDef
from graphstate.graph._heads import NodeHead, StaticHead
from graphstate.graph._node import Node
from graphstate.graph._path import shorten_path
from graphstate.graph._plan import plan_of
from graphstate.graph._references import SELF, Reference, iter_references, mentioned_names
from graphstate.graph._state import State

from ._check import Check
from ._guard import StructureGuard
from ._names import may_run, names_of
from ._seen import Seen, by_id, is_instance, iter_parts, see, told_changes, weak

__all__ = ["Ignored", "Watch", "functions_of", "is_watchable", "methods_of"]

_serials: Final = itertools.count(1)
_CALL: Final = "__call__"

Ignored = dict[Hashable, set[tuple[Hashable, ...]]]
"""What a function was seen to change itself: for each reference the places in its value."""


class Watch:
    """What some functions refer to, as it was seen at one time.

    Args:
        functions: the functions.
        ignored: what they change themselves, which is no dependency.
        callers: functions that call them, and may name what they hold.

    Attributes:
        serial: a number that no other watch has.
        check: what is compared on each call.
        key: equal for two watches that a traced program may be shared between.
        origin: the functions that it was made for.
        functions: the functions whose references were followed, by id.
    """

    __slots__ = (
        "_callers",
        "_found",
        "_plans",
        "_roots",
        "_seen",
        "check",
        "functions",
        "key",
        "origin",
        "serial",
    )

    def __init__(self, functions: Iterable[Any], ignored: Ignored, callers: Iterable[Any] = ()) -> None:
        self.serial = next(_serials)
        self.origin = tuple(functions)
        self.functions: dict[int, Any] = {}
        self._seen: list[tuple[Reference, Seen]] = []
        self._roots: dict[int, tuple[str, Callable[[], Any]]] = {}
        self._callers = tuple(callers)
        self._follow(self.origin, ignored)
        roots = self.roots()
        self._plans = [(weak(root), plan_of(root).serial) for _, root in roots]
        arrays = [leaf for _, root in roots for leaf in plan_of(root).leaves if isinstance(leaf, np.ndarray)]
        # A numpy array of a Node can be changed in place, and is a constant of the program.
        self.check = Check(self._seen, self._plans, [(weak(array), array.copy()) for array in arrays])
        self.key = (_graph_key([root for _, root in roots]), tuple(seen.key() for _, seen in self._seen))

    # Looking

    def _follow(self, functions: Iterable[Any], ignored: Ignored) -> None:
        """Follows functions, the methods that they name, and those of the Nodes that they reach, to the end."""
        found: list[Reference] = []
        pending: list[Any] = []
        for function in functions:
            if is_graph_object(function) or is_instance(function):
                found.append(Reference(type(function).__name__, function, SELF))
            pending.append(_code_of(function))
        while pending:
            found += self._follow_functions(pending)
            found += _static_instances(found)
            pending = [each for each in self._methods(found) if id(each) not in self.functions]
        self._found = found
        names = names_of([*self.functions.values(), *self._callers])
        seen_before: set[int] = set()
        parts_before: set[int] = set()
        for reference in found:
            value = reference.get()
            seen = see(value, names, seen_before).without(ignored.get(_place(reference), set()))
            if seen is not None:
                self._seen.append((reference, seen))
            for name, part in iter_parts(reference.name, value, names, parts_before):
                if is_graph_object(part):
                    self._roots.setdefault(id(part), (name, weak(part)))

    def _follow_functions(self, pending: list[Any]) -> list[Reference]:
        found: list[Reference] = []
        met: set[int] = set()
        while pending:
            function = pending.pop()
            if id(function) in self.functions:
                continue
            self.functions[id(function)] = function
            module = getattr(_innermost(function), "__module__", None)
            for reference in iter_references(function):
                value = reference.get()
                if isinstance(value, types.ModuleType):
                    continue
                found.append(reference)
                pending += [
                    part for _, part in iter_parts(reference.name, value, None, met) if _is_followed(part, module)
                ]
                if isinstance(value, type) and value.__module__ == module:
                    mentioned = mentioned_names(_innermost(function))
                    is_node = issubclass(value, Node)
                    pending += [each for name, each in methods_of(value) if is_node or may_run(name, mentioned)]
        return found

    def _methods(self, found: list[Reference]) -> list[Any]:
        """The functions of the Nodes that were found, and of plain instances the methods that may be called."""
        names = names_of([*self.functions.values(), *self._callers])
        methods: dict[int, Any] = {}
        met: set[int] = set()
        for reference in found:
            for _, part in iter_parts(reference.name, reference.get(), names, met):
                if is_graph_object(part):
                    functions = functions_of(plan_of(part).graphdef)
                    methods.update((id(each), each) for each in functions if isinstance(each, types.FunctionType))
                elif is_instance(part):
                    named = (method for name, method in methods_of_class(part) if may_run(name, names))
                    methods.update((id(each), each) for each in named)
        return list(methods.values())

    # Asking

    def is_current(self) -> bool:
        """Whether everything is as it was seen."""
        return self.check.is_current()

    def forgive(self, ignored: Ignored) -> bool:
        """Adds to `ignored` what has changed since, by the function itself; whether that explains every change."""
        for reference, seen in self._seen:
            changes = set(seen.changes(reference.get()))
            if changes:
                ignored.setdefault(_place(reference), set()).update(changes)
        return all((root := ref()) is not None and plan_of(root).serial == serial for ref, serial in self._plans)

    def changes(self) -> Iterator[str]:
        """What has changed since, one line each; the structure of Nodes aside."""
        for reference, seen in self._seen:
            yield from told_changes(reference.name, seen, reference.get())

    def references(self) -> Iterator[str]:
        """What the functions refer to, as messages call it, and what it is; functions and classes aside."""
        met: set[str] = set()
        for reference, seen in self._seen:
            value = reference.get()
            if reference.key == "keywords" and isinstance(reference.holder, functools.partial):
                continue  # each of them is a reference of its own
            if reference.key in ("__code__", "__wrapped__") or isinstance(value, type | types.FunctionType):
                continue
            kind = "array" if isinstance(value, jax.Array) else type(value).__name__
            line = reference.name + (f" = {repr(value)[:60]}" if seen.is_plain else f": {kind}")
            if line not in met:
                met.add(line)
                yield line

    def ignored(self, places: Ignored) -> Iterator[str]:
        """What of that does not count, since the functions change it themselves."""
        for reference in self._found:
            for keys in places.get(_place(reference), ()):
                yield reference.name + "".join(f"[{key!r}]" for key in keys)

    def roots(self) -> list[tuple[str, Any]]:
        """The Nodes and States that the functions refer to, with how they call them."""
        return [(name, root) for name, ref in self._roots.values() if (root := ref()) is not None]

    def states(self) -> dict[int, tuple[str, Any, State]]:
        """The States that the functions reach: how each is called, its paths, and the State, by id."""
        found: dict[int, tuple[str, Any, State]] = {}
        for name, root in self.roots():
            flat = plan_of(root).flat(root)
            for place in flat.graphdef.leaves:
                state = flat.objects[place]
                if isinstance(state, State) and id(state) not in found:
                    found[id(state)] = (name, flat.graphdef.paths(place), state)
        return found

    def name_of(self, item: Any) -> str | None:
        """How messages call a State or Node that the functions reach."""
        for name, root in self.roots():
            flat = plan_of(root).flat(root)
            place = next((place for place, each in enumerate(flat.objects) if each is item), None)
            if place is not None:
                return f"{name}.{shorten_path(flat.graphdef.path(place))}" if place else name
        return None

    def check_one_way(self, objects: Iterable[Any], changed: bool, transform: str) -> None:
        """Refuses a change of structure of an argument that the functions also refer to: there it would not be seen.

        Raises:
            AliasError: naming how the functions call it.
        """
        if not changed:
            return
        nodes = {id(item) for item in objects if isinstance(item, Node)}
        for name, root in self.roots():
            if any(id(node) in nodes for node in plan_of(root).flat(root).nodes):
                raise AliasError(
                    f"The structure of a Node was changed inside of `{transform}`, where it is an argument, but the "
                    f"function also reaches it through its closure (`{name}`), where the change is not seen. Use the "
                    "argument only."
                )

    def guarded(self) -> "StructureGuard":
        """A block in which the graphs that the functions only refer to must keep their structure."""
        return StructureGuard([(name, plan_of(root).flat(root)) for name, root in self.roots()])


def _graph_key(roots: list[Any]) -> Hashable:
    """The structure of what is reached, and which objects these are: a program is bound to them."""
    if not roots:
        return None
    flat = flatten(tuple(roots))
    contents = tuple(leaf.tobytes() for leaf in flat.leaves if isinstance(leaf, np.ndarray))
    return flat.graphdef, tuple(by_id(item) for item in (*flat.nodes, *flat.leaves)), contents


def _place(reference: Reference) -> Hashable:
    return id(reference.holder), reference.key


def _code_of(function: Any) -> Any:
    """The function that runs when `function` is called: of a class its `__init__`, of an instance its `__call__`."""
    if isinstance(function, type):
        return function.__init__  # type: ignore[misc]
    if is_graph_object(function) or is_instance(function):
        method: Any = getattr(type(function), _CALL, function)
        return method
    return function


def _innermost(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__func__", function)


def _is_followed(value: Any, module: str | None) -> bool:
    """Whether the references of `value` are those of the function that refers to it."""
    if isinstance(value, types.FunctionType):
        return value.__module__ == module or bool(value.__closure__) or hasattr(value, "__wrapped__")
    return isinstance(value, types.MethodType | functools.partial) or (
        not isinstance(value, type) and hasattr(value, "__wrapped__")
    )


def _static_instances(found: list[Reference]) -> list[Reference]:
    """The plain objects that are static attributes of the Nodes that were found."""
    known = {id(each.holder) for each in found if each.key is SELF}
    instances: dict[int, Any] = {}
    met: set[int] = set()
    for reference in found:
        for _, part in iter_parts(reference.name, reference.get(), None, met):
            if is_graph_object(part):
                statics = functions_of(plan_of(part).graphdef)
                instances.update((id(each), each) for each in statics if is_instance(each))
    return [Reference(type(each).__name__, each, SELF) for key, each in instances.items() if key not in known]


def functions_of(graphdef: GraphDef) -> Iterator[Any]:
    """The methods of the Nodes of a graph, and the functions and plain objects that are static attributes."""
    for cls in {head.type for head in graphdef.heads if isinstance(head, NodeHead)}:
        yield from (method for _, method in methods_of(cls))
    for head in graphdef.heads:
        if isinstance(head, StaticHead) and is_watchable(head.key.value):
            yield head.key.value


def is_watchable(value: Any) -> bool:
    """Whether `value` is something that can depend on more than what it is."""
    return (
        isinstance(value, types.FunctionType | types.MethodType | functools.partial)
        or is_graph_object(value)
        or is_instance(value)
    )


def methods_of_class(value: Any) -> tuple[tuple[str, types.FunctionType], ...]:
    """The functions that the class of a plain instance defines, by name."""
    cls: Any = type(value)
    return methods_of(cls)


@functools.lru_cache(maxsize=1024)
def methods_of(cls: Hashable) -> tuple[tuple[str, types.FunctionType], ...]:
    """The functions that a user's class defines, by name."""
    found: list[tuple[str, types.FunctionType]] = []
    for base in cls.__mro__:  # type: ignore[attr-defined]
        if base is Node or base is object or base.__module__.partition(".")[0] == "graphstate":
            continue
        for name, item in vars(base).items():
            for attribute in ("fget", "__func__", "func", "__wrapped__"):
                item = getattr(item, attribute, item)
            if isinstance(item, types.FunctionType):
                found.append((name, item))
    return tuple(found)
