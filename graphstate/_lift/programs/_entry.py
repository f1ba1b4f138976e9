"""The programs of one function for one structure of its arguments and of what it refers to.

An entry holds one `jax.jit`, which tells programs apart by shapes and dtypes; and it knows what all of them depend on:
which States they capture, which settings they have read, what the functions that they called refer to.
"""

import functools
import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import jax

from graphstate import environ
from graphstate._compat import Tracer, bare_type, trace_context
from graphstate._lift.call._arguments import Arguments, Joint, Shape, function_name
from graphstate._lift.call._boundary import Departure, Leaving, enter, leave
from graphstate._lift.call._capture import CaptureFrame, Program, Source, trace_program, unread_inputs
from graphstate._lift.call._traced import name_cells
from graphstate._lift.watch._watch import Watch, functions_of, is_watchable
from graphstate._trace import Cell, describe, local, unpack
from graphstate.errors import TraceContextError
from graphstate.graph._heads import StaticKey
from graphstate.graph._node import Node
from graphstate.graph._picker import picker
from graphstate.graph._plan import plan_of
from graphstate.graph._state import State
from graphstate.random import RandomState

from ._build import Build, Tailor

if TYPE_CHECKING:
    from ._cached import CachedFunction

__all__ = [
    "Again",
    "Calling",
    "Entry",
    "Gone",
    "Note",
    "Raced",
    "Returned",
    "RunEagerly",
    "Uncompiled",
    "as_seen",
    "calling",
    "static_keys",
]

_serials: Final = itertools.count(1)
_PROGRAMS: Final = 64


class Again(Exception):  # noqa: N818, not an error
    """More was found out while tracing; the call is made again with it."""


class Gone(Exception):  # noqa: N818, not an error
    """A captured State is gone; the entry is of no more use."""


class Raced(Exception):  # noqa: N818, not an error
    """A RandomState was drawn from while a program ran that had read its key; the program runs again."""

    def __init__(self, stream: Cell) -> None:
        super().__init__()
        self.stream = stream

    def error(self) -> TraceContextError:
        """What is said where that goes on happening, as it does if the program itself is the cause."""
        return TraceContextError(
            f"Each time that a compiled function has drawn from {describe(self.stream)}, somebody else had drawn from "
            "it too: a callback of the function, or other threads without a break. Give the callback a RandomState "
            "of its own. Nothing was changed."
        )


class Uncompiled(Exception):  # noqa: N818, not an error
    """The program must be compiled before it can be run while a lock is held."""


class RunEagerly(Exception):  # noqa: N818, not an error
    """JAX was told not to compile (`jax.disable_jit`)."""


class Calling(threading.local):
    """The call that this thread is making, for the tracing that it may lead to.

    Attributes:
        arguments: its arguments.
        types: those of its inputs, where programs of one entry are built in several ways.
        must_be_compiled: whether it must not wait for a compiler.
    """

    arguments: tuple[Sequence[Any], Shape, Joint] | None = None
    types: Hashable = None
    must_be_compiled: bool = False

    @contextmanager
    def inside(self, arguments: tuple[Sequence[Any], Shape, Joint]) -> Iterator[None]:
        """A block with a call by a function that is being traced: the call that has led to that goes on afterwards."""
        around = self.arguments, self.types, self.must_be_compiled
        self.arguments, self.types, self.must_be_compiled = arguments, None, False
        try:
            yield
        finally:
            self.arguments, self.types, self.must_be_compiled = around


calling: Final = Calling()


class Note:
    """The static half of what a program returns.

    Attributes:
        departure: what comes out of the arguments' graph.
        captured: the States of the closure that were written.
        is_pure: whether nothing was written, and the result holds no graph objects.
        is_simple: whether what was written are single arrays in States, and the result holds no graph objects.
        unread: the arguments' RandomStates, by number, whose keys the program does not look at.
        pick_written: gives the States that were written, of the arguments' States.
        pick_captured: gives the captured States that were written, of those that the entry reads, as of a `revision`
            of it; None where it does not read all of them.
    """

    __slots__ = (
        "captured",
        "departure",
        "is_pure",
        "is_simple",
        "pick_captured",
        "pick_written",
        "revision",
        "unread",
    )

    def __init__(self, departure: Departure, captured: tuple[weakref.ref[Cell], ...], is_simple: bool) -> None:
        self.departure = departure
        self.captured = captured
        self.is_simple = is_simple
        self.is_pure = is_simple and not departure.written and not captured
        self.unread: frozenset[int] = frozenset()
        self.pick_written = picker(departure.written)
        self.pick_captured: Callable[[Sequence[Any]], Sequence[Any]] | None = None
        self.revision = -1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Note) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash((self.captured, self.is_simple))

    def _content(self) -> tuple[Any, ...]:
        return self.departure, self.captured, self.is_simple, self.unread


