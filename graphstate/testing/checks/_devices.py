"""The check of devices: lanes spread over them are still the lanes."""

from typing import Any

import jax

from graphstate.testing._case import BatchCase
from graphstate.testing._compare import compare_outcomes
from graphstate.testing._findings import Finding, Sides
from graphstate.testing._point import Point
from graphstate.testing._programs import AxisTree, Form, program_of, spread_over
from graphstate.testing._tolerance import Tol
from graphstate.testing._verdict import judge

from ._mapping import nested
from ._start import point_of

__all__ = ["check_pmap"]


def check_pmap(fn: Any, case: BatchCase, *, tol: Tol | None = None, batched: bool = False) -> None:
    """Lanes that are spread over devices leave behind what `vmap` does, random numbers included.

    Every number of devices that divides the number of lanes is tried, as far as there are so many:
    `jax.config.update("jax_num_cpu_devices", 8)` before anything else makes eight of one CPU.

    Args:
        fn: as in `check_vmap`.
        case: as in `check_vmap`. Batched, it is spread twice, the second time with its lanes in another order.
        tol: as in `check_vmap`.
        batched: as in `check_vmap`.

    Raises:
        PropertyError: they leave something else.

    Example:
        >>> import graphstate.testing as gst, jax.numpy as jnp, numpy as np
        >>> gst.check_pmap(jnp.cumsum, gst.BatchCase(2, (np.float32([[0, 1], [2, 4]]),)))
    """
    point = point_of("check_pmap", "it depends on the devices", fn, case, tol, batched)
    if case.axis_size:
        judge(nested(point) if batched else point, _pmap)


def _pmap(point: Point) -> list[Finding]:
    case = point.case
    mapped = point.batch()
    if mapped.error is not None:
        raise mapped.error
    for count in _counts(case.axis_size):
        options = (AxisTree.of(case.in_axes), AxisTree.of(case.out_axes), point.states, case.axis_size, count)
        program = program_of(point.function, Form("pmap", spread_over, options)).call
        label = f"pmap over {count} device{'s' * (count > 1)}"
        spread = point.run(label, program, case.args, case.kwargs, point.axes)
        found = compare_outcomes(spread, mapped, Sides(label, "vmap"), point.tol)
        if found:
            return found
    return []


def _counts(size: int) -> list[int]:
    """The numbers of devices that divide a number of lanes."""
    return [count for count in range(1, min(size, jax.device_count()) + 1) if size % count == 0]
