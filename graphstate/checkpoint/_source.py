"""`Source`: a checkpoint that was opened; it gives each array as the State that it is for holds its own."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._compat import weakly_typed
from graphstate.errors import CheckpointError

from ._extra import open_store
from ._manifest import Manifest
from ._processes import all_sums, is_local, together
from ._records import ArrayRecord, is_key

__all__ = ["Source", "Wanted", "open_source", "wanted_for"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An array of a checkpoint, and how it is wanted.

    Attributes:
        record: what the checkpoint says of it.
        host: whether it becomes an array of NumPy.
        sharding: where it shall lie; None for where JAX puts a new array.
    """

    record: ArrayRecord
    host: bool
    sharding: Any = None


def wanted_for(record: ArrayRecord, present: Any) -> Wanted:
    """How an array is wanted that takes the place of `present`."""
    if isinstance(present, jax.ShapeDtypeStruct):
        return Wanted(record, host=record.host and present.sharding is None, sharding=present.sharding)
    if isinstance(present, jax.Array):
        if not present.committed:
            return Wanted(record, host=False)
        data = jax.random.key_data(present) if is_key(present) else present
        return Wanted(record, host=False, sharding=data.sharding)
    return Wanted(record, host=isinstance(present, np.ndarray | np.generic))


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint that was opened.

    Attributes:
        store: the module that reads it.
        version: its directory.
        manifest: what it says of the graph.
    """

    store: Any
    version: Any
    manifest: Manifest

    def load(self, wanted: Iterable[Wanted]) -> list[Any]:
        """Reads arrays, and compares what was read with the checksums of what was written.

        Raises:
            CheckpointError: an array cannot be read, or is not what was written.
        """
        wanted = list(wanted)
        stored = {each.record.name: _read_as(each.sharding) for each in wanted if not each.record.is_empty}
        with together():
            found = self.store.read_arrays(self.version, stored)
        self._check(found)
        return [_finished(each, found.get(each.record.name)) for each in wanted]

    def _check(self, found: Mapping[str, Any]) -> None:
        damaged = [name for name, value in all_sums(found).items() if value != self.manifest.sums[name]]
        if damaged:
            raise CheckpointError(
                f"The checkpoint {self.version} is damaged: {damaged[0]!r} (and {len(damaged) - 1} more) has other "
                "numbers than were saved. Nothing was changed. Restore another checkpoint."
            )


def open_source(path: str | os.PathLike[str], call: str) -> Source:
    """Opens the newest version of a checkpoint.

    Raises:
        CheckpointError: there is none, or it cannot be read.
        MissingPackageError: Orbax is not installed.
    """
    store = open_store(call)
    version, given = store.read_manifest(store.as_path(path))
    try:
        return Source(store, version, Manifest.from_json(given))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise store.unreadable(version, error) from error


def _read_as(sharding: Any) -> Any:
    """How the store reads an array: as one of NumPy where it goes to devices of this process among others."""
    return None if sharding is None or is_local(sharding) else sharding


def _finished(wanted: Wanted, data: Any) -> Any:
    record = wanted.record
    if record.is_empty:
        data = _empty(record)
    if not (wanted.host and record.implementation is None) and isinstance(data, np.ndarray):
        data = jnp.asarray(data) if wanted.sharding is None else jax.device_put(data, wanted.sharding)
    if record.implementation is not None:
        return jax.random.wrap_key_data(data, impl=record.implementation)
    if tuple(data.shape) != record.shape or str(data.dtype) != record.dtype:
        raise CheckpointError(
            f"{record.name!r} was saved as {record.dtype}{list(record.shape)}, but JAX makes {data.dtype}"
            f"{list(data.shape)} of it here. Set `jax_enable_x64` as it was when the checkpoint was saved."
        )
    return weakly_typed(data) if record.weak and isinstance(data, jax.Array) else data


def _empty(record: ArrayRecord) -> Any:
    if record.implementation is not None:
        data = jax.random.key_data(jax.random.key(0, impl=record.implementation))
        return np.zeros((*record.shape, *data.shape), data.dtype)
    return np.zeros(record.shape, jnp.dtype(record.dtype))
