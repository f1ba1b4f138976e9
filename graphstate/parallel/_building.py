"""`init_sharded` and `abstract`: models that are built where rules say that they are to lie, or would be.

The function that builds is traced, and its result is looked at before anything is computed. So each device makes its
own part, and one too large for any of them is never put together anywhere.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from graphstate import graph
from graphstate._compat import Tracer
from graphstate._lift.call._arguments import Arguments, function_name
from graphstate._lift.call._boundary import arrive
from graphstate._lift.call._captured import CallNote, Operands, Outputs, capture, finish, read_captured
from graphstate._lift.call._lifted import watched
from graphstate._lift.lanes._account import Account, ProgramAccount
from graphstate._lift.lanes._agreement import agreement
from graphstate._lift.lanes._moving import put
from graphstate._trace import outer_value, unpack
from graphstate.graph._path import show_path
from graphstate.graph._state import State
from graphstate.graph._walked import walk

from ._placing import Plan, Rules, check_rules, move, plan_by_rules

__all__ = ["abstract", "init_sharded"]


def init_sharded(fn: Callable[..., Any], mesh: Mesh, rules: Rules) -> "ShardedBuild":
    """Builds a model in its parts, each on its device: `place(fn(*args), mesh, rules)`, but never the whole of it.

    `fn` is traced, and runs as one compiled program. It draws the random numbers that it draws when it is called as it
    is, and streams advance as they do then. Values may differ by rounding. Whether a device needs more than its part
    for a moment depends on `fn`: what JAX cannot divide, as the decomposition behind an orthogonal matrix, each makes
    as a whole.

    Args:
        fn: builds and returns a Node, or any pytree of Nodes, States and arrays.
        mesh: the mesh.
        rules: from the name of an axis of a State to the axis of the mesh that divides it, as in `place`.

    Returns:
        A function of the arguments of `fn`: arrays are traced, all other arguments are given as they are. It compiles
        on each call, and has `lower`, as `jit` has.

    Raises:
        ShardingError: as in `place`; for what it builds when it is called. Nothing is computed, and no State changes.

    Example:
        >>> import graphstate as gs, jax, jax.numpy as jnp
        >>> class Up(gs.Node):
        ...     def __init__(self, size):
        ...         self.weight = gs.ParamState(gs.random.normal(size=(3, size)), axes=("embed", "mlp"))
        >>> mesh = gs.parallel.make_mesh(names="model")
        >>> model = gs.parallel.init_sharded(Up, mesh, {"mlp": "model"})(8 * jax.device_count())
        >>> model.weight.value.addressable_shards[0].data.shape
        (3, 8)
    """
    check_rules(rules, mesh)
    return ShardedBuild(fn, mesh, rules)


def abstract(fn: Callable[..., Any], mesh: Mesh, rules: Rules) -> Callable[..., Any]:
    """The model that `init_sharded` would build, with a `jax.ShapeDtypeStruct` in place of each array; none is made.

    What restores a checkpoint can read from it how each array is to lie, on other devices than those that saved it.

    Args:
        fn: builds and returns a Node, or any pytree of Nodes, States and arrays.
        mesh: the mesh.
        rules: as in `place`.

    Returns:
        A function of the arguments of `fn`, which takes a `jax.ShapeDtypeStruct` for an array too. It changes no State.

    Raises:
        ShardingError: as in `place`; for what it builds when it is called.

    Example:
        >>> import graphstate as gs, jax
        >>> weight = gs.parallel.abstract(gs.nn.Linear, gs.parallel.make_mesh(), {})(2, 3).weight.value
        >>> weight.shape, weight.sharding.is_fully_replicated
        ((2, 3), True)
    """
    check_rules(rules, mesh)

    def build(*args: Any, **kwargs: Any) -> Any:
        built = graph.abstract(fn, *args, **kwargs)
        wanted = _by_struct(plan_by_rules(built, mesh, rules))
        graphdef, values = graph.split(built)
        whole = NamedSharding(mesh, PartitionSpec())
        return graph.merge(graphdef, jax.tree.map(lambda each: _lying(each, wanted.get(id(each), whole)), values))

    return build


class Traced(NamedTuple):
    """A function that builds, traced.

    Attributes:
        arguments: those of its arguments that are arrays.
        note: what its outputs mean.
        inputs: those arrays, and the values of what else it takes.
        program: computes the outputs from the inputs.
        jaxpr: what it does.
        built: the model, with types in place of arrays.
    """

    arguments: Arguments
    note: CallNote
    inputs: tuple[list[Any], list[Any]]
    program: Any
    jaxpr: Any
    built: Any


class ShardedBuild:
    """What `init_sharded` returns.

    Args:
        fn: builds the model.
        mesh: the mesh.
        rules: from the name of an axis to that of the mesh.
    """

    def __init__(self, fn: Callable[..., Any], mesh: Mesh, rules: Rules) -> None:
        self._fn = fn
        self._mesh = mesh
        self._rules = rules
        self._whole = NamedSharding(mesh, PartitionSpec())

    def __repr__(self) -> str:
        return f"init_sharded({function_name(self._fn)})"

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Builds the model."""
        traced = self._traced(args, kwargs)
        if self._mesh.is_multi_process:
            self._agree(traced)
        outputs: Outputs = traced.program(*self._within_reach(traced.inputs))
        closed = [_as_before(cell, new) for cell, new in zip(traced.note.closed, outputs.closed, strict=True)]
        built = finish(traced.note, traced.arguments, outputs._replace(closed=closed))
        return move(plan_by_rules(built, self._mesh, self._rules))  # `fn` may return what was there before

    def lower(self, /, *args: Any, **kwargs: Any) -> Any:
        """The lowered program for these arguments, as `jax.jit(f).lower` gives it; no State changes."""
        traced = self._traced(args, kwargs)
        return traced.program.lower(*self._within_reach(traced.inputs))

    def _traced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
        function, arrays = _of_arrays(self._fn, args, kwargs)
        operands = Operands(tuple(arrays), {}, "init_sharded", function)
        program = capture(function, operands, watched(function, "init_sharded"), "init_sharded")
        structs: Outputs = jax.tree.unflatten(program.treedef, map(_struct_of, program.jaxpr.out_avals))
        built = arrive(program.note.departure, operands.arguments, structs.results, [], structs.fresh)
        wanted = _by_struct(plan_by_rules(built, self._mesh, self._rules))
        shardings = jax.tree.map(lambda each: wanted.get(id(each), self._whole), structs)

        def build(arrays: list[Any], captured: list[Any]) -> Any:
            return program.run(([], arrays), captured)

        inputs = operands.arrays, read_captured(program)
        compiled = jax.jit(build, out_shardings=shardings)
        return Traced(operands.arguments, program.note, inputs, compiled, program.jaxpr, built)

    def _agree(self, traced: Traced) -> None:
        """Makes sure that all processes build the same."""
        built = walk(traced.built)
        taken = [each for each in jax.tree.leaves(traced.inputs) if not isinstance(each, Tracer)]
        arrays = [(f"an array that `{function_name(self._fn)}` takes", each) for each in taken]
        for place, leaf in zip(built.graphdef.leaves, built.leaves, strict=True):
            value = unpack(outer_value(leaf)) if isinstance(leaf, State) else leaf
            arrays.append((show_path(built.graphdef.path(place)), value))
        agreement.ask(self._mesh, f"`{self!r}`", Account([([""], built.graphdef)], arrays), each_time=True)
        agreement.ask(self._mesh, f"The program of `{self!r}`", ProgramAccount(traced.jaxpr))

    def _within_reach(self, inputs: Any) -> Any:
        """Inputs that lie elsewhere than on the mesh, copied to all of it."""
        devices = set(self._mesh.devices.flat)

        def reached(leaf: Any) -> Any:
            if isinstance(leaf, Tracer):
                return leaf
            is_elsewhere = _was_put(leaf) and leaf.sharding.device_set != devices
            is_one_of_many = self._mesh.is_multi_process and getattr(leaf, "is_fully_addressable", True)
            return put([leaf], [self._whole])[0] if is_elsewhere or is_one_of_many else leaf

        return jax.tree.map(reached, inputs)


