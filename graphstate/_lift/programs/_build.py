"""How a program is compiled, where that depends on what it writes: what it is given for good, how outputs are sharded.

What a program writes is known once it was traced, and before it is compiled. So the first trace ends without an
executable; a `Build` is made for what was found, and the call is made again with it. The program itself is kept, the
user's function does not run again. The programs of an entry that write the same share a build.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax

from graphstate._lift.call._arguments import Joint, Shape
from graphstate._lift.call._capture import Program, type_of
from graphstate.random import RandomState

from ._donation import calls_back, fits_in_place, has_shapes
from ._shardings import InputShardings, iter_leaves, output_shardings

if TYPE_CHECKING:
    from ._entry import Note

__all__ = ["Build", "Options", "Tailor"]


@dataclass(frozen=True)
class Options:
    """What a user asks of the compiled programs of a function.

    Attributes:
        donates_states: whether the States that are written are donated, wherever they come from.
        donate_numbers: the positional arguments that are donated, not counting static ones.
        donate_names: the keyword arguments that are donated.
        in_shardings: a prefix tree over the positional arguments, not counting static ones; None for none.
        out_shardings: a prefix tree over the result; None for none.
    """

    donates_states: bool = False
    donate_numbers: frozenset[int] = frozenset()
    donate_names: frozenset[str] = frozenset()
    in_shardings: Any = None
    out_shardings: Any = None


Numbers = tuple[int, ...]


class Build:
    """One way to compile programs of an entry, and the programs that were compiled in it.

    Attributes:
        note: what these programs return; None where none was traced yet.
        values: which values of the arguments' graph are donated, by number.
        captured: which captured values are.
        arrays: which of the other arguments are.
        draws: whether the programs draw from a stream that threads may share.
        compiled: runs them; takes what is donated, then the rest.
        compiled_inside: the same, for a call in another trace, where nothing can be donated.
        checked: the last write to a State at the time when the donated ones were found to share no buffer.
    """

    def __init__(
        self,
        note: "Note | None" = None,
        values: Numbers = (),
        captured: Numbers = (),
        arrays: Numbers = (),
        draws: bool = False,
    ) -> None:
        self.note = note
        self.values = values
        self.captured = captured
        self.arrays = arrays
        self.draws = draws
        self.compiled: Any = None
        self.compiled_inside: Any = None
        self.checked: object = self

    @property
    def donates(self) -> bool:
        """Whether anything is donated."""
        return bool(self.values or self.captured or self.arrays)

    def is_like(self, other: "Build") -> bool:
        """Whether programs may be compiled in one as well as in the other."""
        return (self.note, self.values, self.captured, self.arrays, self.draws) == (
            other.note,
            other.values,
            other.captured,
            other.arrays,
            other.draws,
        )

    def divide(self, values: Sequence[Any], captured: Sequence[Any], arrays: Sequence[Any]) -> tuple[Any, ...]:
        """The inputs as `compiled` takes them."""
        if not self.donates:
            return [], values, captured, arrays
        parts = (values, self.values), (captured, self.captured), (arrays, self.arrays)
        donated = [[part[number] for number in numbers] for part, numbers in parts]
        return donated, *(_without(part, numbers) for part, numbers in parts)

    def join(self, donated: Sequence[Any], *kept: Sequence[Any]) -> list[list[Any]]:
        """The inverse of `divide`."""
        if not self.donates:
            return [list(part) for part in kept]
        numbers = self.values, self.captured, self.arrays
        return [_with(part, *given) for part, *given in zip(kept, numbers, donated, strict=True)]


def _without(items: Sequence[Any], numbers: Numbers) -> list[Any]:
    if not numbers:
        return list(items)
    if len(numbers) == len(items):
        return []
    left_out = set(numbers)
    return [item for number, item in enumerate(items) if number not in left_out]


def _with(items: Sequence[Any], numbers: Numbers, given: Sequence[Any]) -> list[Any]:
    joined = list(items)
    for number, item in zip(numbers, given, strict=True):
        joined.insert(number, item)
    return joined


class Tailor:
    """Makes the builds of one entry.

    Args:
        options: what was asked for.
        shape: what the arguments look like.
        joint: the graph that they make together.
        trace: what JAX traces: takes the build, then its inputs.
        jit_options: further parameters for `jax.jit`.
        function: the user's function, for messages.
    """

    def __init__(
        self,
        options: Options,
        shape: Shape,
        joint: Joint,
        trace: Callable[..., Any],
        jit_options: dict[str, Any],
        function: Callable[..., Any],
    ) -> None:
        self.options = options
        self.shardings = InputShardings(options.in_shardings, shape, joint, function)
        self._trace = trace
        self._jit_options = jit_options
        self._graphdef = joint.graphdef
        self._several = len(shape.spots) > 1
        donated = [self._is_donated(path) for path, _ in jax.tree_util.tree_leaves_with_path(_marks(shape.treedef))]
        self._donated_arrays = tuple(position for position, spot in enumerate(shape.rest) if donated[spot])
        self._donated_targets = {
            number
            for root, spot in enumerate(shape.spots)
            if donated[spot]
            for number, _ in iter_leaves(joint.graphdef, root if self._several else None)
        }
        self.first = self._compiled(Build(), {})

    def _is_donated(self, path: tuple[Any, ...]) -> bool:
        """Whether the leaf at a path of `(args, kwargs)` is part of an argument to be donated."""
        if path[0].idx == 0:
            return path[1].idx in self.options.donate_numbers
        return path[1].key in self.options.donate_names

    def build(self, program: Program, values: list[Any], numbers: Mapping[object, int], targets: list[Any]) -> Build:
        """The build for a program.

        Args:
            program: the program.
            values: the values of the arguments' graph, traced.
            numbers: the number of each captured value, by the key of its source.
            targets: the States and arrays of the arguments' graph.
        """
        note = program.note
        after = jax.tree.unflatten(program.treedef, program.jaxpr.out_avals)
        types: dict[Any, Any] = {number: type_of(value) for number, value in enumerate(values)}
        types |= {source.key: kept for source, kept in zip(program.sources, program.types, strict=True)}
        closed = [ref() for ref in note.captured]
        changed = [
            *zip(note.departure.written, [targets[number] for number in note.departure.written], after[1], strict=True),
            *zip(note.captured, closed, after[3], strict=True),
        ]
        draws = any(isinstance(cell, RandomState) for _, cell, _ in changed)
        in_place = {key for key, cell, new in changed if key in types and fits_in_place(cell, types[key], new)}
        outputs = {} if self._gives_no_shardings() else {"out_shardings": self._outputs(note, closed, types, changed)}
        if draws and calls_back(program.jaxpr):
            # It may have to run again, if its callback draws: then its inputs must still be there.
            return self._compiled(Build(note, draws=draws), outputs)
        everything = self.options.donates_states
        build = Build(
            note,
            tuple(
                number
                for number in range(len(values))
                if number in in_place and (everything or number in self._donated_targets)
            ),
            tuple(sorted(numbers[key] for key in note.captured if everything and key in in_place)),
            self._donated_arrays,
            draws,
        )
        return self._compiled(build, outputs)

    def _gives_no_shardings(self) -> bool:
        return self.options.out_shardings is None and not self.shardings

    def _outputs(
        self, note: "Note", closed: list[Any], types: Mapping[Any, Any], changed: list[tuple[Any, ...]]
    ) -> Any:
        kept = {
            key: self.shardings.targets[key]
            for key, _, new in changed
            if isinstance(key, int) and has_shapes(types[key], new)
        }
        prefix = self.options.out_shardings
        return output_shardings(prefix, note.departure, closed, kept, self._graphdef, self._several)

    def _compiled(self, build: Build, outputs: dict[str, Any]) -> Build:
        """Gives a build its `jax.jit`s; nothing is compiled yet."""
        options = {**self._jit_options, **outputs}
        trace = functools.partial(self._trace, build)
        if self.shardings:
            captured = [None] * (1 + max(build.captured, default=-1))
            donated, values, _, arrays = build.divide(self.shardings.targets, captured, self.shardings.arrays)
            options["in_shardings"] = (donated or None, values, None, arrays)
        donation: dict[str, Any] = {"donate_argnums": 0} if build.donates else {}
        build.compiled = jax.jit(trace, **options, **donation)
        build.compiled_inside = jax.jit(trace, **options) if build.donates else build.compiled
        return build


def _marks(treedef: Any) -> Any:
    return jax.tree.unflatten(treedef, range(treedef.num_leaves))
