"""What is compared on each call: the references of functions, sorted by how they are read.

A warm call spends a good part of its time here, so each kind of reference has a loop of its own, which asks for
identity first.
"""

import types
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final

import numpy as np

from graphstate._trace import MISSING
from graphstate.graph._node import Node
from graphstate.graph._plan import serial_of
from graphstate.graph._references import Reference

from ._seen import Seen

__all__ = ["Check"]

_DEFAULTS: Final = "__defaults__"


class Check:
    """Values that references had at one time, and the plans of the graphs that they led to.

    Args:
        seen: the references, with what was seen there.
        plans: the graphs: a weak reference to each root, and the serial number of its plan.
        arrays: a weak reference to each NumPy array, which can be changed in place, and a copy of it.
    """

    __slots__ = (
        "_arrays",
        "_cells",
        "_codes",
        "_defaults",
        "_globals",
        "_has_more",
        "_nodes",
        "_others",
        "_plans",
        "_roots",
        "_seen",
        "_weak_cells",
        "_weak_globals",
    )

    def __init__(
        self,
        seen: Sequence[tuple[Reference, Seen]],
        plans: Sequence[tuple[Callable[[], Any], int]],
        arrays: Sequence[tuple[Callable[[], Any], Any]],
    ) -> None:
        self._seen = seen
        self._plans = plans
        self._arrays = arrays
        self._nodes = [(ref, serial) for ref, serial in plans if isinstance(ref(), Node)]
        self._roots = [(ref, serial) for ref, serial in plans if not isinstance(ref(), Node)]
        self._cells: list[tuple[types.CellType, Any, Seen]] = []
        self._weak_cells: list[tuple[types.CellType, Callable[[], Any]]] = []
        self._codes: list[tuple[Any, types.CodeType]] = []
        self._defaults: list[tuple[Any, tuple[Any, ...]]] = []
        self._globals: list[tuple[dict[str, Any], str, Any, Seen]] = []
        self._weak_globals: list[tuple[dict[str, Any], str, Callable[[], Any]]] = []
        self._others: list[tuple[Reference, Seen]] = []
        for reference, each in seen:
            self._sort(reference, each)
        self._has_more = any((self._weak_globals, self._defaults, self._others, self._roots, arrays))

    @classmethod
    def joined(cls, checks: Iterable["Check"]) -> "Check":
        """What all of them compare, each reference once."""
        checks = list(checks)
        if len(checks) == 1:
            return checks[0]
        seen = {_identity(reference, each): (reference, each) for check in checks for reference, each in check._seen}
        plans = {(id(ref()), serial): (ref, serial) for check in checks for ref, serial in check._plans}
        return cls(list(seen.values()), list(plans.values()), [pair for check in checks for pair in check._arrays])

    def _sort(self, reference: Reference, seen: Seen) -> None:
        """Puts a reference where comparing it is cheap."""
        holder, key = reference.holder, reference.key
        ref = seen.ref if seen.parts is None else None
        value = _held(reference, seen)
        if key is None and ref is not None:
            self._weak_cells.append((holder, ref))
        elif key is None and value is not MISSING:
            self._cells.append((holder, value, seen))
        elif key == "__code__":
            self._codes.append((holder, seen.value))
        elif type(key) is tuple and key[0] == _DEFAULTS and value is not MISSING:
            if not any(each is holder for each, _ in self._defaults):
                self._defaults.append((holder, holder.__defaults__))
        elif type(holder) is dict and ref is not None:
            self._weak_globals.append((holder, key, ref))
        elif type(holder) is dict and value is not MISSING:
            self._globals.append((holder, key, value, seen))
        else:
            self._others.append((reference, seen))

    def is_current(self) -> bool:
        """Whether everything is as it was seen."""
        for function, code in self._codes:
            if function.__code__ is not code:
                return False
        for names, name, value, seen in self._globals:
            if names.get(name, MISSING) is not value and not seen.is_same(names.get(name, MISSING)):
                return False
        try:
            for cell, value, seen in self._cells:
                if cell.cell_contents is not value and not seen.is_same(cell.cell_contents):
                    return False
            for cell, ref in self._weak_cells:
                if cell.cell_contents is not ref():
                    return False
        except ValueError:  # a cell has been emptied
            return False
        for ref, serial in self._nodes:
            root = ref()
            if root is None:
                return False
            plan = root._graph_plan
            if plan is None or plan.serial != serial or not plan.is_current(root):
                return False
        return not self._has_more or self._rest_is_current()

    def _rest_is_current(self) -> bool:
        """What few functions have to mind."""
        for names, name, ref in self._weak_globals:
            if names.get(name, MISSING) is not ref():
                return False
        for function, defaults in self._defaults:
            if function.__defaults__ is not defaults:
                return False
        for reference, seen in self._others:
            if not seen.is_same(reference.get()):
                return False
        for ref, serial in self._roots:
            root = ref()
            if root is None or serial_of(root) != serial:
                return False
        return not self._arrays or all(_is_equal(ref(), before) for ref, before in self._arrays)


def _held(reference: Reference, seen: Seen) -> Any:
    """What can be compared by identity, and is held for that; `MISSING` where there is no such thing."""
    if not seen.is_frozen:
        return MISSING
    if seen.parts is None:
        return seen.value
    value = reference.get()
    return value if seen.is_same(value) else MISSING


def _identity(reference: Reference, seen: Seen) -> Hashable:
    """Equal for two references that are compared to the same value."""
    value = seen.value if seen.ref is None else seen.ref()
    if type(seen) is not Seen or seen.parts is not None or (value is None and seen.ref is not None):
        return id(seen)
    return id(reference.holder), reference.key, id(value)


def _is_equal(array: Any, before: Any) -> bool:
    return array is not None and np.array_equal(array, before, equal_nan=before.dtype.kind in "fc")
