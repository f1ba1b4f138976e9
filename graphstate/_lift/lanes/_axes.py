"""Lane axes: which axis of each argument, State and result is the one that a map runs over."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.api_util import flatten_axes
from jax.sharding import PartitionSpec

from graphstate._compat import bare_type
from graphstate._lift.call._arguments import Arguments, argument_names, function_name
from graphstate.errors import AliasError, AxisError, some_of
from graphstate.filters import Filter
from graphstate.graph._axes import StateAxes
from graphstate.graph._graphdef import GraphDef
from graphstate.graph._layout import record_of
from graphstate.graph._path import Path, shorten_path
from graphstate.graph._plan import Plan
from graphstate.graph._state import State

__all__ = [
    "LANES",
    "Axis",
    "Spec",
    "Terms",
    "argument_axes",
    "as_state_axes",
    "axis_of_leaf",
    "check_axis",
    "lane_count",
    "result_axes",
    "slice_type",
    "spread",
    "target_axes",
]

Axis: TypeAlias = Any
"""What a State or array has to be mapped: an int, or a PartitionSpec of `shard_map`; None if it is not mapped."""

Spec: TypeAlias = Any
"""What stands for an object in a prefix tree: an axis, or the `StateAxes` that choose one for each State."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The words of a transform that maps.

    Attributes:
        axis: what a State has one of.
        mapped: what a State with an axis is.
        lane: what runs the function once.
        slice: what a lane sees of a mapped State.
        value: what may stand in a prefix tree.
        in_axes: the parameter for arguments.
        out_axes: the parameter for results.
        state_in_axes: the parameter for States of the closure.
        placed: says what a State with this axis is.
        choose: the axis of a State by `StateAxes`, from its paths and its record.
    """

    axis: str
    mapped: str
    lane: str
    slice: str
    value: str
    in_axes: str
    out_axes: str
    state_in_axes: str
    placed: Callable[[Axis], str]
    choose: Callable[[StateAxes, Sequence[Path], Any], Axis]


def _placed(axis: Axis) -> str:
    return "unmapped (None)" if axis is None else f"mapped at axis {axis}"


LANES = Terms(
    axis="axis",
    mapped="mapped",
    lane="lane",
    slice="slice",
    value="an int or None",
    in_axes="in_axes",
    out_axes="out_axes",
    state_in_axes="state_in_axes",
    placed=_placed,
    choose=StateAxes.axis,
)


def argument_axes(in_axes: Any, arguments: Arguments, function: Callable[..., Any]) -> list[Spec]:
    """The axis of each leaf of `(args, kwargs)`; keyword arguments are mapped over axis 0, as in JAX.

    Raises:
        AxisError: `in_axes` does not fit the arguments.
    """
    args_treedef, _ = jax.tree_util.treedef_children(arguments.shape.treedef)
    count = len(jax.tree_util.treedef_children(args_treedef))
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if type(in_axes) is tuple and len(in_axes) != count:
        raise AxisError(
            f"`in_axes` must have an entry for each of the {count} positional arguments of "
            f"`{function_name(function)}`, but it has {len(in_axes)}: {in_axes!r}. Keyword arguments need none: they "
            "are mapped over axis 0."
        )
    return _checked(spread(arguments.shape.treedef, (in_axes, 0), "in_axes", in_axes, _LEAVES), "in_axes")


def result_axes(out_axes: Any, treedef: Any) -> list[Spec]:
    """The axis of each leaf of a result.

    Raises:
        AxisError: `out_axes` does not fit the result.
    """
    prefix = tuple(out_axes) if isinstance(out_axes, list) else out_axes
    return _checked(spread(treedef, prefix, "out_axes", out_axes, _LEAVES), "out_axes")


_LEAVES = "ints, None and StateAxes"


def spread(treedef: Any, prefix: Any, name: str, given: Any, kinds: str) -> list[Spec]:
    """The leaf of a prefix tree that stands for each leaf of a tree.

    Args:
        treedef: the structure of the tree: of `(args, kwargs)`, where `name` begins with "in".
        prefix: the prefix tree.
        name: what messages call it.
        given: what it was made of.
        kinds: what its leaves may be.

    Raises:
        AxisError: it is no prefix of the tree.
    """
    try:
        return list(flatten_axes(name, treedef, prefix))
    except ValueError:
        marks = jax.tree.unflatten(treedef, ["*"] * treedef.num_leaves)
        is_input = name.startswith("in")
        shape = marks[0] if is_input else marks
        raise AxisError(
            f"`{name}` must be a prefix of the {'arguments' if is_input else 'result'} ({kinds}, where these have "
            f"leaves or subtrees), but it is {given!r}, and they are {shape!r}. A Node is one leaf."
        ) from None


def _checked(found: list[Spec], name: str) -> list[Spec]:
    for axis in found:
        if (
            axis is not None
            and not isinstance(axis, StateAxes)
            and (isinstance(axis, bool) or not isinstance(axis, int))
        ):
            raise AxisError(
                f"`{name}` holds ints, None and StateAxes, but one of its leaves is {axis!r} of type "
                f"{type(axis).__name__}. "
                "To choose by filter write `StateAxes({filter: axis, ...: None})`."
            )
    return found


def as_state_axes(axes: Mapping[Filter, int | None] | StateAxes | Filter) -> StateAxes:
    """The axes of closed-over States: one filter alone means axis 0, None maps none.

    Raises:
        AxisError: an axis is no int.
    """
    if axes is None:
        return StateAxes({})
    if not isinstance(axes, StateAxes):
        axes = StateAxes(axes if isinstance(axes, Mapping) else {axes: 0})
    for axis in axes.axes():
        if isinstance(axis, PartitionSpec):
            raise AxisError(f"A lane axis is an int or None, but one is {axis!r}, which is for `shard_map`.")
    return axes


def axis_of_leaf(spec: Spec, graphdef: GraphDef, place: int, leaf: Any, terms: Terms) -> dict[Path, Axis]:
    """The axis of one State or array by each of its paths in the graph of one object."""
    if not isinstance(spec, StateAxes):
        return {graphdef.path(place): spec}
    record = record_of(graphdef.heads[place], leaf)  # type: ignore[arg-type]
    return {path: terms.choose(spec, (path,), record) for path in graphdef.paths(place)}


def target_axes(arguments: Arguments, specs: Sequence[Spec], function: Callable[..., Any], terms: Terms) -> list[Axis]:
    """The axis of each of `arguments.targets`.

    Raises:
        AliasError: one State is reached in two ways that give it two axes.
    """
    names = argument_names(arguments.shape.treedef, function)
    found: dict[Any, tuple[str, Axis]] = {}
    for root, plan, spot in zip(arguments.roots, arguments.plans, arguments.shape.spots, strict=True):
        for key, (name, axis) in _axes_of_plan(root, plan, specs[spot], names[spot], terms).items():
            known = found.setdefault(key, (name, axis))
            if known[1] != axis:
                raise _two_axes(known, (name, axis), terms)
    axes = []
    picks = arguments.joint.picks
    for root, plan, pick in zip(arguments.roots, arguments.plans, picks, strict=True):
        keys = _leaf_keys(root, plan)
        axes += [found[keys[index]][1] for index in (range(len(keys)) if pick is None else pick)]
    return axes


def _axes_of_plan(root: Any, plan: Plan, spec: Spec, name: str, terms: Terms) -> dict[Any, tuple[str, Axis]]:
    found: dict[Any, tuple[str, Axis]] = {}
    graphdef = plan.graphdef
    for key, place, leaf in zip(_leaf_keys(root, plan), graphdef.leaves, plan.leaves, strict=True):
        for path, axis in axis_of_leaf(spec, graphdef, place, leaf, terms).items():
            label = f"{name}.{shorten_path(path)}" if path else name
            known = found.setdefault(key, (label, axis))
            if known[1] != axis:
                raise _two_axes(known, (label, axis), terms)
    return found


def _leaf_keys(root: Any, plan: Plan) -> list[Any]:
    """What tells a leaf from all others, also across graphs: a State itself, an array by what holds it."""
    graphdef, objects = plan.graphdef, plan.objects(root)
    keys: list[Any] = []
    for place, leaf in zip(graphdef.leaves, plan.leaves, strict=True):
        parent, part = graphdef.edges[place]
        keys.append(id(leaf) if isinstance(leaf, State) else (id(objects[parent]), part))
    return keys


def _two_axes(first: tuple[str, Axis], second: tuple[str, Axis], terms: Terms) -> AliasError:
    return AliasError(
        f"A State has one {terms.axis}, but `{first[0]}` and `{second[0]}` are the same State, and the first is "
        f"{terms.placed(first[1])}, the second {terms.placed(second[1])}. Give both the same {terms.axis}, or clone "
        "one of them."
    )


def check_axis(name: str, value: Any, axis: int) -> int:
    """The number of lanes of a mapped value.

    Raises:
        AxisError: the value has no such axis, or its leaves differ in size.
    """
    sizes = set()
    for leaf in jax.tree.leaves(value):
        shape = np.shape(leaf)
        if not -len(shape) <= axis < len(shape):
            raise AxisError(
                f"`{name}` is mapped at axis {axis}, but its shape is {shape}. Choose another axis, or leave it "
                "unmapped (None); "
                "`StateAxes({filter: axis, ...: None})` chooses for each State of a Node."
            )
        sizes.add(shape[axis])
    if len(sizes) > 1:
        raise AxisError(
            f"`{name}` is mapped at axis {axis}, but its arrays have different sizes there: {sorted(sizes)}."
        )
    return sizes.pop() if sizes else -1


def slice_type(leaf: Any) -> Any:
    """The type of a slice along axis 0 of an array; inside of `shard_map` also what it varies over."""
    if np.shape(leaf)[0] == 0:
        return jax.ShapeDtypeStruct(np.shape(leaf)[1:], jax.typeof(leaf).dtype)
    return jax.eval_shape(lambda leaf: jax.lax.index_in_dim(leaf, 0, keepdims=False), bare_type(leaf))


_ANY_AXIS = (
    "no argument and no State has an axis. Give `in_axes` an axis, map closed-over States with `state_in_axes`, or say "
    "how many lanes with `axis_size`."
)


def lane_count(
    mapped: Sequence[tuple[str, Any, int]],
    axis_size: int | None,
    transform: str,
    size_name: str = "axis_size",
    nothing: str = _ANY_AXIS,
) -> int:
    """The one number of lanes of all mapped values.

    Args:
        mapped: name, value and axis of each.
        axis_size: the number that was given.
        transform: what messages call the transform.
        size_name: what they call the number that was given.
        nothing: what they say where nothing is mapped.

    Raises:
        AxisError: sizes differ, or nothing is mapped and no `axis_size` is given.
    """
    sizes: dict[int, list[str]] = {}
    for name, value, axis in mapped:
        size = check_axis(name, value, axis)
        if size >= 0:
            sizes.setdefault(size, []).append(f"{size} in `{name}` at axis {axis}")
    if axis_size is not None:
        sizes.setdefault(axis_size, []).insert(0, f"{axis_size} as `{size_name}`")
    if len(sizes) == 1:
        return next(iter(sizes))
    if not sizes:
        raise AxisError(f"`{transform}` needs something to map over, but {nothing}")
    lines = [line for size in sorted(sizes) for line in sizes[size][:2]]
    raise AxisError(
        f"`{transform}` maps over one number of lanes, but it was given {len(sizes)} different "
        f"ones:\n{some_of(lines, shown=6)}"
    )
