"""`filters`: what selects States."""

from typing import Any

from hypothesis import strategies as st

from graphstate.filters import Filter, OfType, PathContains, WithTag
from graphstate.graph import BatchState, HiddenState, LongTermState, ParamState, ShortTermState, State
from graphstate.random import RandomState
from graphstate.testing._structure import choose

__all__ = ["filters"]

_SIMPLE: tuple[Any, ...] = (
    ...,
    ParamState,
    None,
    BatchState,
    "tagged",
    PathContains("a"),
    State,
    LongTermState,
    ShortTermState,
    HiddenState,
    RandomState,
    PathContains(0),
    PathContains("a/b"),
)
_COMBINED = ("not", "and", "or", "tuple")


@st.composite
def _filters(draw: st.DrawFn, depth: int) -> Filter:
    form = choose(draw, ["simple", "simple", *_COMBINED]) if depth else "simple"
    if form == "simple":
        simple: Filter = choose(draw, _SIMPLE)
        return simple
    one, two = _predicate(draw(_filters(depth - 1))), draw(_filters(depth - 1))
    combined: dict[str, Filter] = {"not": ~one, "and": one & two, "or": one | two, "tuple": (one, two)}
    return combined[form]


def _predicate(filter: Any) -> Any:
    """A filter that has `&`, `|` and `~`."""
    if isinstance(filter, str):
        return WithTag(filter)
    if isinstance(filter, type):
        return OfType(filter)
    return OfType(State) if filter is None or filter is ... or isinstance(filter, tuple) else filter


def filters() -> st.SearchStrategy[Filter]:
    """Draws filters: types, the tag "tagged", parts of paths as `graphs` has them, and combinations; `...` first.

    Example:
        >>> import graphstate.testing as gst, hypothesis
        >>> hypothesis.find(gst.filters(), lambda filter: isinstance(filter, str))
        'tagged'
    """
    return _filters(2)
