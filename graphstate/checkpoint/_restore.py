"""`restore`: the values of a checkpoint into a graph; all of them, or none."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import jax

from graphstate._trace import is_lost, is_tracing, user_stacklevel
from graphstate.errors import (
    CheckpointError,
    FilterError,
    PartialRestoreWarning,
    TraceContextError,
    UpdateError,
    some_of,
)
from graphstate.filters import Filter
from graphstate.graph._graphstate import GraphState
from graphstate.graph._layout import layout_of
from graphstate.graph._split import merge
from graphstate.graph._state import State
from graphstate.graph._update import update
from graphstate.graph._walked import Walked, walk

from ._extra import open_store
from ._load import Wanted, load, wanted_for
from ._manifest import Manifest
from ._match import Match, match, present_value
from ._processes import raise_together
from ._records import ArrayRecord, leaves_of, plain, take_apart

__all__ = ["restore"]


def restore(path: str | os.PathLike[str], like: Any = None, *filters: Filter, strict: bool = True) -> Any:
    """Reads a checkpoint into a graph.

    Everything is compared, then read, then written: after an error `like` is what it was. Compared are paths, shapes
    and dtypes, which States are one State, and, where no filter is given, attributes that are numbers or text (which
    are not restored; a model with another number of heads is another model). Each array is put where that of `like`
    lies, on however many devices.

    Args:
        path: the directory of the checkpoint.
        like: a Node, or any pytree of Nodes and States. One that holds arrays is changed in place. One that holds
            `jax.ShapeDtypeStruct`s, as `graphstate.abstract` makes it, is left alone, and a new one is returned, with
            the shardings of these. Without `like` the values come as nested dicts of NumPy arrays, which `update`
            takes.
        filters: restore only what any of them selects, as a pretrained encoder; the rest of `like` keeps its values.
        strict: False restores what fits, and warns of what does not.

    Returns:
        `like`, or what was made like it.

    Raises:
        UpdateError: the checkpoint does not fit; `error.differences` has a line for each path.
        CheckpointError: there is no checkpoint, or it is damaged.
        FilterError: the filters select nothing of `like`.
        TraceContextError: something is being traced.
        MissingPackageError: Orbax is not installed.

    Warns:
        PartialRestoreWarning: `strict` is False, and something was not restored.

    Example:
        >>> import graphstate as gs, tempfile
        >>> model = gs.nn.Linear(2, 3)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     gs.checkpoint.save(directory, model)
        ...     other = gs.checkpoint.restore(directory, gs.nn.Linear(2, 3))
        >>> bool((other.weight.value == model.weight.value).all())
        True
    """
    if is_tracing():
        raise TraceContextError("`checkpoint.restore` writes values, but something is being traced. Call it outside.")
    if like is None and filters:
        raise FilterError(
            "Filters select States of `like`, but there is none. Give a model, or take from the dict what you need."
        )
    store = open_store("checkpoint.restore")
    problem: Exception | None = None
    try:
        version, manifest = _read(store, store.as_path(path))
        flat = walk(like)
        found = Match((), ()) if like is None else match(manifest, flat, filters)
        _check(found, strict, version)
    except Exception as error:
        problem = error
    raise_together(problem)
    if like is None:
        return _as_dict(store, version, manifest)
    if found.differences:
        _warn(found, version)
    return _into(like, flat, found, store, version, manifest)


def _read(store: Any, path: Any) -> tuple[Any, Manifest]:
    version, given = store.read_manifest(path)
    try:
        return version, Manifest.from_json(given)
    except (AttributeError, KeyError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise store.unreadable(version, error) from error


def _check(found: Match, strict: bool, version: Any) -> None:
    if found.differences and strict:
        raise UpdateError(
            f"`restore` needs a checkpoint that fits the graph, but {version} does not:\n{some_of(found.differences)}\n"
            "Nothing was changed. `strict=False` restores what fits, a filter selects a part, as "
            '`PathContains("encoder")`, and the filter `...` all but the comparison of static values.',
            found.differences,
        )
    if found.differences and not found.pairs:
        raise UpdateError(
            f"Nothing of the checkpoint {version} fits:\n{some_of(found.differences)}\nNothing was changed. Restore it "
            "without `like` to see what it holds.",
            found.differences,
        )


def _warn(found: Match, version: Any) -> None:
    warnings.warn(
        PartialRestoreWarning(
            f"Not all was restored from {version}, or it does not fit:\n{some_of(found.differences)}", found.differences
        ),
        stacklevel=user_stacklevel(),
    )


def _as_dict(store: Any, version: Any, manifest: Manifest) -> Any:
    records = [leaf for entry in manifest.entries for leaf in leaves_of(entry.value) if isinstance(leaf, ArrayRecord)]
    arrays = load(store, version, [Wanted(record, host=True) for record in records], manifest.sums)
    by_name = {record.name: array for record, array in zip(records, arrays, strict=True)}
    result: dict[Any, Any] = {}
    for entry in manifest.entries:
        value = plain(entry.value, lambda leaf: by_name[leaf.name] if isinstance(leaf, ArrayRecord) else leaf)
        inner = result
        for part in entry.path[:-1]:
            inner = inner.setdefault(part, {})
        inner[entry.path[-1] if entry.path else ""] = value
    return result


def _into(like: Any, flat: Walked, found: Match, store: Any, version: Any, manifest: Manifest) -> Any:
    layout = layout_of(flat.graphdef)
    values = [present_value(leaf) for leaf in flat.leaves]
    restored = _restored(values, found, store, version, manifest)
    if not any(map(_is_abstract, values, flat.leaves)):
        update(like, GraphState._make(layout.select(restored), restored.values()))
        return like
    return merge(
        flat.graphdef, GraphState._make(layout, [restored.get(number, value) for number, value in enumerate(values)])
    )


def _restored(values: Sequence[Any], found: Match, store: Any, version: Any, manifest: Manifest) -> dict[int, Any]:
    """The values of the leaves that the checkpoint has one for, by number."""
    wanted: list[Wanted] = []
    for number, entry in found.pairs:
        present = leaves_of(take_apart(values[number], lambda _, leaf: leaf))
        wanted += [
            wanted_for(record, leaf)
            for record, leaf in zip(leaves_of(entry.value), present, strict=True)
            if isinstance(record, ArrayRecord)
        ]
    arrays = iter(load(store, version, wanted, manifest.sums))
    restored = {}
    for number, entry in found.pairs:
        leaves = [next(arrays) if isinstance(leaf, ArrayRecord) else leaf for leaf in leaves_of(entry.value)]
        restored[number] = jax.tree.unflatten(jax.tree.structure(values[number]), leaves)
    return restored


def _is_abstract(value: Any, leaf: Any) -> bool:
    if isinstance(leaf, State) and is_lost(leaf):
        return False
    return any(isinstance(each, jax.ShapeDtypeStruct) for each in jax.tree.leaves(value))
