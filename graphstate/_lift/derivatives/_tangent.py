"""What gradients, tangents and cotangents look like: a GraphState for a Node, a value for a State or an array.

JAX differentiates a flat list of values. A `Form` puts derivatives by these values in the places that the user
expects; a `TangentSpace` takes from these places the tangents that the user gives, and checks them; and a
`LinearMap` leads from one to the other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._lift.call._arguments import is_array_like, shown
from graphstate.errors import TangentError, some_of
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._graphstate import GraphState
from graphstate.graph._layout import Layout
from graphstate.graph._path import shorten_path

__all__ = ["LIKE_VALUES", "Form", "LinearMap", "Part", "TangentSpace", "form_of", "types_of"]

LIKE_VALUES: Final = (
    "The one of a Node is a GraphState of the States that `wrt` selects, that of a State is like its value, that of an "
    "array is an array."
)


class Part(NamedTuple):
    """One leaf of a form.

    Attributes:
        name: how messages call it.
        size: how many values it takes.
        layout: the layout of a GraphState; None for one value.
    """

    name: str
    size: int
    layout: Layout | None

    def value_name(self, index: int) -> str:
        """How messages call one of its values."""
        return self.name if self.layout is None else f"{self.name}.{shorten_path(self.layout.path(index))}"


class Form(NamedTuple):
    """Where the derivatives by a list of values go.

    Attributes:
        treedef: the structure of the whole, whose leaves are `parts`.
        parts: what stands at each leaf.
    """

    treedef: Any
    parts: tuple[Part, ...]

    def values(self, whole: Any) -> list[Any]:
        """The values in the whole, which has this form."""
        leaves: list[Any] = self.treedef.flatten_up_to(whole)
        pairs = zip(self.parts, leaves, strict=True)
        return [value for part, leaf in pairs for value in ([leaf] if part.layout is None else leaf.values())]

    def build(self, values: Sequence[Any]) -> Any:
        """The whole, from one thing for each value: the inverse of `values`."""
        return jax.tree.unflatten(self.treedef, list(self._built(values)))

    def _built(self, values: Sequence[Any]) -> Iterator[Any]:
        start = 0
        for part in self.parts:
            taken = values[start : start + part.size]
            start += part.size
            yield taken[0] if part.layout is None else GraphState._make(part.layout, taken)


def form_of(whole: Any, name: str) -> Form:
    """The form of a pytree of arrays and GraphStates; messages call it `name`."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(whole, is_leaf=_is_graphstate)
    labels = [(name + jax.tree_util.keystr(path), leaf) for path, leaf in leaves]
    parts = (
        Part(label, len(leaf), leaf._layout) if isinstance(leaf, GraphState) else Part(label, 1, None)
        for label, leaf in labels
    )
    return Form(treedef, tuple(parts))


def _is_graphstate(value: Any) -> bool:
    return isinstance(value, GraphState)


class LeafType(NamedTuple):
    """Shape and dtype of a tangent."""

    shape: tuple[int, ...]
    dtype: Any

    def __str__(self) -> str:
        name = "float0" if self.dtype == jax.dtypes.float0 else str(self.dtype)
        return f"shape {self.shape} and dtype {name}"


def types_of(values: Iterable[Any]) -> tuple[tuple[Any, tuple[LeafType, ...]], ...]:
    """For each value the structure and the types of its tangents."""
    flat = map(jax.tree.flatten, values)
    return tuple(
        (treedef, tuple(LeafType(np.shape(leaf), _tangent_dtype(leaf)) for leaf in leaves)) for leaves, treedef in flat
    )


def _tangent_dtype(value: Any) -> Any:
    dtype = jnp.result_type(value)
    return dtype if jnp.issubdtype(dtype, jnp.inexact) else jax.dtypes.float0


