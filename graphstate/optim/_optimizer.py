"""`Optimizer`: what an optax transformation keeps from step to step, as States of a Node.

The transformation sees the parameters as one `GraphState`, and what it keeps has its own structure, with a State in
the place of each array. A Node is all that is needed for the rest: mapped over members, every member has an optimizer
of its own; compiled, saved, cloned and stacked it is like any other Node.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from graphstate._trace import commit, pack
from graphstate.errors import FilterError, StateTypeError, UpdateError, some_of
from graphstate.filters import Filter
from graphstate.graph import GraphState, LongTermState, Node, ParamState, state, states, update, write_path

from ._hyperparameter import hyperparameter
from ._transformation import Transformation, check_transformation, ready

__all__ = ["Optimizer"]


class Optimizer(Node):
    """Changes the parameters of a model by gradients, as an optax transformation says.

    Args:
        model: a Node, or any pytree of Nodes and States.
        tx: anything with `init` and `update`, as optax makes it; with `hyperparams`, a function that makes one.
        wrt: a filter for the parameters of `model` that the optimizer changes.
        hyperparams: numbers or arrays by name. Each becomes a State, and `tx` is called as `tx(**hyperparams)` at each use, so
            that they can be written, mapped over members and saved. The function itself stays the same, where two
            `optax.adam(1e-3)` never compare equal: with `hyperparams` optimizers can be stacked and pickled.

    Attributes:
        opt_state: what the transformation keeps, in the structure that optax gives it, a `LongTermState` for each array.
        hyperparams: a `LongTermState` for each hyperparameter, by name.

    Raises:
        FilterError: `wrt` selects nothing.
        StateTypeError: `tx` is no transformation, a selected State holds no floats, or a hyperparameter is no number.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp, optax
        >>> model = gs.nn.Linear(3, 1)
        >>> optimizer = gs.optim.Optimizer(model, optax.adam, hyperparams={"learning_rate": 1e-3})
        >>> grads = gs.grad(lambda model: model(jnp.ones(3)).sum())(model)
        >>> optimizer.update(model, grads)
        >>> int(optimizer.opt_state[0].count.value)
        1
        >>> optimizer.hyperparams["learning_rate"].value *= 0.5
    """

    hyperparams: dict[str, LongTermState]
    opt_state: Any

    def __init__(
        self,
        model: Any,
        tx: Any,
        *,
        wrt: Filter = ParamState,
        hyperparams: Mapping[str, Any] | None = None,
    ) -> None:
        check_transformation(tx, hyperparams)
        params = state(model, wrt)
        _check_selection(params, wrt)
        self.tx = tx
        self.wrt = wrt
        self.hyperparams = {name: LongTermState(hyperparameter(name, value)) for name, value in (hyperparams or {}).items()}
        self.structure = jax.tree.structure(params)
        self.opt_state = _as_states(self._transformation().init(params), _axis_names(model, wrt))

    def update(self, model: Any, grads: Any, **extra: Any) -> None:
        """Takes one step: changes the parameters of `model`, and what the transformation keeps.

        Args:
            model: the model that the optimizer was made for, or one with the same parameters.
            grads: the gradients of the parameters, by path: a GraphState, as `grad` returns it, or nested dicts.
            extra: what `tx.update` takes beside gradients and parameters, as the `value` of a line search.

        Raises:
            UpdateError: the model or `grads` has not the parameters that the optimizer was made for; nothing was changed.
            TraceContextError: `tx` holds a tracer of a trace that has ended.
        """
        paths = list(_by_path(jax.tree.unflatten(self.structure, range(self.structure.num_leaves))))
        present, given = _by_path(state(model, self.wrt)), _by_path(grads)
        _check_paths(paths, present, given)
        params = jax.tree.unflatten(self.structure, [present[path] for path in paths])
        gradients = jax.tree.unflatten(self.structure, [given[path] for path in paths])
        cells, structure = jax.tree.flatten(self.opt_state)
        kept = jax.tree.unflatten(structure, [cell.value for cell in cells])
        # A hyperparameter is a strong float32, which strict promotion would keep from meeting a bfloat16.
        with jax.numpy_dtype_promotion("standard"):
            changes, kept = self._transformation().update(gradients, kept, params, **extra)
            moved = jax.tree.map(_moved, params, changes)
        _check_kept(structure, jax.tree.structure(kept))
        update(model, moved)
        commit((cell, pack(_like(cell.value, new))) for cell, new in zip(cells, jax.tree.leaves(kept), strict=True))

    def _transformation(self) -> Transformation:
        return ready(self.tx, {name: cell.value for name, cell in self.hyperparams.items()})


def _by_path(values: Any) -> dict[str, Any]:
    """The arrays of a GraphState, or of nested dicts, by written path."""
    leaves = jax.tree_util.tree_leaves_with_path(values)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _moved(param: Array, change: Array) -> Array:
    return _like(param, param + change)


def _like(old: Array, new: Any) -> Array:
    """`new` in the dtype of `old`."""
    new = jnp.asarray(new)
    return new if new.dtype == old.dtype else new.astype(old.dtype)


def _as_states(kept: Any, axes: Mapping[str, tuple[str | None, ...]]) -> Any:
    """A State in the place of each array; one that is shaped as a parameter gets the parameter's axis names."""

    def as_state(path: tuple[Any, ...], leaf: Any) -> LongTermState:
        names = axes.get(getattr(path[-1], "key", None)) if path else None
        return LongTermState(jnp.asarray(leaf), **({"axes": names} if names and len(names) == jnp.ndim(leaf) else {}))

    return jax.tree_util.tree_map_with_path(as_state, kept)


