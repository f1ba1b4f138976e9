"""`dtypes`: what the numbers of an array are."""

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from graphstate.errors import StrategyError
from graphstate.testing._structure import choose

__all__ = ["dtypes", "is_float"]

_KINDS = {
    "f": ("float32", "bfloat16", "float16", "float64"),
    "i": ("int32", "int8", "int16", "int64"),
    "u": ("uint8", "uint32", "uint16", "uint64"),
    "b": ("bool",),
    "c": ("complex64", "complex128"),
}


def is_float(dtype: np.dtype) -> bool:
    """Whether a dtype is a real float, the extended ones of JAX included."""
    return bool(jnp.issubdtype(dtype, jnp.floating))


@st.composite
def _dtypes(draw: st.DrawFn, kinds: str, extended: bool) -> np.dtype:
    wide = jnp.result_type(float) == np.float64
    names = [
        name
        for kind in kinds
        for name in _KINDS[kind]
        if (extended or name != "bfloat16") and (wide or not name.endswith(("t64", "x128")))
    ]
    return jnp.dtype(choose(draw, names))


def dtypes(kinds: str = "fiub", *, extended: bool = True) -> st.SearchStrategy[np.dtype]:
    """Draws dtypes, `float32` first; those of 64 bits only where JAX has them enabled.

    Args:
        kinds: "f" for floats, "i" for integers, "u" for unsigned ones, "b" for bool, "c" for complex, in the order in
            which they are simple.
        extended: whether to draw `bfloat16`, which NumPy does not have.

    Raises:
        StrategyError: a letter is none of these, or there is none.

    Example:
        >>> import graphstate.testing as gst, hypothesis
        >>> hypothesis.find(gst.dtypes(), lambda dtype: dtype.itemsize == 2)
        dtype(bfloat16)
    """
    if not kinds or set(kinds) - set(_KINDS):
        raise StrategyError(
            f"`dtypes` takes some of the letters {''.join(_KINDS)} as `kinds`, but {kinds!r} came. "
            "For one dtype, hand it to `arrays` as it is."
        )
    return _dtypes(kinds, extended)