class Returned:
    """Values, and the note of the program that made them.

    Where the programs of an entry mean different things by what they return, the note travels in the static part of
    the output's structure: whichever program `jax.jit` has run (they differ by shapes), what it returned says it.
    """

    __slots__ = ("note", "values")

    def __init__(self, note: Note, values: Any) -> None:
        self.note = note
        self.values = values


jax.tree_util.register_pytree_node(Returned, lambda returned: (returned.values, returned.note), Returned)


class Entry:
    """The programs of one function for one structure.

    Attributes:
        statics: the static arguments.
        shape: what the arguments look like.
        graphdef: the graph that they make together.
        sources: the States and array settings that the programs take as inputs beside the arguments.
        revision: goes up when more is found out, so that what was concluded before is looked at again.
        draws: whether a program draws from a RandomState that threads may share.
        settings: the settings that were read, by name.
        array_settings: the names of those whose values are arrays.
        reads_settings: whether there are any.
        watches: what the functions depend on that were called, beside the one of the entry.
        alias_reads: the arguments' States, by number, that were also reached through the closure.
        note: what the outputs of the programs mean, as long as all of them mean the same.
        tailor: makes the builds of programs whose compilation depends on what they write; None where none does.
        placement: says where inputs must lie; None where they are taken as they lie.
        is_quick: whether a warm call has nothing to mind but what it reads and writes.
        watch_key: what the function depends on, without what it was seen to change itself.
    """

    def __init__(self, owner: "CachedFunction", watch: Watch, statics: Any, shape: Shape, joint: Joint) -> None:
        self.owner = owner
        self.statics = statics
        self.shape = shape
        self.graphdef = joint.graphdef
        self.sources: tuple[Source, ...] = ()
        self.revision = 0
        self.draws = False
        self.settings: dict[str, StaticKey] = {}
        self.array_settings: frozenset[str] = frozenset()
        self.reads_settings = False
        self.watches: list[Watch] = []
        self.alias_reads: dict[int, weakref.ref[Cell]] = {}
        self.note: Note | None = None
        self.watch_key = watch.key
        self.compiled = self._jitted()
        options = owner.build_options(statics, shape)
        self.tailor = None
        if options is not None:
            trace = _named(self._trace_build, owner.function)
            self.tailor = Tailor(options, shape, joint, trace, owner.jit_options, owner.function)
            self._build = self.tailor.first
        self.placement = owner.placement(watch)
        self.is_quick = options is None
        self._builds: dict[Hashable, Build] = {}
        self._are_alike = True
        self._serial = next(_serials)
        self._watched = frozenset(watch.functions)
        self._callers = tuple(watch.functions.values())
        self._roots = [weakref.ref(root) for _, root in watch.roots() if isinstance(root, Node)]
        self._groups: list[tuple[weakref.ref[Node] | None, tuple[Source, ...]]] = []
        self._index: dict[object, int] = {}
        self._lock = threading.Lock()
        self._programs: OrderedDict[Hashable, Program] = OrderedDict()
        self._pending: dict[Hashable, Program] = {}
        self._stamp: object = None
        self._tells_apart = False
        self._tracing: set[int] = set()

    def programs(self) -> list[Program]:
        """The programs that were traced, as far as they are kept."""
        return list(self._programs.values())

    # What the programs depend on

    def holds(self) -> bool:
        """Whether every setting that was read is as it was, and nothing else that was met has changed."""
        return self.settings_hold() and all(map(Watch.is_current, self.watches))

    def settings_hold(self) -> bool:
        """Whether every setting that was read is as it was."""
        if self.reads_settings:
            stamp = environ.stamp()
            if stamp != self._stamp:
                if not self._compare_settings():
                    return False
                self._stamp = stamp
        return True

    def is_traced_here(self) -> bool:
        """Whether this thread is tracing a program of it: a call inside of that may depend on more, and has its own."""
        return threading.get_ident() in self._tracing

    def _compare_settings(self) -> bool:
        for name, key in self.settings.items():
            value = environ.lookup(name)
            if isinstance(value, Cell) or StaticKey(value) != key:
                return False
        return all(isinstance(environ.lookup(name), Cell) for name in self.array_settings)

    def suits(self, targets: Sequence[Any]) -> bool:
        """Whether arguments and captured States are the same objects in the same places as when it was traced."""
        if not self.sources and not self.alias_reads:
            return True
        numbers = {id(target): number for number, target in enumerate(targets)}
        if any(id(as_seen(source.cell())) in numbers for source in self.sources if source.setting is None):
            return False
        return all(number < len(targets) and ref() is targets[number] for number, ref in self.alias_reads.items())

    # What the programs capture

    def captured_cells(self) -> list[Cell]:
        """The States and settings that are captured, where nothing is being traced."""
        found: list[Cell] = []
        for ref, members in self._groups:
            if ref is None:
                found = found + [_cell_of(source) for source in members]
                continue
            root = ref()
            if root is None:
                raise Gone
            captured = root._graph_plan.captured
            cells = captured.get(self._serial)
            if cells is None:
                cells = captured[self._serial] = [_cell_of(source) for source in members]
            found = found + cells if found else cells
        return found

    def written_cells(self, note: Note, captured: Sequence[Any]) -> Sequence[Any]:
        """The States of the closure that a program has written; None for one that is gone."""
        if note.revision != self.revision:
            positions = [self._index.get(ref, -1) for ref in note.captured]
            note.pick_captured = None if -1 in positions else picker(positions)
            note.revision = self.revision
        if note.pick_captured is not None:
            return note.pick_captured(captured)
        positions = [self._index.get(ref, -1) for ref in note.captured]
        return [
            captured[position] if position >= 0 else ref()
            for position, ref in zip(positions, note.captured, strict=True)
        ]

    def _add_sources(self, missing: list[Source]) -> None:
        with self._lock:
            known = {source.key for source in self.sources}
            self.sources = (*self.sources, *(source for source in missing if source.key not in known))
            self._groups = list(self._grouped())
            order = [source for _, members in self._groups for source in members]
            self.sources = tuple(order)
            self._index = {source.key: position for position, source in enumerate(order)}
            if self.tailor is not None:
                self._build = self.tailor.first  # builds count what is captured
                self._builds.clear()
            self.revision += 1

    def _grouped(self) -> Any:
        """The sources by the closed-over Node whose plan keeps them at hand; then all others."""
        left = {source.key: source for source in self.sources}
        for ref in self._roots:
            root = ref()
            if root is None:
                continue
            ids = {id(leaf) for leaf in plan_of(root).leaves}
            members = tuple(source for source in left.values() if source.setting is None and id(source.cell()) in ids)
            if members:
                yield ref, members
            for source in members:
                del left[source.key]
        if left:
            yield None, tuple(left.values())

    # Tracing

    def understand(self, returned: Any) -> tuple[Note, Any]:
        """The note and the values of what a program returned."""
        if type(returned) is Returned:
            return returned.note, returned.values
        assert self.note is not None
        return self.note, (returned, [], [], []) if self.note.is_pure else returned

    def _jitted(self) -> Any:
        return jax.jit(_named(self._trace, self.owner.function), **self.owner.jit_options)

    def _trace(self, values: list[Any], captured: list[Any], *given: Any) -> Any:
        """What `jax.jit` traces: the program of the user's function, for these types."""
        arrays = list(given)
        program = self._program(values, captured, arrays)
        if self.note is None:
            self.note = program.note
        elif not self._tells_apart and program.note != self.note:
            self._tells_apart = True
            self.compiled = self._jitted()
            raise Again
        if self.placement is not None:
            self.placement.agree_on(program.jaxpr)
        outputs = self._run(program, values, captured, arrays)
        if self._tells_apart:
            return Returned(program.note, outputs)
        return outputs[0] if program.note.is_pure else outputs

    def _trace_build(self, build: Build, donated: list[Any], *kept: list[Any]) -> Any:
        """As `_trace`, where the program is compiled in one of several ways: if not in this one, the call is repeated.

        So it is, too, if the program was traced just now: what was found out is looked at before anything is donated.
        """
        values, captured, arrays = build.join(donated, *kept)
        revision = self.revision
        program = self._program(values, captured, arrays)
        assert self.tailor is not None
        assert calling.arguments is not None
        wanted = self.tailor.build(program, values, self._index, Arguments(*calling.arguments).targets)
        if not build.is_like(wanted):
            self._adopt(wanted)
            raise Again
        if self.revision != revision:
            raise Again
        if calling.must_be_compiled:
            raise Uncompiled
        if self.placement is not None:
            self.placement.agree_on(program.jaxpr)
        return self._run(program, values, captured, arrays)

    def _adopt(self, build: Build) -> None:
        if self._build.note is None:
            self._build = build
        elif self._are_alike:
            self._are_alike = False
        elif calling.types is not None:
            self._builds[calling.types] = build

    def find_build(self, values: Callable[[], list[Any]], arrays: list[Any]) -> Build:
        """The build for these inputs, as far as it is known.

        Args:
            values: reads the values of the arguments' graph, where they are needed.
            arrays: the other arguments.
        """
        if self._are_alike:
            calling.types = None
            return self._build
        leaves, treedef = jax.tree.flatten((values(), arrays))
        calling.types = (treedef, *map(jax.typeof, leaves))
        return self._builds.get(calling.types, self._build)

    def run_inside(self, values: list[Any], captured: list[Any], arrays: list[Any]) -> tuple[Note, Any]:
        """Runs a program in another trace, where nothing is donated."""
        if self.tailor is None:
            return self.understand(self.compiled(values, captured, *arrays))
        build = self.find_build(lambda: values, arrays)
        outputs = build.compiled_inside(*build.divide(values, captured, arrays))
        assert build.note is not None
        return build.note, outputs

    def stage(self, stage: str, values: Sequence[Any], captured: Sequence[Any], arrays: Sequence[Any]) -> Any:
        """What the `stage` of `jax.jit` gives: the program lowered, or traced."""
        if self.tailor is None:
            return getattr(self.compiled, stage)(values, captured, *arrays)
        build = self.find_build(lambda: list(values), list(arrays))
        return getattr(build.compiled, stage)(*build.divide(values, captured, arrays))

    def _run(self, program: Program, values: list[Any], captured: list[Any], arrays: list[Any]) -> Any:
        inputs = [captured[self._index[source.key]] for source in program.sources]
        return program.run((values, arrays), inputs)

    def _program(self, values: list[Any], captured: list[Any], arrays: list[Any]) -> Program:
        """The program of the user's function for these types, traced now or before."""
        if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
            raise RunEagerly
        leaves, treedef = jax.tree.flatten((values, arrays))
        types = [bare_type(leaf) for leaf in leaves]
        key = (treedef, tuple(types), trace_context())
        program = self._programs.get(key) or self._pending.pop((threading.get_ident(), key), None)
        if program is None or not self._fits(program, captured):
            program = self._capture(key, *jax.tree.unflatten(treedef, types))
        missing = [source for source in program.sources if source.key not in self._index]
        if missing or len(captured) != len(self.sources):
            self._add_sources(missing)
            raise Again
        self._pending.pop((threading.get_ident(), key), None)
        return program

    def _fits(self, program: Program, captured: list[Any]) -> bool:
        """Whether a kept program takes what is captured now; while inputs are missing, the next call will tell."""
        positions = [self._index.get(source.key, len(captured)) for source in program.sources]
        return any(position >= len(captured) for position in positions) or program.fits(
            [captured[each] for each in positions]
        )

    def _capture(self, key: Hashable, values: list[Any], arrays: list[Any]) -> Program:
        assert calling.arguments is not None
        arguments, owner = Arguments(*calling.arguments), self.owner
        frame, watch, methods = CaptureFrame(), owner.watch(), self._watch_methods(arguments)

        def body(values: list[Any], arrays: list[Any]) -> tuple[Any, Note]:
            inside, args, kwargs = enter(frame, arguments, values, arrays)
            name_cells(frame, inside, arguments, owner.function, watch)
            with watch.guarded(), methods.guarded():
                result = owner.run_user(self.statics, args, kwargs)
            self._forgive(watch, [methods, *frame.watches])
            leaving = leave(frame, inside, result, owner.transform)
            watch.check_one_way(arguments.objects(), not leaving.departure.is_same, owner.transform)
            return _outputs(frame, arguments, leaving)

        self.revision += 1  # a call inside of this one looks for its entry anew
        self._tracing.add(threading.get_ident())
        try:
            program = trace_program(frame, body, values, arrays).lasting(frame)
        finally:
            self._tracing.discard(threading.get_ident())
        if any(isinstance(target, RandomState) for target in arguments.targets):
            unread = unread_inputs(program.jaxpr, values, carried=False)
            program.note.unread = frozenset(number for number, is_unread in enumerate(unread) if is_unread)
        draws = self._remember(frame, watch, methods, arguments, program.note)
        self._keep(key, program)  # by now: another thread that finds it must know what it depends on
        if draws and not self.draws:
            self.draws, self.is_quick = True, False
            raise Again
        return program

    def _forgive(self, watch: Watch, others: Iterable[Watch]) -> None:
        """What the function itself changed while it was traced (a counter, a list) is no dependency.

        Looked at as soon as it has returned: what other threads change must not be taken for its doing.
        """
        ignored = self.owner.changed_by_itself
        if not watch.is_current() and watch.forgive(ignored):
            self.watch_key = Watch(watch.origin, ignored).key
        for other in others:
            if not other.is_current():
                other.forgive(ignored)

    def _keep(self, key: Hashable, program: Program) -> None:
        """Keeps the program for a call that is made again; for good, unless it belongs to a trace around it."""
        if any(isinstance(const, Tracer) for const in program.jaxpr.consts):
            self._pending[threading.get_ident(), key] = program
            return
        self._programs[key] = program
        while len(self._programs) > _PROGRAMS:
            self._programs.popitem(last=False)

    def _remember(self, frame: CaptureFrame, watch: Watch, methods: Watch, arguments: Arguments, note: Note) -> bool:
        """Keeps what the traced program depends on; whether it draws from a RandomState."""
        self.settings.update((name, StaticKey(value)) for name, value in frame.settings.items())
        self.array_settings |= frozenset(frame.setting_cells.values())
        self.reads_settings = bool(self.settings or self.array_settings)
        for number, target in enumerate(arguments.targets):
            if id(target) in frame.alias_reads:
                self.alias_reads[number] = weakref.ref(target)
        called = [each for each in frame.watches if each is not watch]
        others = [methods, *(each for each in called if not self._watched.issuperset(each.functions))]
        known = {_identity(each) for each in self.watches}  # programs for other shapes depend on the same
        settled = [self._settled(each) for each in others if each.functions]
        self.watches += [each for each in settled if _identity(each) not in known]
        self.revision += 1
        written = [arguments.targets[number] for number in note.departure.written]
        written += [ref() for ref in note.captured]
        return any(isinstance(cell, RandomState) for cell in written)

    def _settled(self, watch: Watch) -> Watch:
        """A watch that holds after the call, in which the function may have changed what it watches."""
        if watch.is_current():
            return watch
        return Watch(watch.origin, self.owner.changed_by_itself, self._callers)

    def _watch_methods(self, arguments: Arguments) -> Watch:
        """What the methods and static attributes of the arguments' Nodes, and static arguments, depend on."""
        functions = [*functions_of(arguments.graphdef), *(key.value for key in static_keys(self.statics))]
        watched = [each for each in functions if id(each) not in self._watched and is_watchable(each)]
        return Watch(watched, self.owner.changed_by_itself, self._callers)


