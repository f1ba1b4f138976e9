"""`eval_shape`: what a call would return, without computing it."""

from collections.abc import Callable
from typing import Any

import jax

from graphstate._lift.call._arguments import gather, is_array_like
from graphstate._lift.call._boundary import check_containers, enter, not_an_array
from graphstate._lift.call._lane_stream import read_lazily
from graphstate._lift.call._lifted import Lifted
from graphstate._lift.call._traced import name_cells
from graphstate._trace import Frame, pack
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._flatten import flatten, unflatten
from graphstate.graph._graphdef import GraphDef
from graphstate.graph._heads import StateHead
from graphstate.graph._split import leaf_value

__all__ = ["eval_shape"]


def eval_shape(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """What `function` would return, with `jax.ShapeDtypeStruct` in place of arrays; nothing is computed or changed.

    Args:
        function: any function of Nodes, States and arrays; a class will do.
        *args: its arguments; arrays may be `jax.ShapeDtypeStruct`.
        **kwargs: its keyword arguments.

    Returns:
        The result. Nodes in it are new ones, whose States hold shapes.

    Raises:
        StateTypeError: an argument, or a leaf of the result, is neither a Node, a State nor an array.
        TraceContextError: the structure of a Node that the function only refers to was changed inside.

    Example:
        >>> import graphstate as gs, jax
        >>> gs.eval_shape(lambda x: gs.nn.Linear(2, 3)(x), jax.ShapeDtypeStruct((5, 2), "float32")).shape
        (5, 3)
    """
    lifted = Lifted(function, "eval_shape")
    arguments = gather(args, kwargs, "eval_shape", function)
    watch, frame = lifted.watch(), Frame()
    found: list[tuple[Any, GraphDef]] = []

    def traced(values: list[Any], arrays: list[Any]) -> tuple[list[Any], list[Any]]:
        with frame:
            inside, inner_args, inner_kwargs = enter(frame, arguments, values, arrays)
            name_cells(frame, inside, arguments, function, watch)
            with watch.guarded():
                result = function(*inner_args, **inner_kwargs)
            check_containers(inside)
            frame.written()
            leaves, treedef = jax.tree.flatten(result)
            if not all(is_graph_object(leaf) or is_array_like(leaf) for leaf in leaves):
                raise not_an_array(result, "eval_shape")
            flat = flatten([leaf for leaf in leaves if is_graph_object(leaf)])
            found.append((jax.tree.unflatten(treedef, [is_graph_object(leaf) for leaf in leaves]), flat.graphdef))
            return [leaf for leaf in leaves if not is_graph_object(leaf)], [leaf_value(leaf) for leaf in flat.leaves]

    arrays, values = jax.eval_shape(
        traced, [value for value, _ in map(read_lazily, arguments.held())], arguments.arrays()
    )
    marks, graphdef = found[0]
    heads = [graphdef.heads[place] for place in graphdef.leaves]
    packed = [pack(value) if isinstance(head, StateHead) else value for head, value in zip(heads, values, strict=True)]
    objects, plain = iter(unflatten(graphdef, packed)[0]), iter(arrays)
    return jax.tree.map(lambda is_object: next(objects) if is_object else next(plain), marks)
