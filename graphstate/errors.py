"""Every error that graphstate raises, in one tree.

    GraphStateError
    ├── StructureError (ValueError)         the graph is not what was needed
    ├── FilterError (ValueError)            a filter is malformed, or selects too much or too little
    ├── UpdateError (ValueError)            values do not fit the graph they are meant for
    ├── AliasError (ValueError)             one State is reached in two ways that contradict each other
    ├── AxisError (ValueError)              an axis does not exist, or two axes contradict each other
    │   └── BatchAxisError                  a value that depends on the lane reached a State that is not mapped
    ├── StateTypeError (TypeError)          a value that no State can hold, an argument that no transform takes
    ├── CarryError (TypeError)              a carry changes its type from one step to the next
    ├── BranchError (TypeError)             the branches of a choice return different things
    ├── RuleError (TypeError)               a rule of `custom_jvp` or `custom_vjp` does not fit its function
    ├── TangentError (TypeError)            a tangent or cotangent is not like the value that it belongs to
    ├── MissingPackageError (ImportError)   a package of an extra is needed, and not installed
    ├── ShardingError (ValueError)          a sharding does not fit what it is meant for
    ├── CheckpointError (OSError)           a checkpoint cannot be written, is not there, or is damaged
    ├── ProcessError (RuntimeError)         the processes of one program do not do the same, or one does not come
    ├── DonatedError (RuntimeError)         a State has no value: a call that failed had been given its buffer
    ├── TraceCountError (RuntimeError)      a function was traced more often than it may be
    ├── StrategyError (ValueError)          a strategy of `graphstate.testing` cannot draw what is asked for
    ├── PropertyError (AssertionError)      a check of `graphstate.testing` has found a counter-example
    └── TraceContextError (RuntimeError)    a State or Node is used where its trace does not reach

    PartialRestoreWarning (UserWarning)     of a checkpoint only what fits was restored
    StaleReadWarning (UserWarning)          a program that plain JAX caches has read the value of a State

Each message says what was needed, what came, and the way out, in ten lines at most; that of a `PropertyError` has up
to sixty, since it holds the counter-example.
"""

from collections.abc import Iterable
from typing import Any

__all__ = [
    "AliasError",
    "AxisError",
    "BatchAxisError",
    "BranchError",
    "CarryError",
    "CheckpointError",
    "DonatedError",
    "FilterError",
    "GraphStateError",
    "MissingPackageError",
    "PartialRestoreWarning",
    "ProcessError",
    "PropertyError",
    "RuleError",
    "ShardingError",
    "StaleReadWarning",
    "StateTypeError",
    "StrategyError",
    "StructureError",
    "TangentError",
    "TraceContextError",
    "TraceCountError",
    "UpdateError",
]

_SHOWN = 4


def some_of(lines: Iterable[str], *, indent: str = "  ", shown: int = _SHOWN) -> str:
    """The first few of `lines`, one a line, and how many more there are."""
    lines = list(lines)
    listed = [f"{indent}{line}" for line in lines[:shown]]
    if len(lines) > shown:
        listed.append(f"{indent}and {len(lines) - shown} more")
    return "\n".join(listed)


class GraphStateError(Exception):
    """Base class of all errors of this package."""


class StructureError(GraphStateError, ValueError):
    """The structure of a graph is not what was needed.

    Attributes:
        differences: every difference found, one line each, where the error lists differences.
    """

    def __init__(self, message: str, differences: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


class FilterError(GraphStateError, ValueError):
    """A filter is malformed, misplaced, or selects nothing."""


class UpdateError(GraphStateError, ValueError):
    """Values do not fit the graph that they are meant for; nothing was changed.

    Attributes:
        differences: every difference found, one line each.
    """

    def __init__(self, message: str, differences: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


class AliasError(GraphStateError, ValueError):
    """One State is reached in two ways that contradict each other."""


class AxisError(GraphStateError, ValueError):
    """An axis does not exist, sizes differ, or one State has two axes."""


class BatchAxisError(AxisError):
    """A value that depends on the lane was written to a State that is not mapped."""


class StateTypeError(GraphStateError, TypeError):
    """A value that no State can hold, or an argument that no transform can take."""


class CarryError(GraphStateError, TypeError):
    """A carry has another structure, shape or dtype after a step than before it."""


class BranchError(GraphStateError, TypeError):
    """The branches of a choice return, or leave in a State, values of different structures, shapes or dtypes."""


class RuleError(GraphStateError, TypeError):
    """A rule of `custom_jvp` or `custom_vjp` is missing, or does not do what its function does."""


class TangentError(GraphStateError, TypeError):
    """A tangent or cotangent has another structure, shape or dtype than the value that it belongs to."""


class MissingPackageError(GraphStateError, ImportError):
    """What was asked for needs a package that is not installed."""


class ShardingError(GraphStateError, ValueError):
    """A sharding does not fit the argument, State or result that it is meant for."""


class CheckpointError(GraphStateError, OSError):
    """A checkpoint cannot be written, is not there, or is damaged."""


class ProcessError(GraphStateError, RuntimeError):
    """The processes of one program do not do the same, cannot find each other, or one of them does not come.

    Attributes:
        differences: what differs, one line each, where two processes have built different things.
    """

    def __init__(self, message: str, differences: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


class DonatedError(GraphStateError, RuntimeError):
    """A State has no value until it is written: its buffer was donated to a call that failed."""


class TraceCountError(GraphStateError, RuntimeError):
    """A function was traced more often than `assert_max_traces` allows.

    Attributes:
        differences: what differs from the trace before, one line each.
    """

    def __init__(self, message: str, differences: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


class StrategyError(GraphStateError, ValueError):
    """A strategy of `graphstate.testing` cannot draw what is asked for."""


class PropertyError(GraphStateError, AssertionError):
    """A check of `graphstate.testing` has found that a property does not hold.

    Attributes:
        check: the name of the check.
        case: the counter-example, whole; None where a check needs none.
        differences: what differs, one line each.
    """

    def __init__(self, message: str, *, check: str = "", case: Any = None, differences: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.check = check
        self.case = case
        self.differences = tuple(differences)


class TraceContextError(GraphStateError, RuntimeError):
    """A State or Node is read, written or changed where its trace does not reach."""


class PartialRestoreWarning(UserWarning):
    """Of a checkpoint only what fits was restored, as `strict=False` asks for.

    Attributes:
        differences: what does not fit, one line each.
    """

    def __init__(self, message: str, differences: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


class StaleReadWarning(UserWarning):
    """Plain JAX is tracing a program that it will cache, and the program read the value of a State."""
