"""`BatchingSuite`: the checks of a module as tests of pytest, one item a check."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from ._module import Made, for_lanes
from ._tolerance import Tol
from .checks._table import CHECKS, Check

__all__ = ["BatchingSuite"]


class BatchingSuite:
    """Subclass it, say how the module is made and what one lane is given, and pytest runs every check that applies.

    Attributes:
        examples: the arguments of one lane: arrays, pytrees of arrays, or strategies of hypothesis.
        tol: what difference counts as rounding.
        batched: whether the module takes a batch, rather than one lane.
        max_examples: how many examples strategies draw.

    Example:
        >>> import graphstate as gs, graphstate.testing as gst, numpy as np
        >>> class TestLinear(gst.BatchingSuite):
        ...     examples = (np.float32([1, 2, 3]),)
        ...     def make(self):
        ...         return gs.nn.Linear(3, 2)
        >>> TestLinear().test_vmap()
    """

    examples: ClassVar[tuple[Any, ...]] = ()
    tol: ClassVar[Tol | None] = None
    batched: ClassVar[bool] = False
    max_examples: ClassVar[int] = 5

    def make(self) -> Any:
        """Builds the module."""
        raise TypeError(f"`{type(self).__name__}` needs a method `make` that builds the module to check.")

    def _run(self, check: Check) -> None:
        made = Made(self.make, self.batched)
        ran: list[Any] = []

        def run_lanes(lanes: tuple[Any, ...]) -> None:
            for form in made.forms(lanes):
                if check in form.checks and form.applies(check):
                    form.run(check, self.tol)
                    ran.append(form)

        if self.examples:
            for_lanes(self.examples, self.max_examples, run_lanes)
        elif check.name in ("check_roundtrip", "check_pickle"):
            check.run(made.module)
            ran.append(made)
        if not ran:
            pytest.skip(f"`{check.name}` does not apply to this module and these examples")


def _test_of(check: Check) -> Callable[[BatchingSuite], None]:
    def test(self: BatchingSuite) -> None:
        self._run(check)

    test.__name__ = test.__qualname__ = "test_" + check.name.removeprefix("check_")
    test.__doc__ = (check.run.__doc__ or "").partition("\n")[0]
    return test


for _check in CHECKS:
    if not _check.of_steps:
        setattr(BatchingSuite, f"test_{_check.name.removeprefix('check_')}", _test_of(_check))
