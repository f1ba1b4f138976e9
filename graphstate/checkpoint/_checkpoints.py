"""`Checkpoints`: the last few checkpoints of a run, written while it goes on."""

import operator
import os
import threading
from types import TracebackType
from typing import Any, Self

from graphstate.errors import CheckpointError, StateTypeError
from graphstate.filters import Filter

from ._extra import open_store
from ._processes import agree, is_first
from ._restore import restore
from ._save import begin

__all__ = ["Checkpoints"]


class Checkpoints:
    """The checkpoints of a run, one for each step that was saved, of which the last few are kept.

    `save` returns as soon as the values are taken, and writes them while the program goes on. What went wrong there is
    raised by the next call of a method, at the end of the `with` block at the latest.

    Args:
        directory: where they lie, each under its step. `checkpoint.restore(f"{directory}/{step}", ...)` reads one, too.
        keep: how many are kept; None for all. An earlier one is deleted when a later one stands.

    Raises:
        CheckpointError: `keep` is less than 1.
        MissingPackageError: Orbax is not installed.

    Example:
        >>> import graphstate as gs, tempfile
        >>> model = gs.nn.Linear(2, 3)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     with gs.checkpoint.Checkpoints(directory, keep=2) as checkpoints:
        ...         for step in range(1, 5):
        ...             model.weight.value += 1.0
        ...             checkpoints.save(step, model)
        ...     checkpoints.steps
        ...     _ = checkpoints.restore(model)
        [3, 4]
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep: int | None = None) -> None:
        if keep is not None and keep < 1:
            raise CheckpointError(f"`keep` is the number of checkpoints that are kept, at least 1, but it is {keep}.")
        self._store = open_store("Checkpoints")
        self._directory = self._store.as_path(directory)
        self._keep = keep
        self._saving: Any = None
        self._waits_at_exit = False

    def __repr__(self) -> str:
        return f"Checkpoints({os.fspath(self._directory)!r}, keep={self._keep})"

    @property
    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order; one that is still being written has none yet (`wait` for it)."""
        found: list[int] = self._store.steps_in(self._directory)
        return found

    @property
    def latest(self) -> int | None:
        """The last step that has a checkpoint; None where there is none."""
        return max(self.steps, default=None)

    def _agreed_latest(self) -> int | None:
        """The latest step that the first process sees."""
        step = agree(-1 if self.latest is None else self.latest)
        return None if step < 0 else step

    def save(self, step: int, target: Any) -> None:
        """Saves a checkpoint, in the background. One of the same step is replaced when the new one stands.

        Args:
            step: which one; not before the latest.
            target: a Node, or any pytree of Nodes and States, which may be changed as soon as this returns.

        Raises:
            CheckpointError: the save before could not be written, or a later step is there.
            StateTypeError: `step` is no whole number.
        """
        step = _whole(step)
        self.wait()
        latest = self._agreed_latest()
        if step < 0 or (latest is not None and step < latest):
            raise CheckpointError(
                f"Steps are numbers from 0 that grow, but step {step} came, and the latest in {self._directory} is "
                f"{latest}. Before a run goes on from an earlier one, delete the directories of later steps, or take "
                "another directory."
            )
        if not self._waits_at_exit:
            _call_before_threads_end(self.wait)
            self._waits_at_exit = True
        self._saving = begin(self._directory / str(step), target, "Checkpoints.save")

    def wait(self) -> None:
        """Returns when all that was saved is written.

        Raises:
            CheckpointError: it could not be.
        """
        if self._saving is None:
            return
        try:
            self._saving.wait()
        except CheckpointError:
            self._saving = None
            raise
        self._saving = None
        if self._keep is not None and is_first():
            for step in self.steps[: -self._keep]:
                self._store.remove_checkpoint(self._directory / str(step))

    def restore(self, like: Any = None, *filters: Filter, step: int | None = None, strict: bool = True) -> Any:
        """Reads a checkpoint, as `checkpoint.restore` does.

        Args:
            like: what its values go into, or None.
            filters: what is restored of `like`.
            step: which one; None for the latest.
            strict: False restores what fits, and warns of what does not.

        Raises:
            CheckpointError: there is none, or the save before could not be written.
            UpdateError: it does not fit.
        """
        self.wait()
        step = self._agreed_latest() if step is None else step
        if step is None or step not in (steps := self.steps):
            needed = "any step" if step is None else f"step {step}"
            there = f"those of steps {', '.join(map(str, steps))}" if step is not None and steps else "none"
            raise CheckpointError(
                f"There is no checkpoint of {needed} in {self._directory}, which has {there}. A save that was cut off "
                "leaves none."
            )
        return restore(self._directory / str(step), like, *filters, strict=strict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.wait()


def _whole(step: Any) -> int:
    try:
        return operator.index(step)
    except TypeError as error:
        raise StateTypeError(
            f"A checkpoint is saved under a whole number, but {str(step)[:60]!r} of type {type(step).__name__} came "
            "for its step. Use `int(step)`."
        ) from error


def _call_before_threads_end(function: Any) -> None:
    """Calls `function` when the program ends: `atexit` would be too late, since no thread can be started by then."""
    threading._register_atexit(function)  # type: ignore[attr-defined] # what concurrent.futures takes for the same
