"""One short line for one value: types and shapes, never numbers, so that nothing is waited for."""

import enum
import functools
import re
import types
from typing import Any, Final

import jax
import numpy as np

from graphstate._compat import Tracer

__all__ = ["clip", "summarize_labels", "summarize_static", "summarize_value", "type_name"]

_LETTERS: Final = {"bfloat": "bf", "complex": "c", "float": "f", "int": "i", "uint": "u"}
_DTYPE: Final = re.compile(r"(bfloat|complex|float|uint|int)(\d+)(.*)")
_WIDTH: Final = 60
_PLAIN: Final = (bool, int, float, complex, str, bytes, type(None), type(...), range, slice)


def type_name(value: Any) -> str:
    """The name of the type of `value`."""
    return type(value).__name__


def clip(text: str, width: int = _WIDTH) -> str:
    """`text`, cut where it is longer than `width`."""
    return text if len(text) <= width else text[: width - 3] + "..."


@functools.lru_cache(maxsize=256)
def _dtype_name(dtype: Any) -> str:
    name = getattr(dtype, "name", str(dtype))
    match = _DTYPE.fullmatch(name)
    return name if match is None else _LETTERS[match[1]] + match[2] + (f"_{match[3].lstrip('_')}" if match[3] else "")


def _summarize_array(array: Any) -> str:
    text = f"{_dtype_name(array.dtype)}[{','.join(map(str, array.shape))}]"
    if isinstance(array, Tracer):
        return f"{text} traced"
    if isinstance(array, jax.Array) and array.is_deleted():
        return f"{text} deleted"
    if isinstance(array, np.ndarray):
        return f"{text} numpy"
    return text


def summarize_value(value: Any) -> str:
    """What a State holds: `f32[2,3]` for an array, the same inside of tuples, lists and dicts, numbers as they are."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _summarize_array(value)
    if value is None or isinstance(value, bool | int | float | complex):
        return repr(value)
    if type(value) in (tuple, list):
        inner = ", ".join(map(summarize_value, value))
        return f"[{inner}]" if type(value) is list else f"({inner}{',' * (len(value) == 1)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {summarize_value(item)}" for key, item in value.items()) + "}"
    leaves = jax.tree.leaves(value)
    if len(leaves) == 1 and leaves[0] is value:
        return summarize_static(value)
    return f"{type_name(value)}({', '.join(map(summarize_value, leaves))})"


def summarize_static(value: Any) -> str:
    """A static value: plain values as they are, functions and types by name, all else by its type."""
    if isinstance(value, enum.Enum):
        return f"{type_name(value)}.{value.name}"
    if isinstance(value, _PLAIN):
        return clip(repr(value))
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return str(value.__qualname__)
    if isinstance(value, np.dtype):
        return str(value.name)
    if isinstance(value, np.generic):
        return clip(repr(value))
    if isinstance(value, tuple | frozenset):
        inner = ", ".join(map(summarize_static, value))
        return clip(f"({inner}{',' * (len(value) == 1)})" if isinstance(value, tuple) else f"frozenset({{{inner}}})")
    name = getattr(value, "__qualname__", None)
    return name if isinstance(name, str) and callable(value) else f"<{type_name(value)}>"


def summarize_labels(tags: frozenset[str], metadata: Any) -> list[str]:
    """The tags and metadata of a State, as they are written in its constructor."""
    labels = [f"tags={sorted(tags, key=str)}"] if tags else []
    return labels + [f"{name}={summarize_static(item)}" for name, item in metadata.items()]
