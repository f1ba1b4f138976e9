"""`Node`, the base class of all objects of the graph."""

import functools
import itertools
from typing import TYPE_CHECKING, Any, Final, overload

from graphstate._compat import EVAL, current_trace
from graphstate._trace import Home, current_frame, current_home, name_in_frames
from graphstate.errors import TraceContextError
from graphstate.filters import Filter

from ._mapping import PathMapping

if TYPE_CHECKING:
    from ._state import State

__all__ = ["Node", "touch"]


class _Changes:
    """Marks the last change of the attributes of any Node: while it is the same, no Node has changed."""

    last: object = None


changes: Final = _Changes()
HIDDEN_SLOTS: Final = frozenset({"__dict__", "__weakref__", "_graph_home", "_graph_plan", "_graph_version"})


class Node:
    """Base class of modules: a plain Python object whose attributes make the graph.

    Attributes may be Nodes, States, arrays, lists, tuples, dicts and other pytrees of these, or static values
    (numbers, strings, functions, types, ...). Nothing is declared, objects may be shared and may form cycles,
    and lists and dicts may be changed in place.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> class Affine(gs.Node):
        ...     def __init__(self):
        ...         self.scale = gs.ParamState(jnp.ones(2))
        ...         self.shifts = [gs.ParamState(jnp.zeros(2))]
        ...     def __call__(self, x):
        ...         return self.scale.value * x + self.shifts[0].value
        >>> list(Affine().states())
        [('scale',), ('shifts', 0)]
    """

    __slots__ = ("__dict__", "__weakref__", "_graph_home", "_graph_plan", "_graph_version")

    _graph_version: int
    _graph_home: Home | None
    _graph_plan: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> "Node":
        return new_node(cls, current_home())  # type: ignore[no-any-return]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("__setattr__", "__delattr__"):
            if name in vars(cls):
                setattr(cls, name, _noticed(vars(cls)[name]))

    def __setattr__(self, name: str, value: Any) -> None:
        if self._graph_home is not None or current_trace() is not EVAL:
            check_changeable(self, name)
        object.__setattr__(self, name, value)
        _set_version(self, self._graph_version + 1)
        changes.last = object()

    def __delattr__(self, name: str) -> None:
        if self._graph_home is not None or current_trace() is not EVAL:
            check_changeable(self, name)
        object.__delattr__(self, name)
        _set_version(self, self._graph_version + 1)
        changes.last = object()

    @overload
    def states(self) -> "PathMapping[State]": ...
    @overload
    def states(self, one: Filter, /) -> "PathMapping[State]": ...
    @overload
    def states(self, one: Filter, two: Filter, /, *more: Filter) -> "tuple[PathMapping[State], ...]": ...
    def states(self, *filters: Filter) -> "PathMapping[State] | tuple[PathMapping[State], ...]":
        """The live States below this Node: `graphstate.states(self, *filters)`."""
        from ._select import states  # which walks graphs of Nodes, and is above this module

        return states(self, *filters)

    def nodes(self, *types: type) -> PathMapping[Any]:
        """The Nodes from this one on: `graphstate.nodes(self, *types)`."""
        from ._select import nodes  # as above

        return nodes(self, *types)

    def __repr__(self) -> str:
        from ._text import render_node  # as above

        return render_node(self)

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        from ._treescope import draw  # as above

        return draw(self, path, subtree_renderer)

    def __reduce__(self) -> Any:
        from ._pickling import reduce_node  # as above

        return reduce_node(self)

    def __copy__(self) -> Any:
        from ._copying import copy_node  # as above

        return copy_node(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        from ._copying import copy_graph  # as above

        return copy_graph(self, memo)


_set_version = Node._graph_version.__set__  # type: ignore[attr-defined]
_set_home = Node._graph_home.__set__  # type: ignore[union-attr]
_set_plan = Node._graph_plan.__set__


def new_node(cls: type, home: Home | None) -> Any:
    """A Node without attributes, whatever its class makes of `setattr`."""
    return new_nodes(cls, 1, home)[0]


def new_nodes(cls: type, count: int, home: Home | None) -> list[Any]:
    """As many Nodes as `count` says."""
    nodes: list[Any] = list(map(object.__new__, itertools.repeat(cls, count)))
    for node in nodes:
        _set_version(node, 0)
        _set_plan(node, None)
        _set_home(node, home)
    return nodes


def _noticed(method: Any) -> Any:
    """A `__setattr__` or `__delattr__` of a user's class, after which the change is seen whatever it does."""

    def changed(self: Any, name: str, *value: Any) -> None:
        before = vars(self).get(name)
        method(self, name, *value)
        if vars(self).get(name) is not before:
            touch(self)

    return functools.update_wrapper(changed, method)


def touch(node: Node) -> None:
    """Says that the attributes of `node` were changed without `setattr`, as by writing to `vars(node)`.

    Args:
        node: the Node whose `__dict__` was written directly.

    Example:
        >>> import graphstate as gs
        >>> node = gs.Node()
        >>> vars(node)["depth"] = 3
        >>> gs.graph.touch(node)
    """
    _set_version(node, node._graph_version + 1)
    changes.last = object()


def check_changeable(node: Node, name: str) -> None:
    """Refuses to change a Node that was made outside of the trace in progress."""
    trace = current_trace()
    home = node._graph_home
    born = EVAL if home is None else home.trace()
    if born is trace:
        return
    if born is None or (trace is EVAL and current_frame() is None):
        # The trace that it was born in has ended: from here on the Node belongs to where it is changed.
        _set_home(node, current_home())
        return
    path = name_in_frames(node)
    raise TraceContextError(
        f"Attribute {name!r} of a {type(node).__name__} was changed inside of a transform, but the Node "
        f"{f'(`{path}`) ' if path else ''}was made outside of it and reached through a closure. "
        + (
            "Pass the Node as an argument of the transformed function: then its structure may change, and the "
            "change comes out."
            if current_frame() is not None
            else "Use the transform of the same name from graphstate, and pass the Node as an argument."
        )
    )
