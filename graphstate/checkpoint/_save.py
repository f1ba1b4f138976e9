"""`save`: the values of a graph into a directory."""

import dataclasses
import json
import os
from typing import Any

from graphstate._trace import is_tracing
from graphstate.errors import TraceContextError

from ._extra import open_store
from ._manifest import manifest_of
from ._processes import all_sums, check_same, shared_array, together

__all__ = ["begin", "save"]


def save(path: str | os.PathLike[str], target: Any) -> None:
    """Saves the values of a graph: of all its States, and of its arrays.

    When this returns, the checkpoint stands. One that was there before is replaced: should the save fail, or be cut
    off, it is still there. With several processes all of them call this, with the same path on a common file system.

    Args:
        path: the directory of the checkpoint; it is created, and its parents with it.
        target: a Node, or any pytree of Nodes and States, as `(model, optimizer)`. Numbers and text that are no values
            of States are static: they are compared with those of the model that is restored, and not written to it.
            Keep a step that is to be restored in a State. Layers that were given no `rng` draw from
            `graphstate.random.DEFAULT`: save that with them, if a run is to go on with the same draws.

    Raises:
        CheckpointError: the checkpoint could not be written, or the processes save different things.
        StateTypeError: `target` holds nothing that has a value.
        DonatedError: a State has no value, its buffer was donated.
        TraceContextError: something is being traced.
        MissingPackageError: Orbax is not installed.

    Example:
        >>> import graphstate as gs, tempfile
        >>> model = gs.nn.Linear(2, 3)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     gs.checkpoint.save(f"{directory}/model", model)
        ...     sorted(gs.checkpoint.restore(f"{directory}/model"))
        ['bias', 'weight']
    """
    begin(path, target, "checkpoint.save").wait()


def begin(path: str | os.PathLike[str], target: Any, call: str) -> Any:
    """Takes the values of a graph, and begins to write them."""
    if is_tracing():
        raise TraceContextError(f"`{call}` writes values, but something is being traced. Call it outside.")
    store = open_store(call)
    with together():
        manifest, arrays = manifest_of(target, call)
    place = store.as_path(path)
    check_same(json.dumps(manifest.to_json(), sort_keys=True), str(place))
    sums = all_sums(arrays)
    stored = {name: shared_array(array) for name, array in arrays.items() if array.size}
    return store.start(place, stored, dataclasses.replace(manifest, sums=sums).to_json())