def _of_arrays(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[Any]]:
    """`fn` as a function of those of its arguments that are arrays, and these."""
    leaves, treedef = jax.tree.flatten((args, kwargs))
    spots = [spot for spot, leaf in enumerate(leaves) if isinstance(leaf, jax.Array | np.ndarray)]

    def function(*arrays: Any) -> Any:
        given = leaves.copy()
        for spot, array in zip(spots, arrays, strict=True):
            given[spot] = array
        inner_args, inner_kwargs = jax.tree.unflatten(treedef, given)
        return fn(*inner_args, **inner_kwargs)

    function.__name__ = function.__qualname__ = function_name(fn)
    return function, [leaves[spot] for spot in spots]


def _by_struct(plan: Plan) -> dict[int, NamedSharding]:
    """The sharding that each type of an array is to get, by its id."""
    pairs = [
        (struct, sharding)
        for state, shardings in plan.cells
        for struct, sharding in zip(jax.tree.leaves(state.value), jax.tree.leaves(shardings), strict=True)
    ]
    return {id(struct): sharding for struct, sharding in (*pairs, *plan.leaves) if sharding is not None}


def _struct_of(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def _lying(struct: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    """The type of an array of JAX, which may be narrower than that of the array of NumPy that it is made from."""
    dtype = struct.dtype
    narrow = jax.dtypes.canonicalize_dtype(dtype) if isinstance(dtype, np.dtype) else dtype
    return jax.ShapeDtypeStruct(struct.shape, narrow, sharding=sharding, weak_type=struct.weak_type)


def _as_before(cell: Any, new: Any) -> Any:
    """The new value of a State of the caller's, where its old one lies: its stream draws there, not on the mesh."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(new)):
        return new
    old = unpack(outer_value(cell))
    structures: list[Any] = [jax.tree.structure(value) for value in (old, new)]
    return jax.tree.map(_moved, new, old) if structures[0] == structures[1] else new


def _moved(new: jax.Array, old: Any) -> Any:
    if _was_put(old) and not (new.shape == old.shape and old.is_fully_addressable):
        return jax.device_put(new, old.sharding) if new.shape == old.shape else new
    return jax.device_put(_fetched(new), old.sharding) if _was_put(old) else _fetched(new)


def _fetched(new: jax.Array) -> jax.Array:
    """An array of which the whole lies on each device, as one that was put on none."""
    if jnp.issubdtype(new.dtype, jax.dtypes.prng_key):
        key: jax.Array = jax.random.wrap_key_data(_fetched(jax.random.key_data(new)), impl=jax.random.key_impl(new))
        return key
    whole = np.asarray(new.addressable_data(0))
    return jnp.asarray(whole.item() if new.weak_type and not whole.ndim else whole)


def _was_put(value: Any) -> bool:
    """Whether the user has said on which devices an array lies."""
    return not isinstance(value, Tracer) and getattr(value, "committed", False)