def _axis_names(model: Any, wrt: Filter) -> dict[str, tuple[str | None, ...]]:
    """The axis names of the parameters that have some, by written path."""
    found = states(model, wrt).items()
    return {write_path(path): cell.metadata["axes"] for path, cell in found if "axes" in cell.metadata}


def _check_selection(params: GraphState, wrt: Filter) -> None:
    name = wrt.__name__ if isinstance(wrt, type) else repr(wrt)
    if not jax.tree.leaves(params):
        raise FilterError(
            f"An Optimizer needs parameters to change, but `wrt={name}` selects nothing in the model. "
            "Give a filter that selects some, as `wrt=ParamState`; `graphstate.states(model)` shows what there is."
        )
    others = {path: leaf for path, leaf in _by_path(params).items() if not jnp.issubdtype(leaf.dtype, jnp.inexact)}
    if others:
        lines = [f"{path}: {leaf.dtype}" for path, leaf in others.items()]
        raise StateTypeError(
            f"An Optimizer changes floats, but `wrt={name}` selects others:\n{some_of(lines)}\n"
            "Narrow the filter, as `wrt=ParamState`; keep counters and keys in another type of State."
        )


def _check_paths(paths: list[str], params: Mapping[str, Any], grads: Mapping[str, Any]) -> None:
    """Refuses parameters and gradients that are not those that the optimizer was made for."""
    lines = [
        f"{name} {problem} {path}"
        for name, values in (("the model", params), ("`grads`", grads))
        for problem, these in (("lacks", set(paths) - set(values)), ("has besides", set(values) - set(paths)))
        for path in sorted(these)
    ]
    lines += [
        f"`grads` has shape {jnp.shape(grads[path])} at {path}, where the parameter has {jnp.shape(params[path])}"
        for path in paths
        if not lines and jnp.shape(grads[path]) != jnp.shape(params[path])
    ]
    if lines:
        raise UpdateError(
            f"`Optimizer.update` needs the {len(paths)} parameters that the optimizer was made for, and a gradient for each, "
            f"but:\n{some_of(lines)}\nNothing was changed. "
            "Differentiate with the `wrt` of the optimizer; make a new one where the model has got or lost parameters.",
            lines,
        )


def _check_kept(before: Any, after: Any) -> None:
    if before != after:
        raise UpdateError(
            "A transformation must keep the structure of its state, but `tx.update` returned another one than `tx.init`: "
            f"{str(after)[:200]} instead of {str(before)[:200]}. Nothing was changed. Correct the transformation."
        )
