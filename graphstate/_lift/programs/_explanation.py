"""What a compiled function is bound to: what each call looks at, and what its programs have taken for constant."""

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from graphstate._lift.call._arguments import Shape, argument_names, function_name
from graphstate._lift.call._capture import Program, Source
from graphstate._lift.call._lifted import Lifted
from graphstate._lift.watch._names import is_users
from graphstate._lift.watch._watch import Watch
from graphstate._trace import kind_and_place
from graphstate.graph._graphdef import GraphDef
from graphstate.graph._heads import NodeHead, StateHead
from graphstate.graph._references import iter_references

from ._cached import CachedFunction
from ._entry import Entry, static_keys

__all__ = ["Explanation", "explain_function"]

_SHOWN = 8
_OWN = __name__.partition(".")[0]


@dataclass(frozen=True)
class ProgramExplanation:
    """The programs for one structure of arguments and of what the function refers to.

    Attributes:
        arguments: the Nodes, States and arrays that came in.
        statics: the static arguments.
        programs: how many were traced: one for each combination of shapes and dtypes.
        captured: the States and array settings of the closure that are inputs.
        written: the States of the closure that are outputs.
        settings: the settings of `environ` that were read; a call with others is traced anew.
        constants: the types of the arrays that are part of a program: later values are not seen.
    """

    arguments: tuple[str, ...]
    statics: tuple[str, ...]
    programs: int
    captured: tuple[str, ...]
    written: tuple[str, ...]
    settings: tuple[str, ...]
    constants: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """The text."""
        yield f"called with ({', '.join(self.arguments)}), {_count(self.programs, 'program')}"
        yield from _listed("  static arguments", self.statics)
        yield from _listed("  inputs from the closure", self.captured)
        yield from _listed("  written in the closure", self.written)
        yield from _listed("  settings that were read", self.settings)
        yield from _listed("  arrays that are constants of a program", self.constants)


@dataclass(frozen=True)
class Explanation:
    """What a function depends on; printed, it is a readable list.

    Attributes:
        name: how messages call the function.
        references: what it refers to and what is looked at on each call.
        states: the States that it reaches.
        ignored: what it was seen to change itself: no dependency.
        modules: the modules that it names; what they hold is looked at when a program is traced, and not again.
        programs: one for each structure that it was called with.
    """

    name: str
    references: tuple[str, ...]
    states: tuple[str, ...]
    ignored: tuple[str, ...]
    modules: tuple[str, ...]
    programs: tuple[ProgramExplanation, ...] = field(default=())

    def lines(self) -> Iterator[str]:
        """The text."""
        yield self.name
        yield from _listed("looked at on each call", self.references)
        yield from _listed("States within reach", self.states)
        yield from _listed("ignored, since the function changes it itself", self.ignored)
        yield from _listed("constant from the trace on, in the modules", self.modules)
        for program in self.programs:
            yield from program.lines()

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__


def _listed(title: str, items: tuple[str, ...]) -> Iterator[str]:
    if items:
        more = f", and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
        yield f"{title}: {', '.join(items[:_SHOWN])}{more}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def explain_function(function: Callable[..., Any]) -> Explanation:
    """What a function, transformed or not, depends on."""
    lifted = function if isinstance(function, Lifted) else Lifted(function, "explain")
    watch = lifted.watch()
    entries = [entry for found in lifted.entries() for entry in found] if isinstance(lifted, CachedFunction) else []
    unique = {id(entry): entry for entry in entries}
    watches = [watch, *(each for entry in unique.values() for each in entry.watches)]
    return Explanation(
        name=repr(function) if isinstance(function, Lifted) else function_name(function),
        references=tuple(dict.fromkeys(line for each in watches for line in each.references())),
        states=tuple(f"{watch.name_of(state)} ({kind_and_place(state)})" for _, _, state in watch.states().values()),
        ignored=tuple(dict.fromkeys(line for each in watches for line in each.ignored(lifted.changed_by_itself))),
        modules=tuple(sorted({name for each in watches for name in _modules(each)})),
        programs=tuple(_explain_entry(entry, lifted, watch) for entry in unique.values()),
    )


def _modules(watch: Watch) -> Iterator[str]:
    for function in watch.functions.values():
        for reference in iter_references(function):
            value = reference.get()
            if isinstance(value, types.ModuleType) and is_users(value.__name__) and value.__name__ != _OWN:
                yield value.__name__


def _explain_entry(entry: Entry, owner: Lifted, watch: Watch) -> ProgramExplanation:
    programs = entry.programs()
    return ProgramExplanation(
        arguments=tuple(_explain_arguments(entry.shape, entry.graphdef, owner.function)),
        statics=tuple(f"{str(key)[:60]}" for key in static_keys(entry.statics)),
        programs=len(programs),
        captured=tuple(_name(source, watch) for source in entry.sources),
        written=tuple(
            dict.fromkeys(
                watch.name_of(cell) or f"a {kind_and_place(cell)}"
                for program in programs
                for ref in program.note.captured
                if (cell := ref()) is not None
            )
        ),
        settings=(
            *(f"{name} = {key!r}" for name, key in entry.settings.items()),
            *(f"{name} (an array)" for name in sorted(entry.array_settings)),
        ),
        constants=tuple(_constants(programs)),
    )


def _explain_arguments(shape: Shape, graphdef: GraphDef, function: Callable[..., Any]) -> Iterator[str]:
    roots = [0] if len(shape.spots) == 1 else list(graphdef.children[0]) if shape.spots else []
    heads = {spot: graphdef.heads[root] for spot, root in zip(shape.spots, roots, strict=True)}
    for spot, name in enumerate(argument_names(shape.treedef, function)):
        head = heads.get(spot)
        yield f"{name}: {head.type.__name__ if isinstance(head, NodeHead | StateHead) else 'array'}"


def _name(source: Source, watch: Watch) -> str:
    if source.setting is not None:
        return f"the setting {source.setting}"
    cell = source.cell()
    if cell is None:
        return "a State that is gone"
    return watch.name_of(cell) or f"a {kind_and_place(cell)}"


def _constants(programs: list[Program]) -> Iterator[str]:
    for program in programs:
        for const in program.jaxpr.consts:
            if hasattr(const, "dtype") and hasattr(const, "shape"):
                yield f"{const.dtype}[{','.join(map(str, const.shape))}]"
