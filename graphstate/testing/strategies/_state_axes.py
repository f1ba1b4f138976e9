"""`state_axes`: the lane axes of the States of a Node."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from graphstate.filters import Filter
from graphstate.graph import states
from graphstate.testing._structure import choose

__all__ = ["state_axes"]


def state_axes(node: Any, *, none: bool = True, negative: bool = True) -> st.SearchStrategy[dict[Filter, int | None]]:
    """Draws axes for the States of a Node by type, for `state_in_axes` and `StateAxes`; all 0 first.

    Each State has one axis, however many places it is in; the last filter is `...`.

    Args:
        node: a Node, or pytree of Nodes and States, of one lane.
        none: whether a State may be unmapped.
        negative: whether to count axes from the end, too.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst, hypothesis
        >>> layer = gs.nn.Linear(2, 3)
        >>> gs.StateAxes(hypothesis.find(gst.state_axes(layer), lambda axes: axes[...] is None))
        StateAxes({ParamState: 0, ...: None})
    """
    return _state_axes(node, none, negative)


@st.composite
def _state_axes(draw: st.DrawFn, node: Any, none: bool, negative: bool) -> dict[Filter, int | None]:
    values: dict[type, list[Any]] = {}
    for state in states(node).values():
        values.setdefault(type(state), []).extend(jax.tree.leaves(state.value))
    axes: dict[Filter, int | None] = {}
    # A type before those that it is derived from, since the first filter that matches decides.
    for kind in sorted(values, key=lambda kind: -len(kind.__mro__)):
        axes[kind] = choose(draw, _options(values[kind], none, negative))
    axes[...] = choose(draw, [0, None] if none else [0])
    return axes


def _options(leaves: list[Any], none: bool, negative: bool) -> list[int | None]:
    """The axes that all these arrays have once there are lanes; a single key has none, and is split."""
    arrays = [leaf for leaf in leaves if not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)]
    dims = min((np.ndim(leaf) for leaf in arrays), default=0)
    return [*range(dims + 1), *(range(-1, -dims - 2, -1) if negative else ()), *([None] if none else [])]
