"""One line checks that a module batches, jits, splits and trains correctly.

Checks are plain functions of a function or Node and a `BatchCase`; they need neither hypothesis nor pytest, and
neither is imported before something is asked for that does.
"""

import importlib
from typing import Any

from graphstate.errors import PropertyError

_LAZY = {
    "BatchCase": "_case",
}

__all__ = ["BatchCase", "PropertyError"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
