"""Reading a checkpoint: its manifest, and arrays from it."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp  # type: ignore[import-untyped] # it brings no types

from graphstate.checkpoint._processes import agree
from graphstate.errors import CheckpointError

from ._directory import versions_of, why_there_is_none
from ._messages import first_line

__all__ = ["read_arrays", "read_manifest", "unreadable"]


def read_manifest(path: Any) -> tuple[Any, Any]:
    """The newest version of a checkpoint, and its manifest as JSON.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    versions = versions_of(path)
    newest = agree(max(versions, default=0))
    if newest not in versions:
        raise CheckpointError(why_there_is_none(path))
    version = path / f"v{newest}"
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            return version, checkpointer.restore(version, ocp.args.Composite(graph=ocp.args.JsonRestore())).graph
    except Exception as error:
        raise unreadable(version, error) from error


def unreadable(version: Any, error: Exception) -> CheckpointError:
    """The error for a checkpoint that is there and cannot be read."""
    return CheckpointError(
        f"The checkpoint {version} cannot be read: {first_line(error)}\nA file of it is missing or damaged. Nothing "
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
