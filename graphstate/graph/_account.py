"""An account of a structure in words that are the same in every process that has built the same.

Python's hashes and the addresses in its `repr` differ from one process to the next, so that neither can tell whether
two processes have built the same model. The account says of types and functions where they are defined, of a function
what it does and what it refers to, and of all other values what they are; where an object of some class has no words
that can be relied on, it says the class. So two accounts that differ tell of two structures, and two that are alike
may be of structures that differ in such an object.
"""

import enum
import functools
import hashlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from ._graphdef import GraphDef
from ._heads import DictHead, Head, MethodHead, NodeHead, PartialHead, PytreeHead, StateHead, StaticHead, WrapperHead
from ._path import Path, show_path

__all__ = ["account_of", "words_of", "words_of_graph"]


def account_of(graph: GraphDef) -> Iterator[tuple[Path, str]]:
    """What stands at each path; a place that is reached again says how it was reached first."""
    edges = graph.edges
    yield (), _words_of_head(graph.heads[0])
    for place, children in enumerate(graph.children):
        for part, child in zip(graph.parts(place), children, strict=True):
            is_first = edges[child] == (place, part)
            told = _words_of_head(graph.heads[child]) if is_first else f"shared with {show_path(graph.path(child))}"
            yield (*graph.path(place), part), told


def words_of_graph(graph: GraphDef) -> str:
    """The whole account in one text, without the paths: it takes one step a place, however deep the graph is."""
    told = (
        f"{_words_of_head(head)} {_names_of(head)} {children}"
        for head, children in zip(graph.heads, graph.children, strict=True)
    )
    return "\n".join(told)


def words_of(value: Any) -> str:
    """What a static value is."""
    return _Teller().tell(value)


def _words_of_head(head: Head) -> str:
    tell = _Teller().tell
    match head:
        case NodeHead(type=kind):
            return f"Node {_name(kind)}"
        case StateHead():
            items = [f"{name}={tell(key.value)}" for name, key in (*head.metadata, *head.extras)]
            return " ".join([f"State {_name(head.type)}", *sorted(head.tags), *items])
        case DictHead(keys=keys, order=order):
            return f"dict {', '.join(tell(keys[position].value) for position in order)}"
        case PytreeHead(treedef=treedef):
            return f"pytree {tell(treedef.node_data())}"
        case MethodHead(function=key) | WrapperHead(wrapping=key) | StaticHead(key=key):
            return tell(key.value)
        case PartialHead(type=kind):
            return _name(kind)
        case _:
            return type(head).__name__.removesuffix("Head").lower()


def _names_of(head: Head) -> tuple[Any, ...]:
    return getattr(head, "names", ()) or getattr(head, "parts", ())


def _name(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


class _Teller:
    """One telling of a value; what it is amidst of is not told again."""

    def __init__(self) -> None:
        self._telling: set[int] = set()

    def tell(self, value: Any) -> str:
        """What a value is."""
        plain = _plain(value)
        if plain is not None:
            return plain
        if id(value) in self._telling:
            return "itself"
        self._telling.add(id(value))
        try:
            return self._composed(value)
        finally:
            self._telling.discard(id(value))

    def _composed(self, value: Any) -> str:
        kind = type(value)
        if isinstance(value, tuple | list):
            return f"{_kind(value)}({self._list(value)})"
        if isinstance(value, frozenset | set):
            return f"{_kind(value)}({', '.join(sorted(map(self.tell, value)))})"
        if kind is dict:
            return f"dict({', '.join(sorted(f'{self.tell(key)}: {self.tell(each)}' for key, each in value.items()))})"
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return f"method {self.tell(value.__func__)} of {_name(type(value.__self__))}"
        if isinstance(value, functools.partial):
            return f"partial({self._list((value.func, *value.args))}; {self.tell(value.keywords)})"
        if isinstance(value, CodeType):
            return self._code(value)
        if is_dataclass(value):
            told = [f"{each.name}={self.tell(getattr(value, each.name, None))}" for each in fields(value)]
            return f"{_name(kind)}({', '.join(told)})"
        return _named(value) or f"a {_name(kind)}"

    def _list(self, values: Any) -> str:
        return ", ".join(map(self.tell, values))

    def _function(self, function: FunctionType) -> str:
        refers = [*(function.__defaults__ or ()), function.__kwdefaults__ or {}]
        for cell in function.__closure__ or ():
            try:
                refers.append(cell.cell_contents)
            except ValueError:  # not filled yet
                refers.append(None)
        told = hashlib.blake2b(f"{self._code(function.__code__)} {self._list(refers)}".encode(), digest_size=4)
        return f"function {_name(function)} ({told.hexdigest()})"

    def _code(self, code: CodeType) -> str:
        return f"code {code.co_code.hex()} {code.co_names} {self._list(code.co_consts)}"


_LITERAL = (int, bool, str, bytes, type(None), type(...), slice, range)


def _plain(value: Any) -> str | None:
    """The words for what refers to nothing else; None for all that may."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        return f"{_name(kind)}.{value.name}"
    if kind in _LITERAL:
        return repr(value)
    if kind is float:
        return repr(value)
    if kind is complex:
        return repr(value)
    if isinstance(value, np.generic):
        return f"{value.dtype} {value.tobytes().hex()}"
    if isinstance(value, np.dtype):
        return str(value)
    return _name(value) if isinstance(value, type) else None


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else _name(kind)


def _named(value: Any) -> str | None:
    """Where a function of another language, or a transformed one, is defined."""
    name, module = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
    return f"{module}.{name}" if isinstance(name, str) else None
