"""`GraphState`: the values of a graph, one for each distinct State and each array, as a flat pytree.

The values are children of one pytree node, however large the graph; paths, types and metadata stand in its static
part, a `Layout`.
"""

from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Self

import jax

from graphstate.errors import UpdateError, some_of
from graphstate.filters import Filter

from ._graphdef import GraphDef
from ._heads import StateHead
from ._layout import Layout, layout_from_paths, layout_of, union
from ._layout import record_of as record_of
from ._mapping import PathItems, PathKeys
from ._path import Path, split_key, write_path
from ._selection import Part, check_exhaustive, partition
from ._state import State

__all__ = ["GraphState"]


class GraphState(Mapping[Path, Any]):
    """The values of a graph: a mapping from path to value, and a pytree of arrays.

    `split` and `state` return it, `merge` and `update` take it, and so does every function of JAX, optax and orbax.
    A path is a tuple, `("layers", 0, "weight")`, or its written form, `"layers/0/weight"`.

    Example:
        >>> import graphstate as gs, jax
        >>> state = gs.state(gs.nn.Linear(2, 3))
        >>> [gs.graph.write_path(path) for path in state]
        ['bias', 'weight']
        >>> state["weight"].shape
        (2, 3)
        >>> jax.tree.map(lambda x: x * 0, state)["bias"].sum().item()
        0.0
    """

    __slots__ = ("_layout", "_values")

    # As an attribute of a Node it need not be looked at again for changes.
    _is_immutable = True

    _layout: Layout
    _values: tuple[Any, ...]

    def __init__(self, *_: Any) -> None:
        raise TypeError("A GraphState is made by `split`, `state` or `GraphState.from_dict`, not by calling the class.")

    @classmethod
    def _make(cls, layout: Layout, values: Iterable[Any]) -> Self:
        made = object.__new__(cls)
        made._layout = layout
        made._values = tuple(values)
        return made

    @classmethod
    def from_dict(cls, values: Mapping[Any, Any], like: Any = None) -> "GraphState":
        """The GraphState with these values.

        Args:
            values: a nested dict of arrays, as `to_dict` returns it, or a mapping from paths to arrays. The keys of a
                list are ints, or their text.
            like: a Node, GraphDef or GraphState that gives types, tags and metadata of the paths that it has too;
                without it all values are those of plain States.

        Raises:
            UpdateError: a leaf is no array, a path is given twice, or `like` has no such path.

        Example:
            >>> import graphstate as gs, jax.numpy as jnp
            >>> state = gs.GraphState.from_dict({"layers": {0: {"weight": jnp.ones(2)}}})
            >>> state["layers/0/weight"].shape
            (2,)
        """
        if like is None:
            return cls._from_paths(_iter_items(values, lambda path: False))
        known = _layout_like(like)
        found: dict[int, Any] = {}
        for path, value in _iter_items(values, lambda path: known.find(path) is not None):
            index = known.find(path)
            if index is None:
                raise _no_such_path(path, known)
            if index in found:
                raise _given_twice(path)
            _check_arrays(path, value)
            found[index] = value
        indices = sorted(found)
        return cls._make(known.select(indices), [found[index] for index in indices])

    @classmethod
    def _from_paths(cls, items: Iterable[tuple[Path, Any]]) -> "GraphState":
        found: dict[str, tuple[Path, Any]] = {}
        for path, value in items:
            if write_path(path) in found:
                raise _given_twice(path)
            _check_arrays(path, value)
            found[write_path(path)] = path, value
        given = list(found.values())
        layout, order = layout_from_paths((path, _PLAIN) for path, _ in given)
        return cls._make(layout, [given[position][1] for position in order])

    # The mapping

    def __getitem__(self, path: Path | str) -> Any:
        index = self._index(path)
        if index is None:
            shown = list(self._layout.rows)[:6]
            raise KeyError(
                f"no value at {write_path(split_key(path))!r}; there are {', '.join(shown)}{', ...' * (len(self) > 6)}"
            )
        return self._values[index]

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str | tuple | int) and self._index(path) is not None

    def _index(self, path: Any) -> int | None:
        return self._layout.find(split_key(path))

    def __iter__(self) -> Iterator[Path]:
        return iter(self._layout.paths)

    def keys(self) -> KeysView[Path]:
        """The paths."""
        return PathKeys(self)

    def items(self) -> ItemsView[Path, Any]:
        """The paths and values."""
        return PathItems(self)

    def values(self) -> ValuesView[Any]:
        """The values, in the order of the paths."""
        return dict(enumerate(self._values)).values()  # the paths of a deep graph are not written out for this

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self) >> 4

    def __repr__(self) -> str:
        from ._text import render_graphstate  # the renderer reads this module's types

        return render_graphstate(self)

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        from ._treescope import draw  # as above

        return draw(self, path, subtree_renderer)

    def __reduce__(self) -> tuple[Any, ...]:
        from ._pickling import freeze, make_graphstate  # which pickles graphs too, and is above this module

        return make_graphstate, (self._layout, freeze(list(self._values)))

    def __copy__(self) -> "GraphState":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "GraphState":
        from ._copying import copy_value  # which copies graphs too, and is above this module

        return GraphState._make(self._layout, [copy_value(value, memo) for value in self._values])

    # Parts and wholes

    def filter(self, *filters: Filter) -> "GraphState":
        """The part that any of the filters selects."""
        (part,) = partition(self._layout, self._values, [tuple(filters)])
        return self._select(part)

    def split(self, *filters: Filter) -> "tuple[GraphState, ...]":
        """One part for each filter, first match wins.

        Raises:
            FilterError: a value is matched by no filter, or `...` is not the last one.
        """
        parts = partition(self._layout, self._values, filters)
        check_exhaustive(self._layout, parts, "GraphState.split")
        return tuple(map(self._select, parts))

    def _select(self, part: Part) -> "GraphState":
        return GraphState._make(part.layout, part.pick(self._values))

    def map(self, function: Callable[..., Any], *others: "GraphState") -> "GraphState":
        """Applies `function` to every value and those of `others` at the same path.

        Raises:
            UpdateError: another GraphState has other paths.
        """
        columns = [self._values, *(_aligned(other, self) for other in others)]
        return GraphState._make(self._layout, [function(*values) for values in zip(*columns, strict=True)])

    def to_dict(self) -> dict[Any, Any]:
        """The values as nested plain dicts, the parts of the paths as keys."""
        result: dict[Any, Any] = {}
        for path, value in self.items():
            inner = result
            for part in path[:-1]:
                inner = inner.setdefault(part, {})
            if path:
                inner[path[-1]] = value
            else:
                result[""] = value
        return result

    def __or__(self, other: Any) -> "GraphState":
        if not isinstance(other, GraphState):
            return NotImplemented
        layout, order = union(self._layout, other._layout)
        given = self._values + other._values
        return GraphState._make(layout, [given[position] for position in order])


