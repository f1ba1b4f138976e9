"""One call of a user's function in a frame of its own, for transforms that trace on each call.

`TracedCall` is given to a transform of JAX as the function to trace: it takes the values that the transform maps,
differentiates or abstracts, runs the user's function once, and returns everything that must leave through JAX.
"""

from collections.abc import Callable, Sequence
from typing import Any

from graphstate._lift.watch._watch import Watch
from graphstate._trace import Cell, Frame, commit, pack, unpack

from ._arguments import Arguments, target_names
from ._boundary import Inside, arrive, enter, leave
from ._streams import Hold, HoldingFrame

__all__ = ["TracedCall", "name_cells"]


class TracedCall:
    """One call of a function, traced once.

    Args:
        function: the user's function.
        arguments: its arguments.
        watch: what it depends on.
        transform: the name of the transform, for messages.
        hold: the lock of the random streams, for this call.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: Arguments, watch: Watch, transform: str, hold: Hold
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.watch = watch
        self.transform = transform
        hold.take_for(arguments.targets)
        self.frame = HoldingFrame(hold)
        self._written: list[Cell] = []

    def run(
        self,
        values: Sequence[Any],
        arrays: Sequence[Any],
        install: Callable[[Frame], None],
        check: Callable[[Any], None],
    ) -> tuple[Any, list[Any]]:
        """Calls the user's function.

        Args:
            values: the values of the arguments' targets.
            arrays: the arguments that are arrays.
            install: puts values of closed-over States into the frame.
            check: looks at the result before anything else does.

        Returns:
            The result, and the values that must leave through JAX, for `finish`.
        """
        with self.frame as frame:
            install(frame)
            inside, args, kwargs = enter(frame, self.arguments, values, arrays)
            name_cells(frame, inside, self.arguments, self.function, self.watch)
            with self.watch.guarded():
                result = self.function(*args, **kwargs)
            check(result)
            leaving = leave(frame, inside, result, self.transform)
            written = frame.written()
            self.watch.check_one_way(self.arguments.objects(), not leaving.departure.is_same, self.transform)
        self.departure = leaving.departure
        self._written = [slot.cell for slot in written]
        return result, [leaving.results, leaving.written, leaving.fresh, [unpack(slot.value) for slot in written]]

    def finish(self, outputs: Sequence[Any]) -> Any:
        """Writes back, and returns the result, from the values as they came out of JAX."""
        results, written, fresh, closed = outputs
        commit([(cell, pack(value)) for cell, value in zip(self._written, closed, strict=True)])
        return arrive(self.departure, self.arguments, results, written, fresh)


def name_cells(frame: Frame, inside: Inside, arguments: Arguments, function: Callable[..., Any], watch: Watch) -> None:
    """Lets messages call the States of arguments and closures by their paths."""

    def find_name(cell: Cell) -> str | None:
        for number, place in enumerate(inside.graphdef.leaves if inside.roots else ()):
            if inside.objects[place] is cell or arguments.targets[number] is cell:
                return target_names(arguments, function)[number]
        return watch.name_of(cell)

    frame.find_name = find_name
