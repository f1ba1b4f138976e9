"""Saves: each takes its values, and writes them in the background."""

import threading
from collections.abc import Mapping
from typing import Any, Final

import orbax.checkpoint as ocp  # type: ignore[import-untyped] # it brings no types

from graphstate.checkpoint._processes import agree, is_first, together
from graphstate.errors import CheckpointError

from ._directory import next_version, remove_before
from ._messages import first_line

__all__ = ["Saving", "start"]


class Saving:
    """A save that has begun: its values are taken, and are being written.

    Args:
        path: the checkpoint.
        checkpointer: what writes it.
        number: which version it will be.
    """

    def __init__(self, path: Any, checkpointer: Any, number: int) -> None:
        self._path = path
        self._checkpointer = checkpointer
        self._number = number
        self._lock = threading.Lock()
        self._is_finished = False
        self._error: CheckpointError | None = None

    def wait(self) -> None:
        """Returns when the checkpoint stands, and what it replaces is gone.

        Raises:
            CheckpointError: it could not be written.
        """
        self.finish()
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Returns when nothing more is written; what has failed is left for `wait`."""
        with self._lock:
            if self._is_finished:
                return
            try:
                self._checkpointer.wait_until_finished()
                self._checkpointer.close()
                if is_first():
                    remove_before(self._path, self._number)
            except Exception as error:
                self._error = _not_written(self._path, error)
                self._error.__cause__ = error
            self._is_finished = True  # not where the wait was interrupted: then somebody has to wait again


class _Turn:
    """Whose turn it is to write: Orbax counts saves in one place for the whole program, and mixes up two at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.last: Saving | None = None


_turn: Final = _Turn()


def start(path: Any, arrays: Mapping[str, Any], manifest: Any) -> Saving:
    """Begins to write the next version of a checkpoint; the values are taken when this returns.

    Raises:
        CheckpointError: it cannot be written.
    """
    with together():
        _make(path)
    with _turn.lock:
        if _turn.last is not None:
            _turn.last.finish()
        _turn.last = _started(path, arrays, manifest)
        return _turn.last


def _make(path: Any) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(path, error) from error


def _started(path: Any, arrays: Mapping[str, Any], manifest: Any) -> Saving:
    try:
        number = agree(next_version(path))
        checkpointer = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(),
            async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
        )
        items = {"graph": ocp.args.JsonSave(manifest)}
        if arrays:
            items["state"] = ocp.args.PyTreeSave(dict(arrays))
        checkpointer.save(path / f"v{number}", ocp.args.Composite(**items))
    except Exception as error:
        raise _not_written(path, error) from error
    return Saving(path, checkpointer, number)


def _not_written(path: Any, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"No checkpoint could be written to {path}: {first_line(error)}\nWhat was saved there before is still there."
    )
