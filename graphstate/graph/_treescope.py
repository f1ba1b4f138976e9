"""How treescope, the viewer of notebooks, shows Nodes, States and GraphStates.

What is met a second time in one picture is shown by where it was met first, and not drawn again. Treescope is imported
only when it asks for a picture.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from graphstate._trace import peek
from graphstate.errors import GraphStateError

from ._attributes import read_attributes
from ._graphstate import GraphState
from ._node import Node
from ._path import write_path
from ._state import State, is_out_of_reach, summarize_cell

__all__ = ["draw"]

_DEPTH: Final = 20

_met: ContextVar[dict[int, str] | None] = ContextVar("met", default=None)
"""The ids of what the present picture shows already, and where."""


def draw(value: Any, path: str | None, subtree_renderer: Callable[..., Any]) -> Any:
    """A picture of a Node, State or GraphState, as `__treescope_repr__` returns it."""
    from treescope import rendering_parts, repr_lib  # type: ignore[import-untyped] # has no types

    known = _met.get()
    met = {} if known is None else known
    token = _met.set(met) if known is None else None
    try:
        if id(value) in met:
            return rendering_parts.text(f"{type(value).__name__}(-> {met[id(value)]})")
        met[id(value)] = path or "(root)"
        if (path or "").count(".") >= _DEPTH:
            return rendering_parts.text(f"{type(value).__name__}(...)")
        if isinstance(value, GraphState):
            items = {write_path(each): item for each, item in value.items()}
            return repr_lib.render_dictionary_wrapper(GraphState, items, path, subtree_renderer)
        return repr_lib.render_object_constructor(type(value), _attributes(value), path, subtree_renderer)
    finally:
        if token is not None:
            _met.reset(token)


def _attributes(value: Node | State) -> Mapping[str, Any]:
    if isinstance(value, Node):
        return dict(sorted(read_attributes(value).items()))
    tags = {"tags": sorted(value.tags)} if value.tags else {}
    try:
        held = summarize_cell(value) if is_out_of_reach(value) else peek(value)
    except GraphStateError:
        held = summarize_cell(value)
    return {"value": held, **tags, **value.metadata}
