"""The forms in which a function is run, each compiled once and kept, so that many cases cost one compilation."""

import functools
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from graphstate.graph import StateAxes
from graphstate.graph._attributes import is_graph_object
from graphstate.transform import assert_max_traces, checkpoint, for_loop, jit, pmap, vmap
from graphstate.transform._assert_max_traces import CountedFunction

from ._leaves import specs_of

__all__ = [
    "AxisTree",
    "Form",
    "Program",
    "compiled",
    "inner_map",
    "looped",
    "mapped",
    "program_of",
    "rematerialized",
    "spread_over",
]

_UNLIMITED = 2**31
_QUICK = {"xla_backend_optimization_level": 0}


class Form(NamedTuple):
    """How a function is run.

    Attributes:
        name: what it is called in messages.
        wrap: what makes the form of the function; the same object for the same form.
        options: hashable arguments for it.
    """

    name: str
    wrap: Callable[..., Any]
    options: tuple[Any, ...] = ()


class Program(NamedTuple):
    """A function in one form.

    Attributes:
        call: runs it.
        counted: counts its traces.
    """

    call: Callable[..., Any]
    counted: CountedFunction


class _Identity:
    """A function by what it is, for tables: methods of one object are equal."""

    __slots__ = ("_key", "function")

    def __init__(self, function: Any) -> None:
        self.function = function
        self._key = (
            (id(function.__self__), id(function.__func__)) if isinstance(function, types.MethodType) else id(function)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def program_of(function: Any, form: Form) -> Program:
    """The function in one form, the same program each time."""
    return _program(_Identity(function), form)


@functools.lru_cache(maxsize=256)
def _program(target: _Identity, form: Form) -> Program:
    counted = assert_max_traces(target.function, _UNLIMITED)
    return Program(form.wrap(counted, *form.options), counted)


# Forms


def compiled(function: Callable[..., Any]) -> Any:
    """`jit`; on CPU without what LLVM takes half of the time for, since checks run a program a few times only."""
    return jit(function, compiler_options=_QUICK if jax.default_backend() == "cpu" else None)


def mapped(function: Callable[..., Any], in_axes: Any, out_axes: Any, states: StateAxes, size: int, rng: str) -> Any:
    """`vmap`, compiled."""
    return compiled(
        vmap(
            function,
            in_axes=in_axes.tree(),
            out_axes=out_axes.tree(),
            state_in_axes=states,
            axis_size=size,
            rng=rng,
        )
    )


def spread_over(
    function: Callable[..., Any], in_axes: "AxisTree", out_axes: "AxisTree", states: StateAxes, size: int, count: int
) -> Any:
    """`pmap`, over the first devices."""
    return pmap(
        function,
        in_axes=in_axes.tree(),
        out_axes=out_axes.tree(),
        state_in_axes=states,
        axis_size=size,
        devices=jax.devices()[:count],
    )


def rematerialized(function: Callable[..., Any]) -> Any:
    """`checkpoint`, compiled."""
    return compiled(checkpoint(function))


def inner_map(function: Callable[..., Any], in_axes: Any, out_axes: Any, states: StateAxes, size: int) -> Any:
    """`vmap`, for another transform to take."""
    return vmap(function, in_axes=in_axes.tree(), out_axes=out_axes.tree(), state_in_axes=states, axis_size=size)


def looped(function: Callable[..., Any], in_axes: "AxisTree", steps: int) -> Any:
    """`for_loop` over the first axis of what is mapped, compiled; Nodes that come out are left to where they live."""

    def loop(*args: Any, **kwargs: Any) -> Any:
        leaves, specs = specs_of(args, kwargs, in_axes.tree())
        treedef = jax.tree.structure((args, kwargs))
        spots = [spot for spot, spec in enumerate(specs) if spec is not None]

        def body(*slices: Any) -> Any:
            given = list(leaves)
            for spot, item in zip(spots, slices, strict=True):
                given[spot] = item
            inner, named = jax.tree.unflatten(treedef, given)
            result = function(*inner, **named)
            return jax.tree.map(lambda leaf: None if is_graph_object(leaf) else leaf, result)

        return for_loop(body, *(leaves[spot] for spot in spots), length=steps)

    return compiled(loop)


class AxisTree(NamedTuple):
    """A prefix tree of axes that can be hashed."""

    leaves: tuple[Any, ...]
    treedef: Any

    @classmethod
    def of(cls, axes: Any) -> "AxisTree":
        """That of a tree of ints, None and `StateAxes`."""
        leaves, treedef = jax.tree.flatten(axes, is_leaf=lambda leaf: leaf is None)
        return cls(tuple(leaves), treedef)

    def tree(self) -> Any:
        """The tree itself."""
        return jax.tree.unflatten(self.treedef, self.leaves)
