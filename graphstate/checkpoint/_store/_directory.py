"""What stands in the directory of a checkpoint, and in that of the checkpoints of a run."""

import os
import re
from typing import Any, Final

from etils import epath  # type: ignore[import-untyped] # it brings no types

__all__ = [
    "as_path",
    "next_version",
    "remove_before",
    "remove_checkpoint",
    "steps_in",
    "versions_of",
    "why_there_is_none",
]

_VERSION: Final = re.compile(r"v(\d+)")
_BEGUN: Final = re.compile(r"v(\d+)\.orbax-checkpoint-tmp.*")


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


def next_version(path: Any) -> int:
    """The number of a version that is neither there nor was begun."""
    return max([0, *_numbers(path, _VERSION), *_numbers(path, _BEGUN)]) + 1


def why_there_is_none(path: Any) -> str:
    """What a path has in place of a checkpoint."""
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


def remove_before(path: Any, number: int) -> None:
    """Deletes the versions before one, and what is left of such; a directory of somebody else is let be."""
    for each in path.iterdir():
        version, begun = _VERSION.fullmatch(each.name), _BEGUN.fullmatch(each.name)
        if version and int(version[1]) < number and _is_ours(each):
            # It is no version any more before the first array of it is gone.
            (each / "graph" / "metadata").unlink(missing_ok=True)
            each.rmtree()
        elif begun and int(begun[1]) < number:
            each.rmtree()


def _is_ours(version: Any) -> bool:
    return any((version / name).exists() for name in ("_CHECKPOINT_METADATA", "graph/metadata"))


def remove_checkpoint(path: Any) -> None:
    """Deletes a checkpoint with all its versions."""
    remove_before(path, next_version(path))
    if not any(path.iterdir()):
        path.rmdir()
