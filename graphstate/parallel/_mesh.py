"""Meshes: devices in rows and columns, each direction with a name."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from graphstate.errors import AxisError

__all__ = ["make_mesh"]


def make_mesh(
    shape: int | Sequence[int] | None = None,
    names: str | Sequence[Any] = ("batch",),
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh of devices, as `jax.make_mesh` makes it, but with axes of type Auto.

    On these XLA divides the work, and every function of arrays works on what is spread over them; on axes of type
    Explicit, which JAX makes unless told, indexing, sorting or multiplying may need to be told where the result lies.

    Args:
        shape: the number of devices along each axis; all along one, unless told.
        names: the name of each axis.
        devices: the devices; all that there are, unless told.

    Returns:
        The mesh, of the first devices where the shape has not room for all.

    Raises:
        AxisError: the shape has not an axis for each name, two names are the same, or there are not so many devices.

    Example:
        >>> import graphstate as gs, jax
        >>> gs.parallel.make_mesh(names="batch").shape["batch"] == jax.device_count()
        True
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    found = jax.devices() if devices is None else list(devices)
    sizes = (len(found),) if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
    if len(sizes) != len(names):
        raise AxisError(
            f"`make_mesh` needs a name for each axis, but `names` is {names!r}, and the shape is {sizes}"
            f"{' (all devices along one axis)' if shape is None else ''}. Give as many of both."
        )
    if len(set(names)) < len(names):
        raise AxisError(f"`make_mesh` needs another name for each axis, but `names` is {names!r}.")
    if any(size < 1 for size in sizes):
        raise AxisError(f"`make_mesh` needs at least one device along each axis, but the shape is {sizes}.")
    if math.prod(sizes) > len(found):
        raise AxisError(
            f"`make_mesh` needs {math.prod(sizes)} devices for the shape {sizes}, but there are {len(found)}. Choose a "
            "smaller shape; on CPUs `jax.config.update('jax_num_cpu_devices', n)` makes more, before the first is used."
        )
    return jax.make_mesh(sizes, names, axis_types=(AxisType.Auto,) * len(names), devices=found[: math.prod(sizes)])
