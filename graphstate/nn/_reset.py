"""`reset_state`: what all recurrent layers of a model carry begins anew."""

from collections.abc import Iterator
from typing import Any

from graphstate.errors import StructureError, some_of
from graphstate.graph import HiddenState, Node, nodes, states

from ._sizes import as_sizes

__all__ = ["as_batch", "reset_state"]


def reset_state(node: Any, batch_size: int | tuple[int, ...] | None = None) -> None:
    """Calls `reset_state(batch_size)` of every Node that has such a method.

    A Node whose method is called is asked for its parts, too: a `reset_state` of your own resets them, as by
    `nn.reset_state(self.parts, batch_size)`.

    Args:
        node: a Node, or any pytree of Nodes.
        batch_size: sizes of the batch axes that recurrent states shall have; None for no such axis.

    Raises:
        StructureError: a `HiddenState` is in no Node that could reset it; then nothing is changed.

    Example:
        >>> import graphstate as gs
        >>> model = gs.nn.Sequential(gs.nn.GRUCell(3, 4), gs.nn.LSTMCell(4, 5))
        >>> gs.nn.reset_state(model, batch_size=8)
        >>> [state.value.shape for state in gs.states(model, gs.HiddenState).values()]
        [(8, 4), (8, 5), (8, 5)]
    """
    found = dict(_iter_resettable(node))
    missed = [path for path in states(node, HiddenState) if not any(path[: len(each)] == each for each in found)]
    if missed:
        raise StructureError(
            "`reset_state` resets every HiddenState through the `reset_state(batch_size)` of a Node that holds it, but "
            f"there is none above:\n{some_of('/'.join(map(str, path)) for path in missed)}\nGive a Node such a method."
        )
    for each in found.values():
        each.reset_state(batch_size)


def _iter_resettable(node: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The outermost Nodes with a `reset_state`, by their paths."""
    above: list[tuple[Any, ...]] = []
    for path, each in nodes(node, Node).items():
        if callable(getattr(type(each), "reset_state", None)) and not any(path[: len(up)] == up for up in above):
            above.append(path)
            yield path, each


def as_batch(batch_size: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The batch axes that are meant.

    Raises:
        RangeError: a size is no whole number from 0 on.
    """
    return () if batch_size is None else as_sizes("reset_state", "batch_size", batch_size, least=0)
