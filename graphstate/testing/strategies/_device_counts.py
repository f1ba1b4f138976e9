"""`device_counts`: over how many devices lanes are spread."""

import jax
from hypothesis import strategies as st

from graphstate.testing._structure import choose

__all__ = ["device_counts"]


@st.composite
def _device_counts(draw: st.DrawFn, lanes: int) -> int:
    most = min(max(lanes, 1), jax.device_count())
    return choose(draw, [count for count in range(1, most + 1) if lanes % count == 0])


def device_counts(n: int) -> st.SearchStrategy[int]:
    """Draws the numbers of devices that divide a number of lanes and are there, 1 first.

    JAX is asked for its devices when something is drawn, not before.

    Args:
        n: the number of lanes.

    Example:
        >>> import graphstate.testing as gst, hypothesis
        >>> hypothesis.find(gst.device_counts(6), lambda count: count < 2)
        1
    """
    return _device_counts(n)
