"""`restore`: the values of a checkpoint into a graph; all of them, or none."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import jax

from graphstate._trace import is_lost, is_tracing, user_stacklevel
from graphstate.errors import (
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
from graphstate.graph._walked import Walked

from ._manifest import walk_values
from ._match import Match, match, present_value
from ._processes import together
from ._records import ArrayRecord, array_records, leaves_of, plain, take_apart
from ._source import Source, Wanted, open_source, wanted_for

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
        StateTypeError: `like` holds nothing that has a value.
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
    with together():
        source = open_source(path, "checkpoint.restore")
        if like is not None:
            flat = walk_values(like, "checkpoint.restore")
            found = match(source.manifest, flat, filters)
            _check(found, strict, source)
    return _as_dict(source) if like is None else _into(like, flat, found, source)


def _check(found: Match, strict: bool, source: Source) -> None:
    if found.differences and strict:
        raise UpdateError(
            f"`restore` needs a checkpoint that fits the graph, but {source.version} does not:\n"
            f"{some_of(found.differences)}\n"
            "Nothing was changed. `strict=False` restores what fits, a filter selects a part, as "
            '`PathContains("encoder")`, and the filter `...` all but the comparison of static values.',
            found.differences,
        )
    if found.differences and not found.pairs:
        raise UpdateError(
            f"Nothing of the checkpoint {source.version} fits:\n{some_of(found.differences)}\n"
            "Nothing was changed. Restore it without `like` to see what it holds.",
            found.differences,
        )


def _warn(found: Match, source: Source) -> None:
    warnings.warn(
        PartialRestoreWarning(
            f"Of {source.version} not all is restored, or it does not fit:\n{some_of(found.differences)}",
            found.differences,
        ),
        stacklevel=user_stacklevel(),
    )


def _as_dict(source: Source) -> dict[Any, Any]:
    """All values as nested dicts."""
    records = [leaf for entry in source.manifest.entries for leaf in array_records(entry.value)]
    arrays = source.load(Wanted(record, host=True) for record in records)
    by_name = {record.name: array for record, array in zip(records, arrays, strict=True)}
    result: dict[Any, Any] = {}
    for entry in source.manifest.entries:
        value = plain(entry.value, lambda leaf: by_name[leaf.name] if isinstance(leaf, ArrayRecord) else leaf)
        inner = result
        for part in entry.path[:-1]:
            inner = inner.setdefault(part, {})
        inner[entry.path[-1] if entry.path else ""] = value
    return result


def _into(like: Any, flat: Walked, found: Match, source: Source) -> Any:
    """`like`, with the values of a checkpoint; a new graph where `like` is abstract."""
    layout = layout_of(flat.graphdef)
    values = [present_value(leaf) for leaf in flat.leaves]
    restored = _restored(values, found, source)
    if found.differences:
        _warn(found, source)  # before anything is written: it may have been made an error
    if not any(map(_is_abstract, values, flat.leaves)):
        update(like, GraphState._make(layout.select(restored), restored.values()))
        return like
    filled = [restored.get(number, value) for number, value in enumerate(values)]
    return merge(flat.graphdef, GraphState._make(layout, filled))


def _restored(values: Sequence[Any], found: Match, source: Source) -> dict[int, Any]:
    """The new values of the leaves that the checkpoint has one for, by number."""
    wanted: list[Wanted] = []
    for number, entry in found.pairs:
        present = leaves_of(take_apart(values[number], lambda _, leaf: leaf))
        pairs = zip(leaves_of(entry.value), present, strict=True)
        wanted += [wanted_for(record, leaf) for record, leaf in pairs if isinstance(record, ArrayRecord)]
    arrays = iter(source.load(wanted))
    restored = {}
    for number, entry in found.pairs:
        leaves = [next(arrays) if isinstance(leaf, ArrayRecord) else leaf for leaf in leaves_of(entry.value)]
        restored[number] = jax.tree.unflatten(jax.tree.structure(values[number]), leaves)
    return restored


def _is_abstract(value: Any, leaf: Any) -> bool:
    if isinstance(leaf, State) and is_lost(leaf):
        return False
    return any(isinstance(each, jax.ShapeDtypeStruct) for each in jax.tree.leaves(value))
