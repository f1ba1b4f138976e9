"""`add_lora` and `merge_lora`: a model whose linear layers are tuned by thin products, and the same without them."""

import functools
from collections.abc import Callable, Collection
from typing import Any

from jax.nn import initializers

from graphstate.errors import FilterError, StructureError, some_of
from graphstate.filters import Filter
from graphstate.graph import Node, nodes, states, write_path
from graphstate.graph._replace import Replacement
from graphstate.graph._walked import walk
from graphstate.random import RandomState

from ._linear import Linear
from ._lora import LoRA
from ._parameters import Initializer
from ._reparametrization import SpectralNorm, WeightNorm
from ._sizes import as_size
from ._stacked import Stacked

__all__ = ["add_lora", "merge_lora"]

Path = tuple[Any, ...]


def add_lora(
    node: Any,
    rank: int,
    only: Filter = ...,
    *,
    alpha: float | None = None,
    down_init: Initializer = initializers.he_uniform(),  # noqa: B008  an initializer is a constant
    rng: RandomState | None = None,
) -> None:
    """Puts a `LoRA` in the place of each `Linear` of a model, wherever it is held: also in `Repeat` and `Ensemble`.

    What is tuned already, or has its weight computed by a `WeightNorm` or `SpectralNorm`, stays as it is.

    Args:
        node: a Node, or any pytree of Nodes.
        rank: as in `LoRA`.
        only: selects the layers by their weights; all of them by default.
        alpha: as in `LoRA`.
        down_init: as in `LoRA`.
        rng: as in `LoRA`.

    Raises:
        FilterError: there is no such layer.
        StructureError: `node` is a layer itself.
        RangeError: `rank` is not a positive whole number.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> model = gs.nn.Sequential(gs.nn.MultiHeadAttention(4, 2), gs.nn.Linear(4, 1))
        >>> gs.nn.add_lora(model, 2, gs.filters.PathContains("query") | gs.filters.PathContains("value"))
        >>> list(gs.grad(lambda model: model(jnp.ones((3, 4))).sum(), wrt=gs.nn.LoRAState)(model))[:2]
        [('layers', 0, 'query', 'down'), ('layers', 0, 'query', 'up')]

        And plain again:

        >>> gs.nn.merge_lora(model)
        >>> type(model[0].query).__name__, len(gs.states(model, gs.nn.LoRAState))
        ('Linear', 0)

    Source: Hu et al. 2021, arXiv:2106.09685.
    """
    rank = as_size("add_lora", "rank", rank)
    weights = {id(each) for each in states(node, only).values()}
    kept = {id(held) for each in nodes(node, Node).values() for held in _computing(each)}
    linears = {path: each for path, each in nodes(node, Linear).items() if id(each) not in kept}
    chosen = [path for path, each in linears.items() if id(each.weight) in weights]
    if not chosen:
        listed = some_of(map(write_path, linears)) if linears else "  (none)"
        raise FilterError(
            f"`add_lora` needs Linears whose weights the filter selects, but of these it selects none:\n{listed}"
        )
    _replace(node, chosen, lambda layer: LoRA(layer, rank, alpha=alpha, down_init=down_init, rng=rng))


def merge_lora(node: Any) -> None:
    """Puts a `Linear` that does the same in the place of each `LoRA` of a model, as `LoRA.merged` gives it.

    Args:
        node: a Node, or any pytree of Nodes.

    Raises:
        StructureError: `node` is a layer itself.
    """
    _replace(node, list(nodes(node, LoRA)), LoRA.merged)


def _computing(node: Node) -> tuple[Any, ...]:
    """The layers whose weight is not used as it is."""
    if isinstance(node, LoRA):
        return (node.linear,)
    return (node.layer,) if isinstance(node, WeightNorm | SpectralNorm) else ()


def _replace(node: Any, paths: Collection[Path], make: Callable[[Any], Any]) -> None:
    """Puts what `make` gives for them in the places of the layers at some paths."""
    if () in paths:
        raise StructureError(
            f"A {type(node).__name__} that is part of a model is replaced in what holds it, but it was given itself. "
            "Call `LoRA(layer, rank)`, or `layer.merged()`."
        )
    plain = set(paths)
    for prefix, stacked in nodes(node, Stacked).items():
        held = (*prefix, stacked._sliced)
        inside = {path for path in plain if path[: len(held)] == held}
        if inside:
            plain -= inside
            below = {path[len(held) :] for path in inside}
            stacked._map(functools.partial(_replaced, paths=below, make=make))
    walked = walk(node)
    places = {id(each): place for place, each in enumerate(walked.objects)}
    found = nodes(node, Node)
    values = {places[id(found[path])]: make(found[path]) for path in plain}
    Replacement(walked.graphdef, walked.objects, values).apply()


def _replaced(layer: Any, paths: Collection[Path], make: Callable[[Any], Any]) -> Any:
    if () in paths:
        return make(layer)
    _replace(layer, paths, make)
    return layer
