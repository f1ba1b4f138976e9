"""The names that functions mention: of a plain object only the attributes that somebody names can matter.

Whoever is handed an object asks it for attributes by name; so the names are collected from all functions that can be
reached, those of other modules too, and it does not matter who hands what to whom.
"""

import dis
import functools
import itertools
import sys
import sysconfig
import types
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from graphstate.graph._references import iter_references, mentioned_names

__all__ = ["Names", "is_users", "may_run", "names_of"]

Names: TypeAlias = frozenset[str] | None
"""The attributes that count; None where all do, since names are computed somewhere."""

_COMPUTING: Final = frozenset({"vars", "__dict__", "attrgetter", "__getattribute__", "asdict", "astuple"})
_COMPOSING: Final = frozenset({"BINARY_OP", "BUILD_STRING", "FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC"})
_LIBRARIES: Final = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))


def names_of(functions: Iterable[Any]) -> Names:
    """The names that functions mention, and those that they can call."""
    names: set[str] = set()
    met: set[int] = set()
    pending = [_function(each) for each in functions]
    while pending:
        function = pending.pop()
        if function is None or id(function) in met:
            continue
        met.add(id(function))
        mentioned = mentioned_names(function)
        if is_users(function.__module__) or len(met) == 1:
            if mentioned & _COMPUTING or _computes_names(function.__code__):
                return None
            pending += [_function(each) for each in _reached(function, mentioned)]
        names |= mentioned
    return frozenset(names)


def _function(value: Any) -> types.FunctionType | None:
    while isinstance(value, functools.partial):
        value = value.func
    value = getattr(value, "__func__", value)
    return value if isinstance(value, types.FunctionType) else None


def _reached(function: types.FunctionType, mentioned: frozenset[str]) -> list[Any]:
    """The functions that a function can call by what it refers to, an attribute of a module, or a class."""
    reached: list[Any] = []
    for reference in iter_references(function):
        value = reference.get()
        if isinstance(value, types.ModuleType) and is_users(value.__name__):
            value = [item for key, item in vars(value).items() if key in mentioned]
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, type) and is_users(item.__module__):
                reached += [part for key, part in vars(item).items() if may_run(key, mentioned)]
            else:
                reached.append(getattr(item, "__wrapped__", item))
    return reached


# What makes, shows or stores an object does not run when it is used.
_NOT_RUN: Final = frozenset(
    {"__init__", "__new__", "__post_init__", "__init_subclass__", "__repr__", "__str__", "__del__", "__reduce__"}
    | {"__reduce_ex__", "__getstate__", "__setstate__", "__copy__", "__deepcopy__", "__hash__", "__eq__", "__format__"}
)


def may_run(method: str, names: Names) -> bool:
    """Whether a method of this name may run where these names are mentioned."""
    return names is None or method in names or (method.startswith("__") and method not in _NOT_RUN)


@functools.lru_cache(maxsize=1024)
def is_users(module: str | None) -> bool:
    """Whether a module is the user's own, not one that is installed."""
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    return file is None or not file.startswith(_LIBRARIES)


@functools.lru_cache(maxsize=1024)
def _computes_names(code: types.CodeType) -> bool:
    """Whether `getattr` is called with anything but a name that is written there, or a class pattern is matched."""
    instructions = list(dis.get_instructions(code))
    for index, instruction in enumerate(instructions):
        if instruction.opname == "MATCH_CLASS":
            return True
        if instruction.argval == "getattr" and instruction.opname.startswith("LOAD_"):
            arguments = [*itertools.takewhile(lambda each: not each.opname.startswith("CALL"), instructions[index:])]
            written = any(each.opname == "LOAD_CONST" and isinstance(each.argval, str) for each in arguments)
            if not written or any(each.opname in _COMPOSING for each in arguments):
                return True
    return any(_computes_names(item) for item in code.co_consts if isinstance(item, types.CodeType))
