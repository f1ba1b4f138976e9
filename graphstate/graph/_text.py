"""Text for people: what `repr` shows of Nodes, GraphStates and GraphDefs.

One renderer draws a tree of *views*: what stands at a place (its brackets, or its text), and what is below it. An
object that is met again is shown by its path and not drawn twice: `-> embed/table`, or `↺ path` where it contains
itself. Depth, breadth and length are capped, values are never looked at, and nothing raises.
"""

import functools
import math
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jax
import numpy as np

from graphstate._trace import peek
from graphstate.errors import GraphStateError

from ._attributes import is_graph_object, read_attributes
from ._diff import describe_head
from ._graphdef import GraphDef
from ._graphstate import GraphState
from ._heads import DictHead, ListHead, NodeHead, PytreeHead, StateHead, TupleHead
from ._layout import kind_of
from ._path import Path, write_path
from ._state import State, is_out_of_reach
from ._summary import clip, summarize_labels, summarize_static, summarize_value, type_name

__all__ = ["render_graphdef", "render_graphstate", "render_node"]

_DEPTH: Final = 6
_BREADTH: Final = 20
_LINES: Final = 200
_WIDTH: Final = 96
_WALKED: Final = 200_000


@dataclass(slots=True)
class _View:
    """What is shown of one place.

    Attributes:
        opening: the whole text of a leaf; the opening bracket of what has children.
        closing: the closing bracket; empty for a leaf.
        children: the label, the path part and the place of each child.
        identity: tells whether a place was met before; None where that does not count.
    """

    opening: str
    closing: str = ""
    children: Sequence[tuple[str, Any, Any]] = field(default_factory=tuple)
    identity: Any = None


class _Tree:
    """Draws the tree below one place."""

    def __init__(self, view: Callable[[Any], _View]) -> None:
        self._view = view
        self._met: dict[Any, Path] = {}
        self._open: set[Any] = set()
        self._left = 2 * _LINES

    def draw(self, place: Any, path: Path = ()) -> list[str]:
        """The lines of a place."""
        view = self._view(place)
        if view.identity is not None:
            if view.identity in self._met:
                arrow = "↺" if view.identity in self._open else "->"
                return [f"{arrow} {clip(write_path(self._met[view.identity])) or '(root)'}"]
            self._met[view.identity] = path
        if not view.children:
            return [view.opening + view.closing]
        if len(path) >= _DEPTH or self._left <= 0:
            return [f"{view.opening}...{view.closing}"]
        self._open.add(view.identity)
        blocks = [self._draw_child(*child, path) for child in view.children[:_BREADTH]]
        self._open.discard(view.identity)
        if len(view.children) > _BREADTH:
            blocks.append([f"... {len(view.children) - _BREADTH} more"])
        return _joined(view, blocks)

    def _draw_child(self, label: str, part: Any, place: Any, path: Path) -> list[str]:
        self._left -= 1
        lines = self.draw(place, (*path, part))
        return [label + lines[0], *lines[1:]]


def _joined(view: _View, blocks: list[list[str]]) -> list[str]:
    flat = view.opening + ", ".join(block[0] for block in blocks) + view.closing
    if all(len(block) == 1 for block in blocks) and len(flat) <= _WIDTH:
        return [flat]
    lines = [view.opening]
    for block in blocks:
        lines += [f"  {line}" for line in block]
        if not block[-1].startswith("... "):
            lines[-1] += ","
    return [*lines, view.closing]


def _finished(lines: list[str], note: str) -> str:
    if len(lines) > 1 and note:
        lines = [f"{lines[0]}  # {note}", *lines[1:]]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], f"... {len(lines) - _LINES + 1} more lines"]
    return "\n".join(lines)


def _never_raising(render: Callable[[Any], str]) -> Callable[[Any], str]:
    """Makes a renderer that a debugger can rely on: what goes wrong in a user's class is named, not raised."""

    @functools.wraps(render)
    def rendered(value: Any) -> str:
        try:
            return render(value)
        except Exception as error:
            return f"{type_name(value)}(... no text: {type_name(error)})"

    return rendered


# Objects


@_never_raising
def render_node(node: Any) -> str:
    """The `repr` of a Node."""
    lines = _Tree(_view_object).draw(node)
    return _finished(lines, _totals(_iter_values(node)) if len(lines) > 1 else "")


