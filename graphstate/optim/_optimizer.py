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
from graphstate.errors import UpdateError
from graphstate.filters import Filter
from graphstate.graph import LongTermState, Node, ParamState, state, states, update, write_path

from ._hyperparameter import as_hyperparameter
from ._parameters import by_path, check_paths, check_selection
from ._transformation import Transformation, check_transformation, ready

__all__ = ["Optimizer"]


class Optimizer(Node):
    """Changes the parameters of a model by gradients, as an optax transformation says.

    Args:
        model: a Node, or any pytree of Nodes and States.
        tx: anything with `init` and `update`, as optax makes it; with `hyperparams`, a function that makes one.
        wrt: a filter for the parameters of `model` that the optimizer changes.
        hyperparams: numbers or arrays by name. Each becomes a State, and `tx` is called as `tx(**hyperparams)` at each
            use, so that they can be written, mapped over members and saved. Such an optimizer can be stacked and
            pickled, too, where two `optax.adam(1e-3)` are never equal.

    Attributes:
        opt_state: what the transformation keeps, in optax's own structure, a `LongTermState` for each array.
        hyperparams: a `LongTermState` for each hyperparameter, by name.

    Raises:
        FilterError: `wrt` selects nothing.
        StateTypeError: `tx` is no transformation, `wrt` selects what holds no floats, or a hyperparameter is neither
            number nor array.

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
    structure: Any  # a treedef, whose public type knows none of its methods

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
        check_selection(params, wrt)
        self.tx = tx
        self.wrt = wrt
        self.hyperparams = {
            name: LongTermState(as_hyperparameter(name, value)) for name, value in (hyperparams or {}).items()
        }
        self.structure = jax.tree.structure(params)
        self.opt_state = _as_states(self._transformation().init(params), _axis_names(model, wrt))

    def update(self, model: Any, grads: Any, **extra: Any) -> None:
        """Takes one step: changes the parameters of `model`, and what the transformation keeps.

        Args:
            model: the model that the optimizer was made for, or one with the same parameters.
            grads: the gradients of the parameters, by path: a GraphState, as `grad` returns it, or nested dicts.
            extra: what `tx.update` takes besides gradients and parameters, as the `value` of a line search.

        Raises:
            UpdateError: `model` or `grads` has other paths than the optimizer was made for; nothing was changed.
            TraceContextError: `tx` holds a tracer of a trace that has ended.
        """
        paths = by_path(jax.tree.unflatten(self.structure, range(self.structure.num_leaves)))
        present, given = by_path(state(model, self.wrt)), by_path(grads)
        check_paths(list(paths), present, given)
        params = jax.tree.unflatten(self.structure, [present[path] for path in paths])
        gradients = jax.tree.unflatten(self.structure, [given[path] for path in paths])
        cells, structure = jax.tree.flatten(self.opt_state)
        kept = jax.tree.unflatten(structure, [cell.value for cell in cells])
        # Strict promotion would refuse what optax does with its counters, and a float32 rate of bfloat16 parameters.
        with jax.numpy_dtype_promotion("standard"):
            changes, kept = self._transformation().update(gradients, kept, params, **extra)
            moved = jax.tree.map(_moved, params, changes)
        _check_kept(structure, jax.tree.structure(kept))
        update(model, moved)
        commit((cell, pack(_like(cell.value, new))) for cell, new in zip(cells, jax.tree.leaves(kept), strict=True))

    def _transformation(self) -> Transformation:
        return ready(self.tx, {name: cell.value for name, cell in self.hyperparams.items()})


def _moved(param: Array, change: Array) -> Array:
    return _like(param, param + change)


def _like(old: Array, new: Any) -> Array:
    """`new` in the dtype of `old`."""
    array: Array = jnp.asarray(new)
    return array if array.dtype == old.dtype else array.astype(old.dtype)


def _as_states(kept: Any, axes: Mapping[str, tuple[str | None, ...]]) -> Any:
    """A State in the place of each array; one that is shaped as a parameter gets the parameter's axis names."""

    def as_state(path: tuple[Any, ...], leaf: Any) -> LongTermState:
        names = axes.get(str(getattr(path[-1], "key", ""))) if path else None
        if names is None or len(names) != jnp.ndim(leaf):
            return LongTermState(jnp.asarray(leaf))
        return LongTermState(jnp.asarray(leaf), axes=names)

    return jax.tree_util.tree_map_with_path(as_state, kept)


def _axis_names(model: Any, wrt: Filter) -> dict[str, tuple[str | None, ...]]:
    """The axis names of the parameters that have some, by written path."""
    found = states(model, wrt).items()
    return {write_path(path): cell.metadata["axes"] for path, cell in found if "axes" in cell.metadata}


def _check_kept(before: Any, after: Any) -> None:
    if before != after:
        raise UpdateError(
            "A transformation must keep the structure of its state, but `tx.update` returned another one than "
            f"`tx.init`: {str(after)[:200]} instead of {str(before)[:200]}. Nothing was changed. "
            "Correct the transformation."
        )
