"""One line checks that a module batches, jits, splits and trains correctly.

Checks are plain functions of a function or Node and a `BatchCase`; they need neither hypothesis nor pytest, and
neither is imported before something is asked for that does.
"""

import importlib
from typing import Any

from graphstate.errors import MissingPackageError, PropertyError

_LAZY = {
    "BatchCase": "_case",
    "BatchingSuite": "_suite",
    "RoundingWarning": "_tolerance",
    "Tol": "_tolerance",
    "arrays": "strategies",
    "axis_sizes": "strategies",
    "batched": "strategies",
    "check_batch_of_one": "checks._mapping",
    "check_batch_size_independence": "checks._mapping",
    "check_dtypes": "checks._compiling",
    "check_empty_batch": "checks._mapping",
    "check_ensemble_step": "checks._loops",
    "check_grad": "checks._gradients",
    "check_jit": "checks._compiling",
    "check_lane_isolation": "checks._lanes",
    "check_module": "_module",
    "check_nested_vmap": "checks._mapping",
    "check_no_leaks": "checks._compiling",
    "check_no_retrace": "checks._compiling",
    "check_permutation": "checks._mapping",
    "check_pickle": "checks._graphs",
    "check_pmap": "checks._devices",
    "check_remat": "checks._gradients",
    "check_rng": "checks._random",
    "check_roundtrip": "checks._graphs",
    "check_scan": "checks._loops",
    "check_vmap": "checks._mapping",
    "device_counts": "strategies",
    "dtypes": "strategies",
    "filters": "strategies",
    "given": "_given",
    "graph_of": "strategies",
    "graphs": "strategies",
    "in_axes": "strategies",
    "keys": "strategies",
    "module_of": "strategies",
    "modules": "strategies",
    "out_axes": "strategies",
    "pytrees": "strategies",
    "shapes": "strategies",
    "state_axes": "strategies",
}

__all__ = [
    "BatchCase",
    "BatchingSuite",
    "PropertyError",
    "RoundingWarning",
    "Tol",
    "arrays",
    "axis_sizes",
    "batched",
    "check_batch_of_one",
    "check_batch_size_independence",
    "check_dtypes",
    "check_empty_batch",
    "check_ensemble_step",
    "check_grad",
    "check_jit",
    "check_lane_isolation",
    "check_module",
    "check_nested_vmap",
    "check_no_leaks",
    "check_no_retrace",
    "check_permutation",
    "check_pickle",
    "check_pmap",
    "check_remat",
    "check_rng",
    "check_roundtrip",
    "check_scan",
    "check_vmap",
    "device_counts",
    "dtypes",
    "filters",
    "given",
    "graph_of",
    "graphs",
    "in_axes",
    "keys",
    "module_of",
    "modules",
    "out_axes",
    "pytrees",
    "shapes",
    "state_axes",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("hypothesis", "pytest"):
            raise
        raise MissingPackageError(
            f"`graphstate.testing.{name}` needs {error.name}, which is not installed. Install it with "
            '`pip install "graphstate[testing]"`; the checks do without.'
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
