"""What `hypothesis.strategies.from_type` draws for the types of graphstate."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from graphstate.graph import (
    BatchState,
    GraphDef,
    GraphState,
    HiddenState,
    LongTermState,
    Node,
    ParamState,
    ShortTermState,
    State,
    graphdef,
    state,
)
from graphstate.random import RandomState

from ._case import BatchCase

__all__ = ["register_types"]


def register_types() -> None:
    """Tells hypothesis; a subclass of Node is drawn by the types of the arguments that make it, as any class is."""
    for kind, strategy in _STRATEGIES.items():
        st.register_type_strategy(kind, strategy)


def _graphs(kind: Any) -> st.SearchStrategy[Any]:
    from .strategies import graphs  # when something is drawn, and not before

    return graphs()


def _states(kind: Any) -> st.SearchStrategy[Any]:
    from .strategies import arrays, dtypes, shapes  # as above

    return st.builds(kind, arrays(dtypes(), shapes()))


def _cases(kind: Any) -> st.SearchStrategy[Any]:
    from .strategies import arrays, batched, shapes  # as above

    return batched(arrays(shape=shapes()))


_STRATEGIES: dict[Any, Callable[[Any], st.SearchStrategy[Any]]] = {
    Node: _graphs,
    GraphDef: lambda kind: _graphs(kind).map(graphdef),
    GraphState: lambda kind: _graphs(kind).map(state),
    RandomState: lambda kind: st.builds(RandomState, st.integers(0, 2**31 - 1)),
    BatchCase: _cases,
    **dict.fromkeys((State, LongTermState, ParamState, BatchState, ShortTermState, HiddenState), _states),
}
