"""One call of a program that may be given buffers for good, and what becomes of the States if it fails."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from graphstate._lift.call._arguments import Arguments, function_name, target_names
from graphstate._lift.call._progress import close_failed
from graphstate._trace import Cell, describe, kind_and_place, last_write
from graphstate.errors import DonatedError
from graphstate.graph._state import State

from ._build import Build
from ._donation import lose_deleted, unshared
from ._entry import Entry, Note, calling
from ._placing import Inputs, keep_placed

__all__ = ["BuiltCall"]

Read = Callable[[Sequence[Any]], list[Any]]


class BuiltCall:
    """One call, where nothing is being traced.

    Args:
        entry: the entry of the program.
        build: how it is built.
        targets: the States and arrays of the arguments' graph.
        cells: what is captured.
        arrays: the other arguments.
        arguments: makes the arguments.
    """

    def __init__(
        self,
        entry: Entry,
        build: Build,
        targets: Sequence[Any],
        cells: Sequence[Cell],
        arrays: list[Any],
        arguments: Callable[[], Arguments],
    ) -> None:
        self.build = build
        self._entry = entry
        self._targets = targets
        self._cells = cells
        self._arrays = arrays
        self._arguments = arguments
        self._owners = [
            *(targets[number] for number in build.values),
            *(cells[number] for number in build.captured),
        ]
        self._given: list[Any] = []

    def compile(self, read: Read) -> None:
        """Compiles the program, which the next `run` finds."""
        inputs = self.build.divide(*self._placed(read(self._targets), read(self._cells)))
        self.build.compiled.lower(*inputs).compile()

    def run(self, read: Read, finish: Callable[[Note, Any], Any]) -> Any:
        """Runs the program.

        Args:
            read: gives the values of States, and arrays as they are.
            finish: writes back what came out, and returns the result.

        Raises:
            DonatedError: the buffer of an input was given to another call.
            ShardingError: an input lies otherwise than its sharding says.
        """
        build = self.build
        values, captured = read(self._targets), read(self._cells)
        placed = self._placed(values, captured)
        inputs = build.divide(*placed)
        try:
            if self._owners:
                inputs = self._given_away(inputs)
            outputs = build.compiled(*inputs)
            assert build.note is not None
            if placed[0] is not values or placed[1] is not captured:
                keep_placed([*self._targets, *self._cells], [*values, *captured], [*placed[0], *placed[1]])
            return finish(build.note, outputs)
        except BaseException as error:
            self._fail(error, values, captured)
            raise

    def _placed(self, values: list[Any], captured: list[Any]) -> Inputs:
        """The inputs, where the program needs them."""
        placement = self._entry.placement
        if placement is None:
            return values, captured, self._arrays
        return placement.place(self._arguments, self._cells, values, captured, self._arrays)

    def _given_away(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs, where nobody but the States that are written holds the buffers that are donated."""
        of_arguments, of_closure, arrays = inputs[0]
        self._given = [*of_arguments, *of_closure]
        write = last_write()
        # The values are held by what was read, by the donated part of the inputs, and by `_given`.
        own = unshared(self._owners, self._given, 2, self._strangers() if self.build.checked is write else None)
        self.build.checked = write
        count = len(of_arguments)
        return ([own[:count], own[count:], arrays], *inputs[1:])

    def _strangers(self) -> list[Any]:
        """The arrays among the inputs that belong to no State."""
        return [*self._arrays, *(target for target in self._targets if not isinstance(target, State))]

    def _fail(self, error: BaseException, values: list[Any], captured: list[Any]) -> None:
        if isinstance(error, jax.errors.JaxRuntimeError | KeyboardInterrupt):
            close_failed()
        if isinstance(error, ValueError) and self._entry.tailor is not None and calling.arguments is not None:
            self._entry.tailor.shardings.check(values, self._arrays, calling.arguments[1].rest)
        if isinstance(error, RuntimeError | ValueError) and "has been deleted" in str(error):
            self._check_taken(error, [*values, *captured])
        lose_deleted(zip(self._owners, self._given, strict=False), self._name, self._call)

    def _check_taken(self, error: BaseException, values: list[Any]) -> None:
        """Names the State whose buffer JAX did not find; nothing was given away then."""
        if isinstance(error, jax.errors.JaxRuntimeError):
            return  # of the program itself, whatever its text
        for cell, value in zip([*self._targets, *self._cells], values, strict=True):
            if isinstance(cell, Cell) and any(_is_deleted(leaf) for leaf in jax.tree.leaves(value)):
                raise DonatedError(
                    f"`{self._call}` needs {self._name(cell)}, but its buffer was donated to another call: one that "
                    "another thread is making, or one that it was passed to as an array. Nothing was changed. Let one "
                    "thread at a time call functions that donate, and do not donate what a State holds as an array."
                ) from error

    @property
    def _call(self) -> str:
        return function_name(self._entry.owner.function)

    def _name(self, cell: Cell) -> str:
        """How messages call a State of this call."""
        owner = self._entry.owner
        if calling.arguments is not None:
            arguments = Arguments(*calling.arguments)
            for number, target in enumerate(arguments.targets):
                if target is cell:
                    return f"`{target_names(arguments, owner.function)[number]}` ({kind_and_place(cell)})"
        name = owner.watch().name_of(cell)
        return describe(cell) if name is None else f"`{name}` ({kind_and_place(cell)})"


def _is_deleted(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and leaf.is_deleted()
