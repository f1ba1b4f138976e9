"""Partition specs: how the axes of a mesh split arguments, States and results into the blocks of its shards.

A spec is kept in one form, in which what no axis splits is None; so specs that mean the same are equal.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from graphstate._lift.call._arguments import Arguments, function_name
from graphstate.errors import AxisError
from graphstate.filters import Filter
from graphstate.graph._axes import StateAxes
from graphstate.graph._path import Path

from ._axes import Axis, Spec, Terms, spread

__all__ = [
    "SHARDS",
    "ManualMesh",
    "argument_specs",
    "as_state_specs",
    "check_kinds",
    "mentioned",
    "normalized",
    "result_specs",
]

_KINDS = "PartitionSpecs, None and StateAxes"


def normalized(spec: Any) -> Any:
    """`spec` in the one form that all which mean the same have."""
    if spec is None or spec.unreduced or spec.reduced:
        return spec
    entries: list[Any] = [entry[0] if isinstance(entry, tuple) and len(entry) == 1 else entry or None for entry in spec]
    while entries and entries[-1] is None:
        entries.pop()
    return PartitionSpec(*entries) if entries else None


def _placed(spec: Axis) -> str:
    return "whole in every shard (PartitionSpec())" if spec is None else f"split by {spec!r}"


def _choose(axes: StateAxes, paths: Sequence[Path], record: Any) -> Axis:
    return normalized(axes.spec(paths, record))


SHARDS = Terms(
    axis="spec",
    mapped="split",
    lane="shard",
    slice="block",
    value="a PartitionSpec or None",
    in_axes="in_specs",
    out_axes="out_specs",
    state_in_axes="state_in_specs",
    placed=_placed,
    choose=_choose,
)


def mentioned(spec: Any) -> frozenset[Any]:
    """The mesh axes that a spec names."""
    if spec is None:
        return frozenset()
    return frozenset(name for names in _names(spec).values() for name in names).union(spec.unreduced)


def _names(spec: Any) -> dict[int, tuple[Any, ...]]:
    """For each axis of an array that is split the mesh axes that split it."""
    return {
        axis: names if isinstance(names, tuple) else (names,) for axis, names in enumerate(spec) if names is not None
    }


@dataclass(frozen=True, slots=True)
class ManualMesh:
    """The mesh of one call, and those of its axes over which the function is manual: there it sees blocks.

    Attributes:
        given: the mesh as it was given; None for that of the context.
        names: the manual axes, in the order of the mesh.
        sizes: the size of every axis.
    """

    given: Mesh | AbstractMesh | None
    names: tuple[Any, ...]
    sizes: Mapping[Any, int]

    @classmethod
    def of(cls, mesh: Mesh | AbstractMesh | None, axis_names: Iterable[Any]) -> "ManualMesh":
        """The mesh that was given, or that of the context.

        Raises:
            AxisError: there is none, or it has no such axis.
        """
        found = jax.sharding.get_abstract_mesh() if mesh is None else mesh
        if found.empty:
            raise AxisError("`shard_map` needs a mesh. Give one as `mesh=`, or call it within `jax.set_mesh(mesh)`.")
        chosen = frozenset(axis_names) or frozenset(found.axis_names)
        unknown = chosen - frozenset(found.axis_names)
        if unknown:
            raise AxisError(
                f"`axis_names` of `shard_map` names {_quoted(unknown)}, but the axes of the mesh are "
                f"{_quoted(found.axis_names)}."
            )
        names = tuple(name for name in found.axis_names if name in chosen and name not in found.manual_axes)
        return cls(mesh, names, dict(found.shape))

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return math.prod(self.sizes[name] for name in self.names)

    def check_names(self, parameter: str, specs: Iterable[Spec]) -> None:
        """Refuses a spec that names an axis which the mesh does not have, or over which it is not manual."""
        for each in specs:
            for spec in each.axes() if isinstance(each, StateAxes) else (each,):
                unknown = mentioned(spec) - frozenset(self.names)
                if unknown:
                    raise AxisError(
                        f"`{parameter}` of `shard_map` names {_quoted(unknown)} in {spec!r}, but it splits over "
                        f"{_quoted(self.names)}; the mesh is {self}. Name one of these axes, or add the axis to the "
                        "mesh or to `axis_names`."
                    )

    def check_split(self, name: str, value: Any, spec: Any) -> None:
        """Refuses a value that has not the axes which `spec` splits, or whose blocks would differ in size."""
        for leaf in jax.tree.leaves(value) if spec is not None else ():
            shape = np.shape(leaf)
            self.check_rank(f"`{name}`", shape, spec)
            for axis, names in _names(spec).items():
                size = math.prod(self.sizes[each] for each in names)
                if shape[axis] % size:
                    raise AxisError(
                        f"`{name}` is split by {spec!r}, which makes {size} blocks along its axis {axis}, but its "
                        f"shape is {shape}, and {shape[axis]} is no multiple of {size}. The mesh is {self}. Pad it, "
                        "split another axis, or leave it whole (`PartitionSpec()`)."
                    )

    def check_rank(self, name: str, shape: tuple[int, ...], spec: Any) -> None:
        """Refuses a shape with fewer axes than `spec` has entries."""
        if len(spec) > len(shape):
            raise AxisError(
                f"{name} is split by {spec!r}, which has an entry for axis {len(spec) - 1}, but its shape is {shape}. "
                f"The mesh is {self}. Give it a shorter spec, or one more axis (`value[None]`)."
            )

    def block(self, leaf: jax.Array, spec: PartitionSpec) -> jax.Array:
        """The block of a whole array that belongs to the shard which asks."""
        for axis, names in _names(spec).items():
            size = leaf.shape[axis] // math.prod(self.sizes[each] for each in names)
            leaf = jax.lax.dynamic_slice_in_dim(leaf, jax.lax.axis_index(names) * size, size, axis)
        return leaf

    def __str__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {size}" for name, size in self.sizes.items()) + "}"


def _quoted(names: Iterable[Any]) -> str:
    return ", ".join(sorted(map(repr, names))) or "no axis"


def check_kinds(parameter: str, specs: Iterable[Any]) -> None:
    """Refuses a leaf of a tree of specs that is none.

    Raises:
        AxisError: naming the parameter.
    """
    for each in specs:
        for spec in each.axes() if isinstance(each, StateAxes) else (each,):
            if spec is not None and not isinstance(spec, PartitionSpec):
                raise AxisError(
                    f"`{parameter}` of `shard_map` holds PartitionSpecs and None, or `StateAxes` of these, but in it "
                    f"is {spec!r} of type {type(spec).__name__}. To choose by filter write "
                    "`StateAxes({filter: PartitionSpec(...), ...: None})`."
                )


def as_state_specs(specs: Mapping[Filter, PartitionSpec | None] | StateAxes | None, parameter: str) -> StateAxes:
    """The specs of closed-over States.

    Raises:
        AxisError: `specs` is no mapping from filter to PartitionSpec.
    """
    if specs is None:
        return StateAxes({})
    given = specs.by_filter() if isinstance(specs, StateAxes) else specs
    if not isinstance(given, Mapping) or not all(isinstance(spec, PartitionSpec | None) for spec in given.values()):
        raise AxisError(
            f"`{parameter}` of `shard_map` is a mapping from filter to PartitionSpec, as "
            f"`{{HiddenState: PartitionSpec('x')}}`, but it is {specs!r}."
        )
    return StateAxes({each: normalized(spec) for each, spec in given.items()})


def argument_specs(in_specs: Any, arguments: Arguments, function: Callable[..., Any]) -> list[Spec]:
    """The spec of each leaf of `(args, kwargs)`; a keyword argument has that of its position.

    Raises:
        AxisError: `in_specs` does not fit the arguments.
    """
    treedef = arguments.shape.treedef
    args, kwargs = jax.tree.unflatten(treedef, [0] * treedef.num_leaves)
    if not isinstance(in_specs, tuple | list):
        return _normalized_all(spread(treedef, (in_specs, in_specs), "in_specs", in_specs, _KINDS))
    positions = {name: _position(function, name) for name in kwargs}
    given = [*range(len(args)), *positions.values()]
    if sorted(given) != list(range(len(in_specs))):
        raise AxisError(
            f"`in_specs` must have an entry for each argument of `{function_name(function)}`, but it has "
            f"{len(in_specs)}, and {len(given)} arguments were given: {in_specs!r}."
        )
    prefix = tuple(in_specs[: len(args)]), {name: in_specs[position] for name, position in positions.items()}
    return _normalized_all(spread(treedef, prefix, "in_specs", in_specs, _KINDS))


def _position(function: Callable[..., Any], name: str) -> int:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    for position, parameter in enumerate(parameters):
        if parameter.name == name and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            return position
    raise AxisError(
        f"`in_specs` has entries for positional arguments, but `{function_name(function)}` was given `{name}`, which "
        "has no position. Give one spec for all arguments, or bind it with `functools.partial`."
    )


def result_specs(out_specs: Any, treedef: Any) -> list[Spec]:
    """The spec of each leaf of a result.

    Raises:
        AxisError: `out_specs` does not fit the result.
    """
    prefix = tuple(out_specs) if isinstance(out_specs, list) else out_specs
    return _normalized_all(spread(treedef, prefix, "out_specs", out_specs, _KINDS))


def _normalized_all(specs: list[Spec]) -> list[Spec]:
    return [spec if isinstance(spec, StateAxes) else normalized(spec) for spec in specs]