class TangentSpace(NamedTuple):
    """The tangents (or cotangents) of a list of values.

    Attributes:
        form: their places.
        types: their types, as `types_of` tells them.
        word: "tangent" or "cotangent".
        owner: who takes them, for messages.
        way_out: what a message about their structure ends with.
    """

    form: Form
    types: tuple[tuple[Any, tuple[LeafType, ...]], ...]
    word: str
    owner: str
    way_out: str

    def take(self, tangents: Any) -> list[Any]:
        """The tangent of each value, from their places.

        Raises:
            TangentError: a structure, shape or dtype is not that of the values.
        """
        try:
            leaves = self.form.treedef.flatten_up_to(tangents)
        except ValueError:
            raise self._wrong_structure(tangents) from None
        values: list[Any] = []
        places: list[tuple[Part, int]] = []
        for part, leaf in zip(self.form.parts, leaves, strict=True):
            values += [leaf] if part.layout is None else self._values_of(part, part.layout, leaf)
            places += [(part, index) for index in range(part.size)]
        for (part, index), value, (treedef, types) in zip(places, values, self.types, strict=True):
            self._check(part, index, value, treedef, types)
        return values

    def _values_of(self, part: Part, layout: Layout, given: Any) -> list[Any]:
        wanted = f"{self.owner} takes for `{part.name}` a GraphState of {self.word}s, but "
        way_out = "`graphstate.state(node, wrt)` has such paths; `GraphState.from_dict` makes one of a dict."
        if not isinstance(given, GraphState):
            raise TangentError(f"{wanted}was given {_named(given)}. {way_out}")
        values = dict(zip(given._layout.rows, given.values(), strict=True))
        lines = [f"missing: {text}" for text in layout.rows if text not in values]
        lines += [f"extra: {text}" for text in values if text not in layout.rows]
        if lines:
            raise TangentError(f"{wanted}was given one of other paths:\n{some_of(lines)}\n{way_out}")
        return [values[text] for text in layout.rows]

    def _check(self, part: Part, index: int, value: Any, treedef: Any, types: tuple[LeafType, ...]) -> None:
        paths, given = jax.tree_util.tree_flatten_with_path(value)
        if given != treedef or not all(is_array_like(leaf) for _, leaf in paths):
            wanted = _outline(jax.tree.unflatten(treedef, ["*"] * treedef.num_leaves))
            raise TangentError(
                f"{self.owner} takes for `{part.value_name(index)}` a {self.word} like its value, {wanted} with arrays "
                f"for *, but was given {_named(value)}. {_way_out(value)}"
            )
        for (path, leaf), needed in zip(paths, types, strict=True):
            came = LeafType(np.shape(leaf), jnp.result_type(leaf))
            if came != needed:
                name = part.value_name(index) + jax.tree_util.keystr(path)
                raise TangentError(
                    f"{self.owner} takes for `{name}` a {self.word} of {needed}, but was given one of {came}. "
                    + _way_out_of(needed, self.word)
                )

    def _wrong_structure(self, given: Any) -> TangentError:
        marks = ["*" if part.layout is None else GraphState._make(part.layout, ()) for part in self.form.parts]
        wanted, came = _outline(jax.tree.unflatten(self.form.treedef, marks)), _outline(given)
        if wanted == came:
            came = (
                "GraphStates of other types, tags or metadata (`GraphState.from_dict(..., like=...)` takes them over)"
            )
        return TangentError(
            f"{self.owner} takes {self.word}s of the structure {wanted}, but was given {came}. {self.way_out}"
        )


def _outline(value: Any) -> str:
    """A pytree with `*` for its arrays, and names for everything else."""

    def mark(leaf: Any) -> str:
        if isinstance(leaf, GraphState):
            rows = list(leaf._layout.rows)
            return f"GraphState[{', '.join(rows[:4])}{', ...' * (len(rows) > 4)}]"
        return type(leaf).__name__ if _is_whole(leaf) else "*"

    return str(jax.tree.map(mark, value, is_leaf=_is_whole)).replace("'", "")[:160]


def _is_whole(value: Any) -> bool:
    return value is None or isinstance(value, GraphState) or is_graph_object(value)


def _named(value: Any) -> str:
    return f"a {type(value).__name__}" if is_graph_object(value) else shown(value)


def _way_out(value: Any) -> str:
    if is_graph_object(value):
        return "A tangent holds values, no Nodes or States: take `.value`, or `graphstate.state(node, wrt)`."
    return "`jax.tree.map` over the value makes one."


def _way_out_of(wanted: LeafType, word: str) -> str:
    if wanted.dtype == jax.dtypes.float0:
        return f"That of an integer, a bool or a key is `np.zeros({wanted.shape}, jax.dtypes.float0)`."
    return f"A {word} has the shape and dtype of its value; `jnp.asarray(x, dtype)` converts."


@jax.tree_util.register_pytree_node_class
class LinearMap:
    """A linear function from one space of tangents to another, what `vjp` and `linearize` return.

    It belongs to the values that were differentiated, as they were then: it reads and writes no State. It is a pytree,
    and may be passed to transformed functions and returned from them.

    Args:
        function: the function of JAX, from a list of tangents to a list of tangents.
        takes: the tangents that it takes: a tuple of the arguments.
        gives: the form of its result.
        name: what it is, for `repr`.
    """

    __slots__ = ("__weakref__", "_function", "_gives", "_name", "_takes")

    def __init__(
        self, function: Callable[[list[Any]], Sequence[Any]], takes: TangentSpace, gives: Form, name: str
    ) -> None:
        self._function = function
        self._takes = takes
        self._gives = gives
        self._name = name

    def __call__(self, /, *tangents: Any) -> Any:
        """Applies the function.

        Raises:
            TangentError: the tangents do not fit.
        """
        return self._gives.build(self._function(self._takes.take(tangents)))

    def __repr__(self) -> str:
        return self._name

    def tree_flatten(self) -> tuple[tuple[Any], tuple[TangentSpace, Form, str]]:
        """The residuals, and what is static."""
        return (self._function,), (self._takes, self._gives, self._name)

    @classmethod
    def tree_unflatten(cls, static: tuple[TangentSpace, Form, str], children: tuple[Any]) -> Self:
        """The inverse of `tree_flatten`."""
        (function,), (takes, gives, name) = children, static
        return cls(function, takes, gives, name)
