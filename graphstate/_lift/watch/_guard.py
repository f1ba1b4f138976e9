"""What must not change while a function is traced: the structure of the Nodes that it only refers to.

Setting an attribute raises at once. What changes without that, a list in place, a cached property, is found when the
function has returned, put back, and raised.
"""

import functools
from typing import Any

from graphstate.errors import TraceContextError
from graphstate.graph._attributes import cached_properties, set_extras, state_extras
from graphstate.graph._flatten import Flat, is_unchanged
from graphstate.graph._path import shorten_path
from graphstate.graph._state import State

__all__ = ["StructureGuard", "cached_property_filled"]


class StructureGuard:
    """Finds what was changed in a closed-over Node without an attribute being set, puts it back, and raises."""

    __slots__ = ("_cached", "_flats")

    def __init__(self, flats: list[tuple[str, Flat]]) -> None:
        self._flats = flats
        self._cached = [{id(node): cached_properties(node) for node in flat.nodes} for _, flat in flats]

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        for (name, flat), cached in zip(self._flats, self._cached, strict=True):
            filled = _empty(flat, cached)
            if filled is not None and error is None:
                raise cached_property_filled(*filled)
            part = None if is_unchanged(flat) else _restore(flat)
            if part is not None and error is None:
                path = shorten_path(part)
                raise TraceContextError(
                    f"`{name}.{path}`, part of a Node that the function reached through its closure, was changed in "
                    "place inside of a transform; the change was taken back. Pass the Node as an argument of the "
                    "transformed function: then its structure may change, and the change comes out."
                )


def cached_property_filled(node: Any, name: str) -> TraceContextError:
    """The error for a `functools.cached_property` that was first read inside of a transform."""
    return TraceContextError(
        f"The cached property {name!r} of a {type(node).__name__} was filled inside of a transform: it would keep a "
        "value of the trace, or "
        "be lost. Read it once before the call, make it a plain `property`, or keep the value in a State."
    )


def _empty(flat: Flat, before: dict[int, frozenset[str]]) -> tuple[Any, str] | None:
    """Empties the cached properties that were filled since; the first of them."""
    first = None
    for node in flat.nodes:
        for name in cached_properties(node) - before[id(node)]:
            del vars(node)[name]
            first = first or (node, name)
    return first


def _restore(flat: Flat) -> tuple[str | int, ...] | None:
    """Puts back containers of a graph and what subclasses of State keep; the path of the first that had changed."""
    first: tuple[str | int, ...] | None = None
    for container, elements, keys, place in flat.containers:
        held = container.keywords if isinstance(container, functools.partial) else container
        if type(container) is list and not _is_same(container, elements):
            container[:] = elements
        elif type(held) is dict and not (list(held) == keys and _is_same(list(held.values()), elements)):
            held.clear()
            held.update(zip(keys, elements, strict=True))
        elif isinstance(container, State):
            wanted = dict(zip(keys, elements, strict=True))
            changed = {name for name, item in state_extras(container).items() if wanted.get(name) is not item}
            set_extras(container, wanted)
        else:
            continue
        if first is None:
            first = (*flat.graphdef.path(place), *(sorted(changed)[:1] if isinstance(container, State) else ()))
    return first


def _is_same(items: list[Any], elements: list[Any]) -> bool:
    return len(items) == len(elements) and all(a is b for a, b in zip(items, elements, strict=True))
