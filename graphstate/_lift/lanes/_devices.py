"""The devices that lanes are spread over: a mesh, and those of its axes along which the lanes lie.

All meshes here have Auto axes: on Explicit ones, which `jax.make_mesh` makes unless told, what comes out of the lanes
could not be indexed, sorted or multiplied as any other array.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from graphstate.errors import AxisError

__all__ = ["AXIS", "LaneMesh", "auto_mesh"]

AXIS = "lanes"
"""The name of the mesh axis, where the user gives no mesh."""


def auto_mesh(devices: Any, names: Sequence[Any]) -> Mesh:
    """The mesh of an array of devices, with Auto axes."""
    return Mesh(np.asarray(devices), tuple(names), axis_types=(AxisType.Auto,) * len(names))


@dataclass(frozen=True)
class LaneMesh:
    """Where the lanes of a map lie.

    Attributes:
        mesh: the mesh; its axes are Auto.
        names: those of its axes along which the lanes lie.
    """

    mesh: Mesh
    names: tuple[Any, ...]

    @classmethod
    def of(cls, devices: Sequence[Any] | None, mesh: Mesh | None, mesh_axes: Any) -> "LaneMesh":
        """The mesh that was given, or that of all devices.

        Raises:
            AxisError: there are both devices and a mesh, or the mesh has no such axis.
        """
        if mesh is None:
            if mesh_axes is not None:
                raise AxisError(
                    f"`mesh_axes` of `pmap` names axes of a mesh, but it is {mesh_axes!r}, and no `mesh` was given. "
                    "Give the mesh too, or leave `mesh_axes` out."
                )
            found = jax.devices() if devices is None else _listed(devices)
            return cls(auto_mesh(found, (AXIS,)), (AXIS,))
        if devices is not None:
            raise AxisError("`pmap` takes `devices` or a `mesh`, but was given both. Leave one of them out.")
        return cls(auto_mesh(mesh.devices, mesh.axis_names), _chosen(mesh, mesh_axes))

    @functools.cached_property
    def size(self) -> int:
        """Over how many devices, or groups of devices, lanes are spread."""
        return math.prod(self.mesh.shape[name] for name in self.names)

    @functools.cached_property
    def spec(self) -> PartitionSpec:
        """The spec of what has the lanes first; like XLA it names no axis of one device."""
        names = tuple(name for name in self.names if self.mesh.shape[name] > 1)
        return PartitionSpec(names if len(names) > 1 else names[0]) if names else PartitionSpec()

    @functools.cached_property
    def devices(self) -> frozenset[Any]:
        """All devices of the mesh."""
        return frozenset(self.mesh.devices.flat)

    def sharding(self, shape: tuple[int, ...], axis: int | None) -> NamedSharding:
        """How an array lies: its lanes spread over the devices, or a copy on each where it has none, or not so many."""
        rank = len(shape)
        if axis is None or self.size == 1 or not -rank <= axis < rank or shape[axis] % self.size:
            return self._whole
        return self._at(axis % rank)

    @functools.cached_property
    def _whole(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @functools.cached_property
    def _spread(self) -> dict[int, NamedSharding]:
        return {}

    def _at(self, axis: int) -> NamedSharding:
        found = self._spread.get(axis)
        if found is None:
            spec = PartitionSpec(*[None] * axis, *self.spec)
            found = self._spread[axis] = NamedSharding(self.mesh, spec)
        return found

    def __str__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {size}" for name, size in self.mesh.shape.items()) + "}"


def _listed(devices: Any) -> list[Any]:
    """The devices that were given, each once."""
    found = list(np.asarray(devices, dtype=object).flat)
    strange = [each for each in found if not isinstance(each, jax.Device)]
    if strange:
        raise AxisError(
            f"`devices` of `pmap` is a sequence of devices, but {strange[0]!r} is none. Take some of "
            "`jax.devices()`, as `jax.devices()[:4]`."
        )
    if not found:
        raise AxisError("`pmap` needs a device, but `devices` is empty. Leave it out for all that there are.")
    twice = [each for each in found if found.count(each) > 1]
    if twice:
        raise AxisError(
            f"`devices` of `pmap` names each device once, but {twice[0]} is there {found.count(twice[0])} times. One "
            "device runs any number of lanes: name it once."
        )
    return found


def _chosen(mesh: Mesh, mesh_axes: Any) -> tuple[Any, ...]:
    """The axes of the mesh along which the lanes lie: all, unless some were named."""
    if mesh_axes is None:
        return tuple(mesh.axis_names)
    names = tuple(mesh_axes) if isinstance(mesh_axes, tuple | list) else (mesh_axes,)
    unknown = [name for name in names if name not in mesh.axis_names]
    if unknown or not names or len(set(names)) < len(names):
        shown = ", ".join(map(repr, unknown)) if unknown else repr(mesh_axes)
        raise AxisError(
            f"`mesh_axes` of `pmap` names axes of the mesh, each once, but it has {shown}, and the axes of the mesh "
            f"are {', '.join(map(repr, mesh.axis_names))}."
        )
    return names
