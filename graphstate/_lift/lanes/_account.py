"""What a call is about to be made with, in words that are the same in every process where it is the same."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from graphstate.graph._account import account_of, words_of_graph
from graphstate.graph._graphdef import GraphDef
from graphstate.graph._path import Path, shorten_path

__all__ = ["Account", "types_of"]


@dataclass(frozen=True)
class Account:
    """What a call is about to be made with.

    Attributes:
        graphs: structures, and how messages call their roots: one name, or one for each object of a tuple.
        arrays: arrays, and States' values, by how messages call them.
    """

    graphs: Sequence[tuple[list[str], GraphDef]]
    arrays: Sequence[tuple[str, Any]]

    def structure(self) -> str:
        """All but the values, in a few letters."""
        told = hashlib.blake2b(digest_size=16)
        for names, graph in self.graphs:
            told.update(f"{names} {words_of_graph(graph)}\n".encode())
        for name, value in self.arrays:
            told.update(f"{name} {types_of([value])}\n".encode())
        return told.hexdigest()

    def values(self) -> str:
        """The values, in a few letters."""
        return _words_of_values([value for _, value in self.arrays])

    def lines(self) -> Iterator[tuple[str, str]]:
        """What stands where."""
        for names, graph in self.graphs:
            for path, told in account_of(graph):
                if path or len(names) == 1:
                    yield _written(names, path), told
        for name, value in self.arrays:
            types = ", ".join(f"{kind}{list(shape)}" for shape, kind in types_of([value]))
            worth = _words_of_values([value])
            yield f"the value of {name}", f"{types} with digest {worth}" if worth else types


def types_of(values: Sequence[Any]) -> list[tuple[tuple[int, ...], str]]:
    """The shape and the type of every array."""
    return [
        (np.shape(leaf), str(getattr(leaf, "dtype", type(leaf).__name__)))
        for value in values
        for leaf in ((value,) if isinstance(value, jax.Array) else jax.tree.leaves(value))
    ]


def _written(names: list[str], path: Path) -> str:
    if len(names) == 1:
        name, inner = names[0], path
    else:
        name, inner = names[int(path[0])], path[1:]
    written = ".".join(filter(None, [name, shorten_path(inner)]))
    return f"`{written or '(root)'}`"


def _words_of_values(values: Sequence[Any]) -> str:
    """What arrays are worth, in a few letters; of those that no process has whole, nothing."""
    leaves = [
        leaf
        for leaf in jax.tree.leaves(list(values))
        if not isinstance(leaf, jax.ShapeDtypeStruct) and getattr(leaf, "is_fully_addressable", True)
    ]
    if not leaves:
        return ""
    told = hashlib.blake2b(digest_size=4)
    for leaf in leaves:
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        whole = np.ascontiguousarray(np.asarray(jax.random.key_data(leaf) if is_key else leaf))
        told.update(whole.reshape(-1).view(np.uint8).data)
    return told.hexdigest()
