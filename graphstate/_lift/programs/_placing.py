"""Putting the inputs of a program where it needs them, before JAX sees them, and keeping those of States there.

JAX would move an input on each call, and compile a program again for inputs that lie elsewhere.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from graphstate._lift.call._arguments import Arguments
from graphstate._trace import Cell, base_cell_value, exchange, pack, unpack
from graphstate.graph._state import State

__all__ = ["Placement", "keep_placed"]

Inputs = tuple[Sequence[Any], ...]


class Placement(Protocol):
    """Says where the inputs of the programs of one entry lie."""

    def place(
        self,
        arguments: Callable[[], Arguments],
        cells: Sequence[Cell],
        values: Sequence[Any],
        captured: Sequence[Any],
        arrays: Sequence[Any],
    ) -> Inputs:
        """The inputs there; of values, what is captured and arrays those where nothing was moved are the same lists."""

    def agree_on(self, program: Any) -> None:
        """Makes sure that other processes are about to compile the same program."""


def keep_placed(cells: Sequence[Any], values: Sequence[Any], placed: Sequence[Any]) -> None:
    """Leaves the values of States where they were put for a call, unless they were written since.

    Args:
        cells: States, and arrays, for which nothing is to be done.
        values: what they were worth.
        placed: the same values, where they lie now.
    """
    for cell, before, after in zip(cells, values, placed, strict=True):
        if isinstance(cell, State) and after is not before:
            held = base_cell_value(cell)
            if unpack(held) is before:
                exchange(cell, held, pack(after))
