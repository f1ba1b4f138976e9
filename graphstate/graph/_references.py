"""What a function refers to: its closure, defaults, named globals, and what it wraps or is bound to."""

import dis
import functools
import types
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from graphstate._trace import MISSING

__all__ = [
    "Reference",
    "global_names",
    "iter_reached",
    "iter_references",
    "mentioned_names",
]


def _element(container: Any, key: Any) -> Any:
    try:
        return container[key]
    except (LookupError, TypeError):
        return MISSING


SELF: Final = "()"
"""The key of a reference to the holder itself."""


class Reference(NamedTuple):
    """One thing that a function refers to.

    Attributes:
        name: how the function calls it.
        holder: the cell, the dict or the object that it is read from.
        key: the name or index under which `holder` has it; None for a cell, `SELF` for the holder itself.
    """

    name: str
    holder: Any
    key: Any

    def get(self) -> Any:
        """What is referred to now; `MISSING` where nothing is."""
        if self.key is SELF:
            return self.holder
        if self.key is None:
            try:
                return self.holder.cell_contents
            except ValueError:
                return MISSING
        if type(self.key) is tuple:
            return _element(getattr(self.holder, self.key[0], None), self.key[1])
        if type(self.holder) is dict:
            return self.holder.get(self.key, MISSING)
        if isinstance(self.holder, tuple | list):
            return self.holder[self.key]
        return getattr(self.holder, self.key, MISSING)


@functools.lru_cache(maxsize=4096)
def global_names(code: types.CodeType) -> tuple[str, ...]:
    """The globals that `code` and the functions defined in it name; attribute names are told from them."""
    names: dict[str, None] = {}
    pending = [code]
    while pending:
        current = pending.pop()
        for instruction in dis.get_instructions(current):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                names[instruction.argval] = None
        pending += [item for item in current.co_consts if isinstance(item, types.CodeType)]
    return tuple(names)


def mentioned_names(function: Any) -> frozenset[str]:
    """Every name that a function and those defined in it mention: variables, attributes, and texts."""
    code = getattr(function, "__code__", None)
    return _mentioned(code) if isinstance(code, types.CodeType) else frozenset()


def _texts(constants: Any) -> Iterator[str]:
    for item in constants:
        if isinstance(item, str):
            yield item
        elif isinstance(item, tuple | frozenset):
            yield from _texts(item)


@functools.lru_cache(maxsize=4096)
def _mentioned(code: types.CodeType) -> frozenset[str]:
    names = {
        *code.co_names,
        *code.co_varnames,
        *code.co_freevars,
        *_texts(code.co_consts),
    }
    return frozenset(names).union(*(_mentioned(item) for item in code.co_consts if isinstance(item, types.CodeType)))


def iter_references(function: Any) -> Iterator[Reference]:
    """What `function` refers to directly; builtins and missing globals are left out."""
    if isinstance(function, types.MethodType):
        yield Reference("self", function, "__self__")
        yield Reference(function.__func__.__name__, function, "__func__")
    elif isinstance(function, functools.partial):
        yield Reference("func", function, "func")
        yield from (Reference(f"args[{index}]", function.args, index) for index in range(len(function.args)))
        yield from (Reference(name, function.keywords, name) for name in function.keywords)
        yield Reference("keywords", function, "keywords")  # to which some may be added
    elif isinstance(function, types.FunctionType):
        yield from _function_references(function)
    if hasattr(function, "__wrapped__"):
        yield Reference("__wrapped__", function, "__wrapped__")
        # The type is asked: an object that forwards attributes has any.
        rules = function.__graphstate_rules__ if hasattr(type(function), "__graphstate_rules__") else ()
        yield from (Reference(f"rule {index}", rules, index) for index in range(len(rules)))


def _function_references(function: types.FunctionType) -> Iterator[Reference]:
    code = function.__code__
    yield Reference("__code__", function, "__code__")
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        yield Reference(name, cell, None)
    defaults = function.__defaults__ or ()
    named = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    for index, name in enumerate(named):
        yield Reference(name, function, ("__defaults__", index))
    for name in function.__kwdefaults__ or {}:
        yield Reference(name, function, ("__kwdefaults__", name))
    for name in global_names(code):
        if name in function.__globals__:
            yield Reference(name, function.__globals__, name)


def iter_reached(function: Any) -> Iterator[tuple[str, Any]]:
    """All that `function` reaches through closures, defaults and globals, what it wraps and is bound to, by name.

    Functions and plain containers found in closures and defaults are looked into; those found in globals are not.
    """
    pending, seen = [function], {id(function)}
    if getattr(function, "__self__", None) is not None:
        yield "self", function.__self__
    while pending:
        current = pending.pop()
        for reference in iter_references(current):
            value = reference.get()
            yield reference.name, value
            if reference.holder is getattr(current, "__globals__", None) or id(value) in seen:
                continue
            seen.add(id(value))
            inside = _elements(value)
            yield from ((reference.name, item) for item in inside)
            pending += [item for item in (value, *inside) if _is_function(item)]


def _elements(value: Any) -> list[Any]:
    if type(value) in (list, tuple):
        return list(value)
    return list(value.values()) if type(value) is dict else []


def _is_function(value: Any) -> bool:
    return isinstance(value, types.FunctionType | types.MethodType | functools.partial) or (
        callable(value) and hasattr(value, "__wrapped__")
    )