def _view_object(value: Any) -> _View:
    if isinstance(value, State):
        return _View(repr(value), identity=id(value))
    if is_graph_object(value):
        items = sorted(read_attributes(value).items())
        return _View(f"{type_name(value)}(", ")", [(f"{name}=", name, item) for name, item in items], id(value))
    if type(value) is list:
        return _View("[", "]", [("", index, item) for index, item in enumerate(value)], id(value))
    if type(value) is tuple:
        return _View("(", ",)" if len(value) == 1 else ")", [("", index, item) for index, item in enumerate(value)])
    if isinstance(value, dict):
        return _View("{", "}", [(f"{summarize_static(key)}: ", key, item) for key, item in value.items()], id(value))
    if isinstance(value, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        return _View(summarize_value(value))
    if isinstance(value, GraphState):
        return _view_graphstate(value)
    return _view_other(value)


def _view_other(value: Any) -> _View:
    if isinstance(value, functools.partial):
        named = [(f"{name}=", name, item) for name, item in value.keywords.items()]
        return _View(
            "partial(", ")", [("", "func", value.func), *(("", i, item) for i, item in enumerate(value.args)), *named]
        )
    if isinstance(value, types.MethodType):
        return _View(f"method {summarize_static(value.__func__)}")
    if value is None or not jax.tree_util.is_tree_node(type(value)):
        return _View(summarize_static(value))
    keyed, _ = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda part: part is not value)
    parts = [jax.tree_util.keystr(path, simple=True) for path, _ in keyed]
    children = [(f"{part}=", part, item) for part, (_, item) in zip(parts, keyed, strict=True)]
    return _View(f"{type_name(value)}(", ")", children, None if isinstance(value, tuple) else id(value))


def _iter_values(root: Any) -> Iterator[Any]:
    """The values of the States and arrays below `root`, each once."""
    met: dict[int, Any] = {id(root): root}
    pending = [root]
    while pending and len(met) < _WALKED:
        value = pending.pop()
        if isinstance(value, State):
            yield from _leaves_of(value)
        elif isinstance(value, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
            yield value
        else:
            for child in _children(value):
                if id(child) not in met:
                    met[id(child)] = child
                    pending.append(child)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, str | int | float | type | None):
        return ()
    return (child for _, _, child in _view_object(value).children)


def _leaves_of(state: State) -> list[Any]:
    try:
        return [] if is_out_of_reach(state) else jax.tree.leaves(peek(state))
    except GraphStateError:
        return []


def _totals(values: Iterable[Any]) -> str:
    """How much is held: the number of array elements, and of bytes."""
    elements = size = 0
    for value in values:
        count = math.prod(np.shape(value)) if hasattr(value, "shape") else 1
        elements += count
        size += count * getattr(getattr(value, "dtype", None), "itemsize", 0)
    return f"{elements:,} elements, {_bytes(size)}" if elements else ""


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size} B"
        size /= 1024
    return f"{size:,.1f} TiB"


# Values and structures


@_never_raising
def render_graphstate(state: GraphState) -> str:
    """The `repr` of a GraphState: its paths, types and shapes."""
    layout = state._layout
    shown = min(len(state), _LINES - 2)
    lines = [f"  {_leaf_line(layout.path(i), layout.leaves[i][1], state._values[i])}" for i in range(shown)]
    if len(state) > shown:
        lines.append(f"  ... {len(state) - shown} more")
    total = _totals(leaf for value in state._values for leaf in jax.tree.leaves(value))
    return "\n".join([f"GraphState({len(state)} values{', ' * bool(total)}{total})", *lines])


def _leaf_line(path: Path, head: Any, value: Any) -> str:
    labels = (
        summarize_labels(head.tags, {name: key.value for name, key in head.metadata})
        if isinstance(head, StateHead)
        else []
    )
    return (
        f"{clip(write_path(path), _WIDTH) or '(root)'}: {kind_of(head)}({', '.join([summarize_value(value), *labels])})"
    )


def _view_graphstate(state: GraphState) -> _View:
    layout = state._layout
    children = [
        (f"{write_path(layout.path(i))}=", write_path(layout.path(i)), state._values[i])
        for i in range(min(len(state), _BREADTH + 1))
    ]
    return _View("GraphState(", ")", children, id(state))


@_never_raising
def render_graphdef(graphdef: GraphDef) -> str:
    """The `repr` of a GraphDef: its structure."""
    lines = _Tree(functools.partial(_view_place, graphdef)).draw(0)
    lines = [f"GraphDef({lines[0]}", *lines[1:]]
    lines[-1] += ")"
    states = sum(isinstance(head, StateHead) for head in graphdef.heads)
    nodes = sum(isinstance(head, NodeHead) for head in graphdef.heads)
    return _finished(lines, f"{states} states in {nodes} nodes")


def _view_place(graphdef: GraphDef, place: int) -> _View:
    head = graphdef.heads[place]
    below = list(zip(graphdef.parts(place), graphdef.children[place], strict=True))
    match head:
        case StateHead():
            labels = summarize_labels(head.tags, {name: key.value for name, key in head.metadata})
            return _View(f"{head.type.__name__}({', '.join(labels)})", identity=place)
        case ListHead():
            return _View("[", "]", [("", part, child) for part, child in below], place)
        case TupleHead():
            return _View("(", ",)" if len(below) == 1 else ")", [("", part, child) for part, child in below])
        case DictHead(keys=keys, order=order):
            labels = [f"{summarize_static(key.value)}: " for key in keys]
            return _View("{", "}", [(labels[position], *below[position]) for position in order], place)
        case NodeHead() | PytreeHead():
            return _View(f"{describe_head(head)}(", ")", [(f"{part}=", part, child) for part, child in below], place)
        case _:
            return _View(describe_head(head))
