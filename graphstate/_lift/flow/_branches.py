"""One of several functions, chosen by a value: what the branches may differ in, and what they must agree on.

Every branch is traced once. Different branches may write different States: the others hand on the value that such a
State had. What they return must be alike, and none may change the structure of a Node.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from graphstate._lift.call._arguments import function_name, target_names
from graphstate._lift.call._boundary import Departure, FromArgument, FromGraph, FromOutside, FromValues, Source, arrive
from graphstate._lift.call._capture import Program
from graphstate._lift.call._captured import Operands, Outputs, capture, read_captured
from graphstate._lift.call._lifted import watched
from graphstate._lift.call._structure import check_same_structure
from graphstate._lift.call._types import common_type, convert, same_tree
from graphstate._trace import Cell, commit, describe, outer_value, pack, unpack
from graphstate.errors import BranchError, StructureError, some_of
from graphstate.graph._diff import diff

__all__ = ["BranchCall"]

_NOTHING = ()


class BranchCall:
    """One call of one of several functions.

    Args:
        branches: the functions.
        args: their arguments, the same for all.
        kwargs: their keyword arguments.
        transform: the name of the transform, for messages.

    Attributes:
        numbers: the arguments' States and arrays that some branch writes.
        cells: the States of the closure that some branch writes.
    """

    def __init__(
        self, branches: Sequence[Callable[..., Any]], args: tuple[Any, ...], kwargs: dict[str, Any], transform: str
    ) -> None:
        self.branches = branches
        self.transform = transform
        self.operands = Operands(args, kwargs, transform, branches[0])
        self.programs: list[Program] = [
            capture(branch, self.operands, watched(branch, transform), transform) for branch in branches
        ]
        self.departures: list[Departure] = [program.note.departure for program in self.programs]
        self._check_alike()
        self.numbers = tuple(sorted({number for each in self.departures for number in each.written}))
        self.cells = tuple({id(cell): cell for program in self.programs for cell in program.note.closed}.values())

    def run(self, choose: Callable[..., Any]) -> Any:
        """Runs one branch.

        Args:
            choose: takes the branches, as functions of one argument, and the argument, and returns what one returns.
        """
        self.operands.open_streams(self.programs)
        captured = [read_captured(program) for program in self.programs]
        kept = [unpack(outer_value(cell)) if self._is_kept(cell) else _NOTHING for cell in self.cells]
        wanted = self._common_types(kept)
        functions = [self._branch(number, wanted) for number in range(len(self.programs))]
        outputs: Outputs = choose(functions, (self.operands.values, self.operands.arrays, captured, kept))
        commit([(cell, pack(value)) for cell, value in zip(self.cells, outputs.closed, strict=True)])
        departure = dataclasses.replace(self.departures[0], written=self.numbers)
        return arrive(departure, self.operands.arguments, outputs.results, outputs.written, outputs.fresh)

    def _is_kept(self, cell: Cell) -> bool:
        """Whether a branch leaves a State as it is that another one writes."""
        return not all(any(cell is each for each in program.note.closed) for program in self.programs)

    # What a branch returns

    def _branch(self, number: int, wanted: Sequence[Any]) -> Callable[[Any], Outputs]:
        program = self.programs[number]

        def branch(operand: Any) -> Outputs:
            values, arrays, captured, kept = operand
            outputs = self._completed(number, program.run((values, arrays), captured[number]), values, kept)
            leaves, treedef = jax.tree.flatten(outputs)
            joint: Outputs = jax.tree.unflatten(treedef, list(map(convert, leaves, wanted)))
            return joint

        return branch

    def _completed(self, number: int, outputs: Outputs, values: Sequence[Any], kept: Sequence[Any]) -> Outputs:
        """The outputs of a branch with the values that it leaves as they are; types will do for values."""
        written = dict(zip(self.departures[number].written, outputs.written, strict=True))
        closed = dict(zip(map(id, self.programs[number].note.closed), outputs.closed, strict=True))
        return outputs._replace(
            written=[written[each] if each in written else values[each] for each in self.numbers],
            closed=[closed.get(id(cell), value) for cell, value in zip(self.cells, kept, strict=True)],
        )

    def _common_types(self, kept: list[Any]) -> list[Any]:
        """The types that all branches return.

        Raises:
            BranchError: two branches differ.
        """
        values, kept = jax.tree.map(jax.typeof, (self.operands.values, kept))
        outputs = []
        for number, program in enumerate(self.programs):
            returned: Outputs = jax.tree.unflatten(program.treedef, program.jaxpr.out_avals)
            outputs.append(self._completed(number, returned, values, kept))
        names = self._names(outputs[0])
        found = []
        for name, *parts in zip(names, *map(_parts, outputs), strict=True):
            if not all(same_tree(parts[0], part) for part in parts[1:]):
                raise self._differs(name, [jax.tree.structure(part) for part in parts])
            for avals in zip(*map(jax.tree.leaves, parts), strict=True):
                wanted = common_type(avals)
                if wanted is None:
                    raise self._differs(name, [aval.str_short() for aval in avals])
                found.append(wanted)
        return found

    def _names(self, outputs: Outputs) -> list[str]:
        """How messages call each part of the outputs."""
        labels = target_names(self.operands.arguments, self.branches[0])
        return [
            *(f"the result{where}" for where in self._result_paths()),
            *(f"`{labels[number]}`" for number in self.numbers),
            *("a State of the result" for _ in outputs.fresh),
            *(describe(cell) for cell in self.cells),
        ]

    def _result_paths(self) -> list[str]:
        departure = self.departures[0]
        marks = jax.tree.unflatten(departure.treedef, list(departure.sources))
        return [
            jax.tree_util.keystr(path) and f" at `{jax.tree_util.keystr(path)}`"
            for path, source in jax.tree_util.tree_leaves_with_path(marks)
            if isinstance(source, FromValues)
        ]

    # What branches must agree on

    def _check_alike(self) -> None:
        for branch, departure in zip(self.branches, self.departures, strict=True):
            check_same_structure(departure, self.operands.arguments, self.transform, branch)
        first = self.departures[0]
        for branch, other in zip(self.branches[1:], self.departures[1:], strict=True):
            if other.treedef != first.treedef:
                raise BranchError(
                    f"The branches of `{self.transform}` must return results of one structure, but "
                    f"`{function_name(self.branches[0])}` returned {first.treedef} and `{function_name(branch)}` "
                    f"{other.treedef}."
                )
            self._check_objects(branch, first, other)

    def _check_objects(self, branch: Callable[..., Any], first: Departure, other: Departure) -> None:
        """Nodes and States in the results: the same object in all branches, or a new one of the same structure."""
        for source, its in zip(first.sources, other.sources, strict=True):
            if self._identity(source, first) != self._identity(its, other):
                raise BranchError(
                    f"The branches of `{self.transform}` must return the same Node, or each a new one, but "
                    f"`{function_name(self.branches[0])}` and `{function_name(branch)}` return different objects: "
                    "which of them comes back would depend on a value. Return their values (`graphstate.state(node)`), "
                    "or write to the States of one Node."
                )
        if first.restructuring is None or other.restructuring is None or first.restructuring == other.restructuring:
            return
        differences = diff(first.restructuring.graphdef, other.restructuring.graphdef)
        raise StructureError(
            f"The branches of `{self.transform}` must return Nodes of one structure, but those of "
            f"`{function_name(self.branches[0])}` and `{function_name(branch)}` differ:\n"
            + some_of(differences or ["they share other objects of the caller"]),
            differences,
        )

    def _identity(self, source: Source, departure: Departure) -> Any:
        """Equal for results that are the same object outside, and for all that are new."""
        arguments = self.operands.arguments
        match source:
            case FromArgument(root=root):
                return id(arguments.roots[root])
            case FromOutside():
                return id(source.object)
            case FromGraph(place=place):
                assert departure.restructuring is not None
                origin = dict(departure.restructuring.origins).get(place)
                return None if origin is None else id(arguments.objects()[origin])
        return source

    def _differs(self, name: str, kinds: Sequence[Any]) -> BranchError:
        told = [f"{kind} in `{function_name(branch)}`" for branch, kind in zip(self.branches, kinds, strict=True)]
        return BranchError(
            f"The branches of `{self.transform}` must leave values of one structure, shape and dtype, but {name} is\n"
            + some_of(told)
            + "\nConvert it in the branch, or give the State a value of the type that the other branch writes."
        )


def _parts(outputs: Outputs) -> list[Any]:
    return [*outputs.results, *outputs.written, *outputs.fresh, *outputs.closed]
