"""Values as code that a person can paste into a test."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from graphstate.graph import StateAxes
from graphstate.graph._attributes import is_graph_object

from ._arrays import is_key

__all__ = ["array_code", "code_of"]

_LONG = 8
"""From so many equal elements on an array is written by its shape."""


def code_of(value: Any) -> str:
    """The expression that makes `value`; a Node, which no expression makes, as `<Linear>`."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return array_code(value)
    if isinstance(value, StateAxes):
        return repr(value)
    if is_graph_object(value):
        return f"<{type(value).__name__}>"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        items = (f"{name}={code_of(item)}" for name, item in zip(value._fields, value, strict=True))
        return f"{type(value).__name__}({', '.join(items)})"
    if type(value) is tuple:
        return f"({', '.join(map(code_of, value))}{',' * (len(value) == 1)})"
    if type(value) is list:
        return f"[{', '.join(map(code_of, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)}: {code_of(item)}' for key, item in value.items())}}}"
    if isinstance(value, float):
        return _number(value)
    return repr(value)


def _key(key: Any) -> str:
    if key is ...:
        return "..."
    return key.__name__ if isinstance(key, type) else repr(key)


def array_code(array: Any) -> str:
    """The expression that makes an array: by NumPy, for JAX takes these, and keys from their data."""
    if is_key(array):
        usual = jax.config.jax_default_prng_impl  # type: ignore[attr-defined]  # JAX adds its settings as it runs
        impl = str(jax.random.key_impl(array))
        other = "" if impl == usual else f", impl={impl!r}"
        return f"jax.random.wrap_key_data({array_code(np.asarray(jax.random.key_data(array)))}{other})"
    array = np.asarray(array)
    if not array.size:
        return f"np.zeros({array.shape}, '{array.dtype}')"
    elements = array.ravel()
    if array.size >= _LONG and elements.tobytes() == np.full_like(elements, elements[0]).tobytes():
        return f"np.full({array.shape}, {_number(elements[0])}, '{array.dtype}')"
    return f"np.array({_nested(array)}, '{array.dtype}')"


def _nested(array: Any) -> str:
    if not array.ndim:
        return _number(array[()])
    return f"[{', '.join(map(_nested, array))}]"


def _number(number: Any) -> str:
    text = str(number).removeprefix("(").removesuffix(")")
    if isinstance(number, complex | np.complexfloating):
        return f"complex({_number(number.real)}, {_number(number.imag)})"
    named = {"nan": "np.nan", "inf": "np.inf", "-inf": "-np.inf"}
    return named.get(text, text)