def _identity(watch: Watch) -> Hashable:
    """Equal for two watches of the same functions that saw the same."""
    return watch.key, frozenset(watch.functions)


def _named(trace: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """`trace`, by the name of the user's function: profiles and dumps show it."""
    named = functools.partial(trace)
    named.__name__ = function_name(function).rpartition(".")[2]  # type: ignore[attr-defined] # it has a `__dict__`
    return named


def _outputs(frame: CaptureFrame, arguments: Arguments, leaving: Leaving) -> tuple[Any, Note]:
    """What a program returns, and what that means."""
    departure, slots = leaving.departure, frame.written()
    outer = [unpack(slot.value) for slot in slots]
    written = [arguments.targets[number] for number in departure.written]
    is_simple = (
        departure.restructuring is None
        and departure.only_arrays
        and all(isinstance(target, State) for target in written)
        and all(isinstance(value, jax.Array) for value in (*leaving.written, *outer))
    )
    note = Note(departure, tuple(weakref.ref(frame.origin(slot.cell)) for slot in slots), is_simple)
    results = jax.tree.unflatten(departure.treedef, leaving.results) if departure.only_arrays else leaving.results
    return (results, leaving.written, leaving.fresh, outer), note


def static_keys(statics: Any) -> Iterator[StaticKey]:
    """The static arguments of a call, wherever they stand."""
    if isinstance(statics, StaticKey):
        yield statics
    elif isinstance(statics, tuple):
        for part in statics:
            yield from static_keys(part)


def as_seen(cell: Cell | None) -> Cell | None:
    """The Cell that `cell` is where the caller runs."""
    return cell if local.frame is None or cell is None else local.frame.copy_of(cell)


def _cell_of(source: Source) -> Cell:
    cell = source.cell() if source.setting is None else environ.lookup(source.setting)
    if not isinstance(cell, Cell):
        raise Gone
    return cell
