"""The parameters that an optimizer changes and their gradients, by path, and how the two must agree."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from graphstate.errors import FilterError, StateTypeError, UpdateError, some_of
from graphstate.filters import Filter
from graphstate.graph import GraphState

__all__ = ["by_path", "check_paths", "check_selection"]


def by_path(values: Any) -> dict[str, Any]:
    """The arrays of a GraphState, or of nested dicts and lists, by written path."""
    leaves = jax.tree_util.tree_leaves_with_path(values)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def check_selection(params: GraphState, wrt: Filter) -> None:
    """Refuses a filter that selects nothing, or what holds no floats."""
    name = wrt.__name__ if isinstance(wrt, type) else repr(wrt)
    if not jax.tree.leaves(params):
        raise FilterError(
            f"An Optimizer needs parameters to change, but `wrt={name}` selects nothing in the model. "
            "Give a filter that selects some, as `wrt=ParamState`; `graphstate.states(model)` shows what there is."
        )
    others = [
        f"{path}: {leaf.dtype}" for path, leaf in by_path(params).items() if not jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    if others:
        raise StateTypeError(
            f"An Optimizer changes floats, but `wrt={name}` selects others:\n{some_of(others)}\n"
            "Narrow the filter, as `wrt=ParamState`; keep counters and keys in another type of State."
        )


def check_paths(paths: list[str], params: Mapping[str, Any], grads: Mapping[str, Any]) -> None:
    """Refuses parameters and gradients that are not those at `paths`."""
    lines = [
        f"{name} {problem} {path}"
        for name, values in (("the model", params), ("`grads`", grads))
        for problem, these in (("lacks", set(paths) - set(values)), ("has besides", set(values) - set(paths)))
        for path in sorted(these)
    ]
    lines = lines or [
        f"`grads` has shape {jnp.shape(grads[path])} at {path}, where the parameter has {jnp.shape(params[path])}"
        for path in paths
        if jnp.shape(grads[path]) != jnp.shape(params[path])
    ]
    if lines:
        raise UpdateError(
            f"`Optimizer.update` needs the {len(paths)} parameters that the optimizer was made for, and a gradient for "
            f"each, but:\n{some_of(lines)}\nNothing was changed. Differentiate with the `wrt` of the optimizer; "
            "make a new one where the model has got or lost parameters.",
            lines,
        )