_PLAIN = StateHead(State, frozenset(), (), ())


def _flatten(state: GraphState) -> tuple[tuple[Any, ...], Layout]:
    return state._values, state._layout


def _flatten_with_keys(state: GraphState) -> tuple[list[tuple[Any, Any]], Layout]:
    keys = (jax.tree_util.DictKey(text) for text in state._layout.rows)
    return list(zip(keys, state._values, strict=True)), state._layout


def _unflatten(layout: Layout, values: Iterable[Any]) -> GraphState:
    return GraphState._make(layout, values)


jax.tree_util.register_pytree_with_keys(GraphState, _flatten_with_keys, _unflatten, _flatten)


def _layout_like(like: Any) -> Layout:
    if isinstance(like, GraphState):
        return like._layout
    if isinstance(like, GraphDef):
        return layout_of(like)
    from ._walked import walk  # a Node is walked only here, and _walked is above this module

    return layout_of(walk(like).graphdef)


def _iter_items(values: Mapping[Any, Any], is_leaf: Callable[[Path], bool]) -> Iterator[tuple[Path, Any]]:
    """Path and value of every leaf of a nested mapping; where a path is a known leaf, a mapping is its value."""
    pending: list[tuple[Path, Any]] = [(split_key(key), item) for key, item in values.items()]
    while pending:
        path, value = pending.pop()
        if isinstance(value, Mapping) and not is_leaf(path):
            pending.extend(((*path, *split_key(key)), item) for key, item in value.items())
        else:
            yield path, value


def _check_arrays(path: Path, value: Any) -> None:
    for leaf in jax.tree.leaves(value):
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise UpdateError(
                f"`GraphState.from_dict` takes arrays, but at `{write_path(path)}` there is {str(leaf)[:40]!r} of "
                f"type {type(leaf).__name__}. Convert numbers with `jnp.asarray`; static values belong to the "
                "GraphDef."
            )


def _no_such_path(path: Path, known: Layout) -> UpdateError:
    return UpdateError(
        f"`GraphState.from_dict` was given a value for `{write_path(path)}`, but `like` has no such path; it has:\n"
        f"{some_of(known.rows)}\nLeave it out, or leave out `like`."
    )


def _given_twice(path: Path) -> UpdateError:
    return UpdateError(
        f"`GraphState.from_dict` takes one value for a path, but was given two for `{write_path(path)}`. "
        'A path may be written in several ways ("a/b" or nested dicts, 0 or "0", an alias of a shared State): give one.'
    )


def _aligned(other: GraphState, first: GraphState) -> tuple[Any, ...]:
    """The values of `other` in the order of `first`."""
    if other._layout == first._layout:
        return other._values
    mine, given = first._layout.rows, dict(zip(other._layout.rows, other._values, strict=True))
    lines = [f"missing: {text}" for text in mine if text not in given]
    lines += [f"extra: {text}" for text in given if text not in mine]
    if lines:
        raise UpdateError(
            f"`GraphState.map` needs GraphStates with the same paths, but:\n{some_of(lines)}\n"
            "Select the common part with `.filter` first.",
            lines,
        )
    return tuple(given[text] for text in mine)
