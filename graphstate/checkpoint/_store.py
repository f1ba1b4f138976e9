"""The directories of checkpoints, which Orbax writes and reads.

    path/v3/state       the arrays
    path/v3/graph       the manifest

A checkpoint is saved anew as the next version, and the version before is deleted once that stands: whatever moment a
save is cut off at, one whole version is there. Orbax writes under another name (`v3.orbax-checkpoint-tmp`), and renames
what is complete. This is the only file that knows Orbax.
"""

import os
import re
import threading
from collections.abc import Mapping
from typing import Any, Final

import jax
import numpy as np
import orbax.checkpoint as ocp  # type: ignore[import-untyped] # it brings no types
from etils import epath  # type: ignore[import-untyped] # nor does it

from graphstate.errors import CheckpointError

from ._processes import agree, is_first, together

__all__ = [
    "Saving",
    "as_path",
    "read_arrays",
    "read_manifest",
    "remove_checkpoint",
    "start",
    "steps_in",
    "unreadable",
    "versions_of",
]

_VERSION: Final = re.compile(r"v(\d+)")
_BEGUN: Final = re.compile(r"v(\d+)\..*")


def as_path(path: str | os.PathLike[str]) -> Any:
    """The path, absolute, on any file system that Orbax knows."""
    text = os.fspath(path)
    return epath.Path(text if "://" in text else os.path.abspath(os.path.expanduser(text)))


def _numbers(path: Any, pattern: re.Pattern[str]) -> list[int]:
    return sorted(int(match[1]) for each in path.iterdir() if (match := pattern.fullmatch(each.name)))


def versions_of(path: Any) -> list[int]:
    """The complete versions of a checkpoint, the newest last."""
    if not path.is_dir():
        return []
    return [number for number in _numbers(path, _VERSION) if (path / f"v{number}" / "graph" / "metadata").exists()]


def steps_in(directory: Any) -> list[int]:
    """The steps that have a complete checkpoint in a directory."""
    if not directory.is_dir():
        return []
    steps = sorted(
        int(each.name) for each in directory.iterdir() if each.name.isdecimal() and str(int(each.name)) == each.name
    )
    return [step for step in steps if versions_of(directory / str(step))]


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
            self._is_finished = True
            try:
                self._checkpointer.wait_until_finished()
                self._checkpointer.close()
            except Exception as error:
                self._error = _not_written(self._path, error)
                self._error.__cause__ = error
                return
            if is_first():
                _remove_before(self._path, self._number)


def _remove_before(path: Any, number: int) -> None:
    for each in path.iterdir():
        match = _VERSION.fullmatch(each.name) or _BEGUN.fullmatch(each.name)
        if match and int(match[1]) < number:
            _remove(each)


def _remove(version: Any) -> None:
    """Deletes a version; it is none any more before the first array of it is gone."""
    (version / "graph" / "metadata").unlink(missing_ok=True)
    version.rmtree(missing_ok=True)


def remove_checkpoint(path: Any) -> None:
    """Deletes a checkpoint with all its versions."""
    for number in versions_of(path):
        _remove(path / f"v{number}")
    path.rmtree(missing_ok=True)


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
        number = agree(max([0, *_numbers(path, _VERSION), *_numbers(path, _BEGUN)]) + 1)
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
        f"No checkpoint could be written to {path}: {_first_line(error)}\nWhat was saved there before is still there."
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if len(line) <= 300 else line[:150] + " ... " + line[-150:]


# Reading


def read_manifest(path: Any) -> tuple[Any, Any]:
    """The newest version of a checkpoint, and its manifest as JSON.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    versions = versions_of(path)
    if not versions:
        raise CheckpointError(_no_checkpoint(path))
    version = path / f"v{versions[-1]}"
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            return version, checkpointer.restore(version, ocp.args.Composite(graph=ocp.args.JsonRestore())).graph
    except Exception as error:
        raise unreadable(version, error) from error


def _no_checkpoint(path: Any) -> str:
    needed = f"A checkpoint is a directory that `save` has written, but {path} "
    if not path.exists():
        return needed + "does not exist. Look for a misspelt path."
    if not path.is_dir():
        return needed + "is a file."
    if steps := steps_in(path):
        return needed + (
            f"holds one for each of the steps {', '.join(map(str, steps[:6]))}{', ...' * (len(steps) > 6)}. Take "
            f"`Checkpoints(...).restore()`, or the path of one of them, {path / str(steps[-1])}."
        )
    if _numbers(path, _VERSION) or _numbers(path, _BEGUN):
        return needed + "holds only what was left of a save that was cut off. Restore an earlier checkpoint."
    return needed + "holds none."


def unreadable(version: Any, error: Exception) -> CheckpointError:
    """The error for a checkpoint that is there and cannot be read."""
    return CheckpointError(
        f"The checkpoint {version} cannot be read: {_first_line(error)}\nA file of it is missing or damaged. Nothing "
        "was changed. Restore another checkpoint."
    )


def read_arrays(version: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a checkpoint.

    Args:
        version: its directory.
        wanted: by name the sharding that an array shall have; None for an array of NumPy.

    Raises:
        CheckpointError: they cannot be read.
    """
    if not wanted:
        return {}
    how = {
        name: ocp.RestoreArgs(restore_type=np.ndarray)
        if sharding is None
        else ocp.ArrayRestoreArgs(restore_type=jax.Array, sharding=sharding)
        for name, sharding in wanted.items()
    }
    restore = ocp.args.PyTreeRestore(dict.fromkeys(wanted, 0), restore_args=how, partial_restore=True)
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            return dict(checkpointer.restore(version, ocp.args.Composite(state=restore)).state)
    except Exception as error:
        raise unreadable(version, error) from error
