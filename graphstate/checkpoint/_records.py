"""What a checkpoint says of one value: a small tree of records, which is written as JSON.

An array is an `ArrayRecord`, which says how it is called in the store; a number stands for itself; a list, dict or
other pytree is a `Branch`. The value of a live State is taken apart in the same way, with its arrays in the places of
the records, so that the two can be laid side by side.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import jax
import jax.numpy as jnp

from graphstate.graph._path import Part, as_part

__all__ = [
    "ArrayRecord",
    "Branch",
    "Record",
    "array_records",
    "decode",
    "encode",
    "fits",
    "is_key",
    "leaves_of",
    "plain",
    "take_apart",
]

Number: TypeAlias = bool | int | float | complex


@dataclass(frozen=True, slots=True)
class ArrayRecord:
    """An array.

    Attributes:
        name: what it is called in the store.
        shape: its shape; that of the keys for PRNG keys, which are stored as their data.
        dtype: the name of its dtype, `key<fry>` for PRNG keys.
        weak: whether JAX promotes it as it does a Python number.
        host: whether it is an array of NumPy.
        implementation: the name of the PRNG, for keys.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    weak: bool = False
    host: bool = False
    implementation: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to store."""
        return 0 in self.shape


@dataclass(frozen=True, slots=True)
class Branch:
    """A list, tuple, dict, None or other pytree: its kind, and its children under their parts."""

    kind: str
    parts: tuple[Part, ...]
    children: tuple[Any, ...]


Record: TypeAlias = ArrayRecord | Number | Branch

_PLAIN: Final[dict[type, str]] = {dict: "dict", list: "list", tuple: "tuple"}


def take_apart(value: Any, leaf: Callable[[tuple[Part, ...], Any], Any], path: tuple[Part, ...] = ()) -> Any:
    """`value` as a tree of branches, with `leaf(path, array or number)` in the places of its leaves."""
    if value is None:
        return Branch("None", (), ())
    items = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda inner: inner is not value)[0]
    if len(items) == 1 and not items[0][0]:
        return leaf(path, value)
    parts = tuple(_part(key) for (key,), _ in items)
    children = tuple(take_apart(inner, leaf, (*path, part)) for part, (_, inner) in zip(parts, items, strict=True))
    return Branch(_PLAIN.get(type(value), type(value).__qualname__), parts, children)


def _part(key: Any) -> Part:
    for name in ("key", "idx", "name"):
        if hasattr(key, name):
            return as_part(getattr(key, name))
    return str(key)


def leaves_of(tree: Any) -> Iterator[Any]:
    """The leaves of a tree of branches, in JAX's order."""
    if isinstance(tree, Branch):
        for child in tree.children:
            yield from leaves_of(child)
    else:
        yield tree


def array_records(tree: Any) -> Iterator[ArrayRecord]:
    """The arrays of a record."""
    return (leaf for leaf in leaves_of(tree) if isinstance(leaf, ArrayRecord))


def plain(tree: Any, leaf: Callable[[Any], Any]) -> Any:
    """A tree of branches as lists, tuples and dicts; what was another pytree becomes a dict of its parts."""
    if not isinstance(tree, Branch):
        return leaf(tree)
    children = [plain(child, leaf) for child in tree.children]
    match tree.kind:
        case "None":
            return None
        case "list":
            return children
        case "tuple":
            return tuple(children)
    return dict(zip(tree.parts, children, strict=True))


# Whether a record fits a live value


def fits(saved: Any, present: Any) -> bool:
    """Whether the value that `saved` describes can take the place of `present`, a tree with live leaves."""
    if isinstance(saved, Branch) or isinstance(present, Branch):
        return (
            isinstance(saved, Branch)
            and isinstance(present, Branch)
            and (saved.kind, saved.parts) == (present.kind, present.parts)
            and all(map(fits, saved.children, present.children))
        )
    if isinstance(saved, ArrayRecord):
        if hasattr(present, "dtype"):
            return saved.shape == tuple(present.shape) and saved.dtype == str(present.dtype)
        return saved.shape == () and _is_kind(saved.dtype, present)
    if hasattr(present, "dtype"):
        return tuple(present.shape) == () and _is_kind(str(present.dtype), saved)
    return type(saved) is type(present)


def _is_kind(dtype: str, number: Any) -> bool:
    if dtype.startswith("key<"):
        return False
    kind = next(kind for kind in (bool, int, float, complex) if isinstance(number, kind))
    family = {bool: jnp.bool_, int: jnp.integer, float: jnp.floating, complex: jnp.complexfloating}[kind]
    return bool(jnp.issubdtype(jnp.dtype(dtype), family))


def is_key(array: Any) -> bool:
    """Whether an array, or its shape, holds typed PRNG keys."""
    return bool(jnp.issubdtype(array.dtype, jax.dtypes.prng_key))


# JSON, and back


def encode(tree: Any) -> Any:
    """A record as JSON."""
    match tree:
        case Branch(kind=kind, parts=parts, children=children):
            return {"kind": kind, "parts": list(parts), "children": [encode(child) for child in children]}
        case ArrayRecord():
            found: dict[str, Any] = {"array": tree.name, "shape": list(tree.shape), "dtype": tree.dtype}
            flags = {"weak": tree.weak, "host": tree.host, "implementation": tree.implementation}
            return found | {name: flag for name, flag in flags.items() if flag}
        case complex():
            return {"number": "complex", "value": [tree.real.hex(), tree.imag.hex()]}
        case bool() | int():
            return {"number": type(tree).__name__, "value": str(int(tree))}
    return {"number": "float", "value": tree.hex()}


def decode(given: Any) -> Any:
    """What `encode` wrote."""
    if "kind" in given:
        return Branch(given["kind"], tuple(given["parts"]), tuple(map(decode, given["children"])))
    if "array" in given:
        flags = {name: given[name] for name in ("weak", "host", "implementation") if name in given}
        return ArrayRecord(given["array"], tuple(given["shape"]), given["dtype"], **flags)
    kind, value = given["number"], given["value"]
    if kind == "complex":
        return complex(*map(float.fromhex, value))
    return float.fromhex(value) if kind == "float" else {"bool": bool, "int": int}[kind](int(value))
