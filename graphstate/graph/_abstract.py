"""`abstract`: the object graph that a function would build, with shapes in place of arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from graphstate._trace import Frame

from ._flatten import flatten, unflatten
from ._graphdef import GraphDef
from ._split import leaf_value

__all__ = ["abstract"]


def abstract(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The Node that `fn(*args, **kwargs)` would build, holding `jax.ShapeDtypeStruct`s; nothing is computed.

    `fn` runs once. Its arrays are traced, so that arguments may be `jax.ShapeDtypeStruct`s too; all other arguments are
    given as they are. No State of the caller is changed, the default RNG included.

    Args:
        fn: builds and returns a Node, or any pytree of Nodes and States.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Example:
        >>> import graphstate as gs
        >>> gs.abstract(gs.nn.Linear, 2, 3).weight.value
        ShapeDtypeStruct(shape=(2, 3), dtype=float32)
    """
    frame = Frame()
    leaves, treedef = jax.tree.flatten((args, kwargs))
    spots = [
        spot for spot, leaf in enumerate(leaves) if isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct)
    ]
    built: list[tuple[GraphDef, Any, list[Any]]] = []

    def trace(arrays: Sequence[Any]) -> list[Any]:
        given = leaves.copy()
        for spot, array in zip(spots, arrays, strict=True):
            given[spot] = array
        inner_args, inner_kwargs = jax.tree.unflatten(treedef, given)
        with frame:
            flat = flatten(fn(*inner_args, **inner_kwargs))
            values, structure = jax.tree.flatten([leaf_value(leaf) for leaf in flat.leaves])
        # What is no tracer keeps its own dtype, which JAX might narrow, and its sharding.
        known = [_struct_of(value) for value in values]
        built.append((flat.graphdef, structure, known))
        return [value if struct is None else None for value, struct in zip(values, known, strict=True)]

    shapes = jax.eval_shape(trace, [leaves[spot] for spot in spots])
    ((graphdef, structure, known),) = built
    structs = [shape if struct is None else struct for shape, struct in zip(shapes, known, strict=True)]
    return unflatten(graphdef, jax.tree.unflatten(structure, structs))[0]


def _struct_of(value: Any) -> jax.ShapeDtypeStruct | None:
    """The shape of what is not being traced; None for a tracer."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return value
    return jax.ShapeDtypeStruct(value.shape, value.dtype) if isinstance(value, np.ndarray) else None
