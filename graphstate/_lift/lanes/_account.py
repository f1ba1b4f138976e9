"""What a call is about to be made with, in words that are the same in every process where it is the same."""

import enum
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import jax
import jax.numpy as jnp
import numpy as np

from graphstate._compat import Tracer, iter_jaxprs
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
    way_out: ClassVar[str] = (
        "Build the same in each, from the same arguments, seed and data. What each process has its own part of goes in "
        "as one array of all (`jax.make_array_from_process_local_data`)."
    )

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
            yield f"the value of {name}", _words_of_array(value)


@dataclass(frozen=True)
class ProgramAccount:
    """A program that is about to be compiled.

    Attributes:
        program: its jaxpr.
    """

    program: Any
    way_out: ClassVar[str] = (
        "Let each process compute the same: what it reads of its own number, files or settings changes its program."
    )

    def structure(self) -> str:
        """All but the values of its constants, in a few letters."""
        return hashlib.blake2b(repr(list(self._operations())).encode(), digest_size=16).hexdigest()

    def values(self) -> str:
        """The values of its constants, in a few letters."""
        return _words_of_values(self.program.consts)

    def lines(self) -> Iterator[tuple[str, str]]:
        """What it does, one operation after the other."""
        for number, operation in enumerate(self._operations()):
            yield f"operation {number}", operation
        for number, const in enumerate(self.program.consts):
            yield f"constant {number}", _words_of_array(const)

    def _operations(self) -> Iterator[str]:
        for jaxpr in iter_jaxprs(self.program):
            for eqn in jaxpr.eqns:
                if eqn.primitive.name in _SAID:
                    continue
                inputs = " ".join(map(_words_of_input, eqn.invars))
                parameters = [f"{name}={_words_of_parameter(value)}" for name, value in eqn.params.items()]
                yield " ".join([eqn.primitive.name, inputs, *filter(lambda each: each[-1] != "=", parameters)])


_SAID: Final = ("debug_callback", "debug_print")
"""What a process says of itself changes nothing of what it computes."""


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


def _words_of_array(value: Any) -> str:
    types = ", ".join(f"{kind}{list(shape)}" for shape, kind in types_of([value]))
    worth = _words_of_values([value])
    return f"{types} with digest {worth}" if worth else types


def _words_of_values(values: Sequence[Any]) -> str:
    """What arrays are worth, in a few letters; of those that are spread over processes, nothing."""
    leaves = [leaf for leaf in jax.tree.leaves(list(values)) if _is_whole(leaf)]
    if not leaves:
        return ""
    told = hashlib.blake2b(digest_size=4)
    for leaf in leaves:
        with jax.ensure_compile_time_eval():  # a program may be in the making
            whole = np.ascontiguousarray(np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf))
        told.update(whole.reshape(-1).view(np.uint8).data)
    return told.hexdigest()


def _is_whole(leaf: Any) -> bool:
    """Whether this process alone has an array: the copies that a program has left in all may differ by rounding."""
    if not isinstance(leaf, jax.Array):
        return not isinstance(leaf, jax.ShapeDtypeStruct)
    return not isinstance(leaf, Tracer) and leaf.is_fully_addressable


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _words_of_input(var: Any) -> str:
    """A literal with its value, all else with its type; what it is called says nothing."""
    value = getattr(var, "val", None)
    aval = var.aval
    return f"{getattr(aval, 'dtype', aval)}{list(getattr(aval, 'shape', ()))}{'' if value is None else f'={value}'}"


def _words_of_parameter(value: Any) -> str:
    """A plain parameter; of functions, programs and the like, nothing: what they do is told elsewhere, or unknown."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_words_of_parameter, value))})"
    if isinstance(value, enum.Enum):
        return value.name
    return repr(value) if isinstance(value, bool | int | float | str | np.dtype) else ""
