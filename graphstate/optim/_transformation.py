"""The transformation that an optimizer applies: given as such, or made by a function from hyperparameters."""

import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import jax

from graphstate._compat import Tracer, current_trace, enclosing_traces, is_traced_by
from graphstate.errors import StateTypeError, TraceContextError

__all__ = ["Transformation", "check_transformation", "ready"]


class Transformation(Protocol):
    """What an optimizer needs of a gradient transformation of optax."""

    def init(self, params: Any) -> Any:
        """What is kept from step to step, at first."""

    def update(self, updates: Any, state: Any, params: Any, **extra: Any) -> tuple[Any, Any]:
        """The changes of the parameters, and what is kept."""


def is_transformation(tx: Any) -> bool:
    """Whether `tx` is a transformation itself, rather than a function that makes one."""
    return hasattr(tx, "init") and hasattr(tx, "update")


def check_transformation(tx: Any, hyperparams: Mapping[str, Any] | None) -> None:
    """Refuses what is no transformation, and what is one already where hyperparameters are given."""
    kind = type(tx).__name__
    if hyperparams is None and not is_transformation(tx):
        raise StateTypeError(
            "An Optimizer needs a transformation with `init` and `update`, as `optax.adam(1e-3)`, but got "
            f"{str(tx)[:60]!r}, a {kind}. Give a function together with its hyperparameters: "
            '`Optimizer(model, optax.adam, hyperparams={"learning_rate": 1e-3})`.'
        )
    if hyperparams is not None and (is_transformation(tx) or not callable(tx)):
        raise StateTypeError(
            "With `hyperparams`, an Optimizer needs a function that makes a transformation from them, as `optax.adam`, "
            f"but got a {kind}. Give the function itself, or leave `hyperparams` out."
        )


def ready(tx: Any, hyperparams: Mapping[str, Any]) -> Transformation:
    """The transformation to use now.

    Raises:
        TraceContextError: a given transformation holds a tracer of a trace that has ended.
    """
    if not is_transformation(tx):
        return tx(**hyperparams)  # type: ignore[no-any-return]
    for name, tracer in _iter_tracers(tx):
        if not any(is_traced_by(tracer, trace) for trace in enclosing_traces(current_trace())):
            raise TraceContextError(
                f"The transformation of an Optimizer holds a tracer of a trace that has ended ({name}): it was made "
                "inside of a transform from a traced value, as `optax.adam(learning_rate)`. "
                "Give such a value by name, so that it becomes a State: "
                '`Optimizer(model, optax.adam, hyperparams={"learning_rate": learning_rate})`.'
            )
    return tx  # type: ignore[no-any-return]


def _iter_tracers(tx: Any) -> Iterator[tuple[str, Any]]:
    """The tracers that a transformation holds in closures, defaults, containers and attributes, with their names."""
    met: set[int] = set()
    pending: list[tuple[str, Any]] = [("it", tx)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, Tracer):
            yield name, value
        elif id(value) not in met:
            met.add(id(value))
            pending += _iter_held(name, value)


def _iter_held(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds directly, with names."""
    if isinstance(value, types.FunctionType):
        yield from _iter_closure(value)
        yield from ((name, item) for item in value.__defaults__ or ())
        yield from (value.__kwdefaults__ or {}).items()
    elif isinstance(value, types.MethodType):
        yield name, value.__self__
    elif isinstance(value, functools.partial):
        yield from ((name, item) for item in (value.func, *value.args))
        yield from value.keywords.items()
    elif isinstance(value, type | types.ModuleType):
        return
    elif jax.tree_util.all_leaves([value]):
        yield from getattr(value, "__dict__", {}).items()
    else:
        yield from ((name, item) for item in jax.tree.leaves(value))


def _iter_closure(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a cell that is still empty
            continue
