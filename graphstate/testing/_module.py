"""`check_module`: every check that applies to a module, in one line."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from graphstate import environ
from graphstate.errors import AliasError, BatchAxisError, StateTypeError, StructureError
from graphstate.graph import stack
from graphstate.graph._attributes import is_graph_object

from ._arrays import is_inexact, is_key
from ._case import BatchCase
from ._point import Point
from ._tolerance import Tol
from .checks._graphs import check_pickle, check_roundtrip
from .checks._table import CHECKS, Check

__all__ = ["Form", "Made", "check_module", "for_lanes", "lanes_of"]

_LANES = 2


class Form(NamedTuple):
    """One way to put a module into a batch.

    Attributes:
        name: what it is called.
        function: what is checked.
        case: its arguments.
        batched: whether it takes the whole batch.
        checks: what is run of it.
        fit: whether the setting `fit` is switched on; None to leave it.
    """

    name: str
    function: Any
    case: BatchCase
    batched: bool
    checks: tuple[Check, ...]
    fit: bool | None

    def run(self, check: Check, tol: Tol | None) -> None:
        """Runs one check."""
        if self.fit is None:
            check.run(self.function, self.case, tol=tol, batched=self.batched)
            return
        with environ.context(fit=self.fit):
            check.run(self.function, self.case, tol=tol, batched=self.batched)

    def applies(self, check: Check) -> bool:
        """Whether a check applies."""
        if self.fit is None:
            return check.applies(self.function, self.case, batched=self.batched)
        with environ.context(fit=self.fit):
            return check.applies(self.function, self.case, batched=self.batched)


def check_module(
    make: Callable[[], Any],
    *examples: Any,
    tol: Tol | None = None,
    batched: bool = False,
    max_examples: int = 5,
) -> None:
    """Runs every check that applies to a module.

    The module is checked as one object that all lanes share, and, where it has States, as a stack of members, a lane
    each; with the setting `fit` as it is, and, where the module looks at it, switched on as well.

    Args:
        make: builds the module, a Node or any function.
        *examples: the arguments of one lane: arrays, or pytrees of arrays, of which lanes with other values are made;
            or strategies of hypothesis, which draw them. Without any, only what needs no call is checked.
        tol: what difference counts as rounding.
        batched: whether the module takes a batch, its first axis the lanes, rather than one lane.
        max_examples: how many examples strategies draw.

    Raises:
        PropertyError: a property does not hold.
        MissingPackageError: strategies were given, and hypothesis is not installed.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst, numpy as np
        >>> gst.check_module(lambda: gs.nn.Linear(3, 2), np.float32([1, 2, 3]))
    """
    made = Made(make, batched)
    if not examples:
        for check in (check_roundtrip, check_pickle):
            check(made.module)
        return
    ran: set[str] = set()

    def check_all(lanes: tuple[Any, ...]) -> None:
        for form in made.forms(lanes):
            for check in form.checks:
                if not (check.compiles_anew and f"{form.name} {check.name}" in ran) and form.applies(check):
                    form.run(check, tol)
                    ran.add(f"{form.name} {check.name}")

    for_lanes(examples, max_examples, check_all)


def for_lanes(examples: Sequence[Any], number: int, run: Callable[[tuple[Any, ...]], None]) -> None:
    """Runs something for lanes like the examples, or for as many as strategies shall draw."""
    if not any(map(is_strategy, examples)):
        run(lanes_of(examples))
        return
    from ._drawn import draw_lanes  # which imports hypothesis

    draw_lanes(examples, number, run)


def is_strategy(example: Any) -> bool:
    """Whether an example is a strategy of hypothesis."""
    module = sys.modules.get("hypothesis.strategies")
    return module is not None and isinstance(example, module.SearchStrategy)


def lanes_of(examples: Sequence[Any], size: int = _LANES) -> tuple[Any, ...]:
    """A batch of lanes like the given one, each with other values; keys are split."""
    return tuple(jax.tree.map(lambda leaf: _lanes_like(leaf, size), example) for example in examples)


def _lanes_like(leaf: Any, size: int) -> Any:
    if is_key(leaf):
        return jax.vmap(lambda lane: jax.random.fold_in(leaf, lane))(jnp.arange(size))
    array = np.asarray(leaf)
    if is_inexact(array):
        lanes = [array * (1 + lane / 4) + lane / 8 for lane in range(size)]
    elif array.ndim:
        lanes = [np.roll(array, lane) for lane in range(size)]
    else:
        lanes = [array] * size
    return np.stack(lanes).astype(array.dtype)


class Made:
    """A module that was made once for all its checks, so that they share what is compiled.

    Args:
        make: builds it.
        batched: whether it takes a batch.
    """

    def __init__(self, make: Callable[[], Any], batched: bool) -> None:
        self.make = make
        self.module = make()
        self.batched = batched
        self._members: dict[int, Any] = {}

    def members(self, size: int) -> Any:
        """So many of them as one stacked Node; None where they share something, or are no Nodes."""
        if size not in self._members:
            self._members[size] = _members(self.make, size) if is_graph_object(self.module) else None
        return self._members[size]

    def forms(self, lanes: tuple[Any, ...]) -> Iterator[Form]:
        """The ways in which it is checked.

        Raises:
            StateTypeError: it cannot be called.
        """
        module, batched = self.module, self.batched
        if not callable(module):
            raise StateTypeError(
                f"`check_module` calls the module with the examples, but {type(module).__name__} has no `__call__`. "
                "Give it one, give a function that calls a method, or leave the examples out."
            )
        size = int(np.shape(jax.tree.leaves(lanes)[0])[0])
        case = BatchCase(size, lanes)
        every = tuple(check for check in CHECKS if not check.of_steps)
        is_shared = batched or _can_be_shared(module, case)
        if is_shared:
            yield Form("shared", module, case, batched, every, None)
            if not environ.get("fit") and _looks_at_fit(module, case, batched):
                yield Form("shared, fit", module, case, batched, _named(every, _FITTING if batched else _MAPPED), True)
        members = None if batched else self.members(size)
        if members is not None:
            of_members = BatchCase(size, (members, *lanes))
            yield Form("members", _call, of_members, False, _named(every, _MAPPED) if is_shared else every, None)


_FITTING = ("check_vmap", "check_lane_isolation", "check_rng")
_MAPPED = ("check_vmap", "check_rng")
"""What is worth its compilation where `vmap` keeps lanes apart, and all else was checked before."""


def _named(checks: tuple[Check, ...], names: Sequence[str]) -> tuple[Check, ...]:
    return tuple(check for check in checks if check.name in names)


def _call(module: Any, /, *args: Any) -> Any:
    """One member with its arguments."""
    return module(*args)


def _can_be_shared(module: Any, case: BatchCase) -> bool:
    """Whether lanes can share the module: not if it keeps something of each lane, as a running mean does."""
    return not isinstance(Point("check_module", "", module, case, Tol(), False).batch().error, BatchAxisError)


def _looks_at_fit(module: Any, case: BatchCase, batched: bool) -> bool:
    """Whether the module does something else while fitting."""
    outcomes = []
    for fit in (False, True):
        with environ.context(fit=fit):
            outcomes.append(Point("check_module", "", module, case, Tol(), batched).batch())
    one, other = outcomes
    if isinstance(other.error, BatchAxisError):
        return False  # lanes cannot share it then, as a normalisation that wants a batch
    if one.error is not None or other.error is not None:
        return type(one.error) is not type(other.error)
    pairs = zip(one.leaves, other.leaves, strict=False)
    return len(one.leaves) != len(other.leaves) or any(not _equal(left, right) for left, right in pairs)


def _equal(left: Any, right: Any) -> bool:
    if is_key(left.value):
        return bool((jax.random.key_data(left.value) == jax.random.key_data(right.value)).all())
    return np.array_equal(np.asarray(left.value), np.asarray(right.value), equal_nan=is_inexact(left.value))


def _members(make: Callable[[], Any], size: int) -> Any:
    """Members stacked, if they share nothing and have States."""
    try:
        members = stack([make() for _ in range(size)])
    except (AliasError, StructureError):
        return None
    return members
