"""What the processes of one program tell each other about a checkpoint; with one process, nothing."""

import contextlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from graphstate._lift.lanes._agreement import agreement
from graphstate.errors import CheckpointError

from ._sums import partial_sums

__all__ = ["agree", "all_sums", "check_same", "is_first", "is_local", "shared_array", "together"]


def is_first() -> bool:
    """Whether this process is the one that does what is done once."""
    return jax.process_index() == 0


def _gathered(vector: Any) -> Any:
    """The vectors of all processes, one a row."""
    if jax.process_count() == 1:
        return np.asarray(vector)[None]
    vector = np.asarray(vector)
    return np.array(agreement.gather("`graphstate.checkpoint`", vector.tolist()), vector.dtype)


def agree(number: int) -> int:
    """The number of the first process."""
    if jax.process_count() == 1:
        return number
    return int(_gathered(np.array([number], np.int32))[0, 0])


def is_local(placed: Any) -> bool:
    """Whether an array, or a sharding, is one of this process alone, among others."""
    return jax.process_count() > 1 and bool(placed.is_fully_addressable)


def shared_array(array: Any) -> Any:
    """`array` as all processes write it together: one that each has for itself is written once, from the host."""
    return np.array(array) if isinstance(array, jax.Array) and is_local(array) else array


def check_same(text: str, path: str) -> None:
    """Refuses to go on where the processes are about to save different graphs, or to different places."""
    digests = _gathered(np.array([zlib.crc32(each.encode()) for each in (path, text)], np.uint32))
    elsewhere, other = (np.flatnonzero(column != column[0]).tolist() for column in digests.T)
    if elsewhere:
        raise CheckpointError(
            f"All processes must save to the same path, but processes {elsewhere} save to another one than process 0; "
            f"here it is {path}. Let the path depend on no process, and no time."
        )
    if other:
        raise CheckpointError(
            f"All processes must save the same graph, but what processes {other} save has other paths, shapes, "
            "dtypes or numbers than what process 0 saves. Build the same model in every process."
        )


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A block that no process gets out of where one has failed: the others would wait for it in the next one.

    Raises:
        CheckpointError: another process has failed.
    """
    problem: Exception | None = None
    try:
        yield
    except Exception as error:
        problem = error
    failed = np.flatnonzero(_gathered(np.array([problem is not None], np.uint8))[:, 0]).tolist()
    if problem is not None:
        raise problem
    if failed:
        raise CheckpointError(f"Processes {failed} could not go on; their errors say why. Nothing was changed here.")


def all_sums(arrays: Mapping[str, Any]) -> dict[str, int]:
    """The checksum of each array.

    Raises:
        CheckpointError: an array that is not spread over the processes has different values in them.
    """
    if not arrays:
        return {}
    rows = _gathered(partial_sums(arrays.values()))
    found: dict[str, int] = {}
    different = []
    for (name, array), column in zip(arrays.items(), rows.T.tolist(), strict=True):
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            found[name] = sum(column) % 2**32
        elif len(set(column)) > 1:
            different.append(name)
        else:
            found[name] = column[0]
    if different:
        raise CheckpointError(
            f"Each process has another value of {different[0]!r} (and {len(different) - 1} more), an array that is not "
            "spread over the processes. Write the same value in every process, or spread it with `parallel.shard`."
        )
    return found
