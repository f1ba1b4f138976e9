"""One line checks that a module batches, jits, splits and trains correctly.

Checks are plain functions of a function or Node and a `BatchCase`; they need neither hypothesis nor pytest, and
neither is imported before something is asked for that does.
"""

import importlib
from typing import Any

from graphstate.errors import PropertyError

_LAZY = {
    "BatchCase": "_case",
    "RoundingWarning": "_tolerance",
    "Tol": "_tolerance",
    "check_batch_of_one": "checks._mapping",
    "check_batch_size_independence": "checks._mapping",
    "check_empty_batch": "checks._mapping",
    "check_nested_vmap": "checks._mapping",
    "check_permutation": "checks._mapping",
    "check_vmap": "checks._mapping",
}

__all__ = [
    "BatchCase",
    "PropertyError",
    "RoundingWarning",
    "Tol",
    "check_batch_of_one",
    "check_batch_size_independence",
    "check_empty_batch",
    "check_nested_vmap",
    "check_permutation",
    "check_vmap",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
