"""Calling a traced program again: what is remembered of a function, and how a call finds it.

Three tables lead from a call to its program, each cheaper than the one below it:

- `_matches`, by serial numbers: the same objects, unchanged since, were passed before;
- `_entries`, by structure: equal graphs, equal closures, equal static values were passed before;
- the cache of `jax.jit`, by shapes and dtypes, inside of each entry.

So a warm call walks no attributes: it compares versions, reads values, calls the compiled program with flat
lists and writes back what was written.
"""

import itertools
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

import jax

from graphstate import environ
from graphstate._compat import EVAL, ArrayImpl, current_trace
from graphstate._trace import Cell, commit, current_frame, local, outer_value, pack, unpack
from graphstate.graph._graphdef import GraphDef
from graphstate.graph._heads import StaticKey
from graphstate.graph._state import State

from ._arguments import Arguments, Joint, Shape, make_shape, target_names
from ._boundary import Departure, arrive, enter, leave
from ._capture import CaptureFrame, Program, Source, read_source, trace_program
from ._lifted import Lifted, note_watch
from ._plan import Plan, plan_of
from ._watch import Watch

__all__ = ["CachedFunction"]

_tree_flatten: Final = jax.tree_util.tree_flatten
_LIMIT: Final = 1024


class _Returned:
    """What a compiled program returns: it comes back as the pair of its note and its values."""


jax.tree_util.register_pytree_node(_Returned, lambda returned: (returned.values, returned.note), lambda note, values: (note, values))


class _Note:
    """The static half of what a program returns.

    Attributes:
        departure: what comes out of the arguments' graph.
        captured: which captured States were written, as indices into the sources of the entry.
        plain: whether every written value is one array.
    """

    __slots__ = ("captured", "departure", "plain", "simple")

    def __init__(self, departure: Departure, captured: tuple[weakref.ref[Cell], ...], plain: bool) -> None:
        self.departure = departure
        self.captured = captured
        self.plain = plain
        self.simple = plain and departure.restructuring is None and departure.only_arrays


class _Retry(Exception):  # noqa: N818, not an error: the call starts again
    """More inputs were found while tracing; the call is made again with them."""


class _Changed(Exception):  # noqa: N818, not an error: the call starts again
    """A captured State is gone; the program is traced anew."""


class _Calling(threading.local):
    """The call that this thread is making, for the tracing that it may lead to."""

    arguments: "Callable[[], Arguments] | None" = None


_calling: Final = _Calling()


class _Entry:
    """The programs of one function for one structure of its arguments and closure, of all shapes and dtypes."""

    def __init__(self, owner: "CachedFunction", watch: Watch, statics: tuple[Any, ...]) -> None:
        self.owner = owner
        self.statics = statics
        self.watched = frozenset(watch.functions)
        self.sources: tuple[Source, ...] = ()
        self.settings: dict[str, StaticKey] = {}
        self.array_settings: frozenset[str] = frozenset()
        self.watches: list[Watch] = []
        self.alias_reads: dict[int, weakref.ref[Cell]] = {}
        self._index: dict[object, int] = {}
        self._lock = threading.Lock()
        self._pending: dict[Hashable, Program] = {}
        self._stamp: object = None
        self.compiled = jax.jit(self._trace, **owner.jit_options)

    # What the programs depend on

    def holds(self) -> bool:
        """Whether every setting that was read is as it was, and nothing else that was met has changed."""
        stamp = environ.stamp()
        if stamp != self._stamp:
            if not self._settings_hold():
                return False
            self._stamp = stamp
        return all(watch.is_current() for watch in self.watches)

    def _settings_hold(self) -> bool:
        for name, key in self.settings.items():
            value = environ.lookup(name)
            if isinstance(value, Cell) or StaticKey(value) != key:
                return False
        return all(isinstance(environ.lookup(name), Cell) for name in self.array_settings)

    def suits(self, targets: Sequence[Any]) -> bool:
        """Whether arguments and captured States are the same objects in the same places as when it was traced."""
        numbers = {id(target): number for number, target in enumerate(targets)}
        if any(id(source.cell()) in numbers for source in self.sources if source.setting is None):
            return False
        return all(number < len(targets) and ref() is targets[number] for number, ref in self.alias_reads.items())

    # Tracing

    def _trace(self, values: list[Any], captured: list[Any], arrays: list[Any]) -> Any:
        """What `jax.jit` traces: the program of the user's function, for these types."""
        key = (threading.get_ident(), tuple(map(jax.typeof, jax.tree.leaves((values, arrays)))))
        program = self._pending.pop(key, None)
        if program is None:
            program = self._capture(values, arrays)
        missing = [source for source in program.sources if self._index.get(source.key, len(captured)) >= len(captured)]
        if missing:
            self._add_sources(missing)
            self._pending[key] = program
            raise _Retry
        inputs = [captured[self._index[source.key]] for source in program.sources]
        returned = _Returned()
        returned.note = program.note
        returned.values = program.run((values, arrays), inputs)
        return returned

    def _add_sources(self, missing: list[Source]) -> None:
        with self._lock:
            for source in missing:
                if source.key not in self._index:
                    self._index[source.key] = len(self.sources)
                    self.sources = (*self.sources, source)

    def _capture(self, values: list[Any], arrays: list[Any]) -> Program:
        assert _calling.arguments is not None
        arguments, owner = _calling.arguments(), self.owner
        frame = CaptureFrame()
        watch = owner.watch()
        found = []

        def body(values: list[Any], arrays: list[Any]) -> tuple[Any, _Note]:
            inside, args, kwargs = enter(frame, arguments, values, arrays)
            frame.find_name = lambda cell: _name_of(cell, inside, arguments, owner, watch)
            with watch.guarded():
                result = owner.run_user(self.statics, args, kwargs)
            leaving = leave(frame, inside, result, owner.transform)
            written = frame.written()
            outer = [unpack(slot.value) for slot in written]
            found.append({number: weakref.ref(target) for number, target in enumerate(arguments.targets) if id(target) in frame.alias_reads})
            plain = all(map(_is_array, [*leaving.written, *outer]))
            note = _Note(leaving.departure, tuple(weakref.ref(slot.cell) for slot in written), plain)
            results = jax.tree.unflatten(leaving.departure.treedef, leaving.results) if leaving.departure.only_arrays else leaving.results
            return (results, leaving.written, leaving.fresh, outer), note

        program = trace_program(frame, body, values, arrays)
        self._remember(frame, watch, found[0])
        return program

    def _remember(self, frame: CaptureFrame, watch: Watch, alias_reads: dict[int, weakref.ref[Cell]]) -> None:
        """Keeps what the traced program depends on."""
        self.settings.update((name, StaticKey(value)) for name, value in frame.settings.items())
        self.array_settings |= frozenset(frame.setting_cells.values())
        self.watches += [each for each in frame.watches if each is not watch and not self.watched.issuperset(each.functions)]
        self.alias_reads.update(alias_reads)


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array)


def _name_of(cell: Any, inside: Any, arguments: Arguments, owner: Lifted, watch: Watch) -> str | None:
    for number, place in enumerate(inside.graphdef.leaves if inside.roots else ()):
        if inside.objects[place] is cell or arguments.targets[number] is cell:
            return target_names(arguments, owner.function)[number]
    return watch.name_of(cell)


class _Match:
    """Where a call with these very objects leads."""

    __slots__ = ("candidates", "entry", "joint", "shape")

    def __init__(self, shape: Shape, joint: Joint, candidates: list[_Entry], entry: _Entry) -> None:
        self.shape = shape
        self.joint = joint
        self.candidates = candidates
        self.entry = entry


class CachedFunction(Lifted):
    """A function that is traced into a program once for each structure, and run from then on."""

    transform = "jit"

    def __init__(self, function: Callable[..., Any], **jit_options: Any) -> None:
        super().__init__(function)
        self.jit_options = jit_options
        self._serials = itertools.count(1)
        self._shapes: dict[Hashable, Shape] = {}
        self._matches: dict[Hashable, _Match] = {}
        self._entries: dict[Hashable, list[_Entry]] = {}

    # What subclasses change

    def take_static(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """Splits off the static arguments; hashable, and handed to `run_user` again."""
        return (), args, kwargs

    def run_user(self, statics: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the user's function while it is traced."""
        return self.function(*args, **kwargs)

    # A call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the compiled function."""
        statics, args, kwargs = self.take_static(args, kwargs)
        leaves, treedef = _tree_flatten((args, kwargs))
        shape = self._shape(leaves, treedef)
        watch = self.watch()
        plans = [plan_of(leaves[spot]) for spot in shape.spots]
        token = (shape.serial, watch.serial, statics, *[plan.serial for plan in plans])
        match = self._matches.get(token)
        if match is None:
            return self._first_run(token, self._match(shape, watch, statics, leaves, plans), watch, statics, leaves, plans)
        return self._run(match, watch, statics, leaves, plans)

    def _shape(self, leaves: list[Any], treedef: Any) -> Shape:
        key = (treedef, *map(type, leaves))
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = make_shape(next(self._serials), leaves, treedef, self.transform, self.function)
        return shape

    def _match(self, shape: Shape, watch: Watch, statics: Any, leaves: list[Any], plans: list[Plan]) -> _Match:
        joint = Joint([leaves[spot] for spot in shape.spots], plans) if plans else _NOTHING
        key = (shape.treedef, shape.spots, joint.graphdef, watch.key, statics)
        targets = joint.leaves(plans) if plans else []
        everything = self._filed(key)
        suitable = [entry for entry in everything if entry.suits(targets)]
        if not suitable:
            suitable = [_Entry(self, watch, statics)]
            everything += suitable
        return _Match(shape, joint, suitable, suitable[0])

    def _filed(self, key: Hashable) -> list[_Entry]:
        entries = self._entries.get(key)
        if entries is None:
            entries = self._entries[key] = []
            _shorten(self._entries)
        return entries

    def _first_run(
        self, token: Hashable, match: _Match, watch: Watch, statics: Any, leaves: list[Any], plans: list[Plan]
    ) -> Any:
        """Runs a call that was not made with these objects before, and remembers where it led."""
        result = self._run(match, watch, statics, leaves, plans)
        if watch.is_current():
            self._matches[token] = match
            _shorten(self._matches)
        elif watch.forgive(self.changed_by_itself):
            # What the function itself changes while it is traced (a counter, a list that it appends to) is no
            # dependency: the program is filed under what remains, and found there by the next call.
            self._filed((match.shape.treedef, match.shape.spots, match.joint.graphdef, self.watch().key, statics)).append(match.entry)
        return result

    def _run(self, match: _Match, watch: Watch, statics: Any, leaves: list[Any], plans: list[Plan]) -> Any:
        while True:
            entry = self._current(match, watch, statics)
            try:
                return self._call(entry, match, leaves, plans)
            except _Retry:
                continue
            except _Changed:
                match.candidates.remove(entry)

    def _current(self, match: _Match, watch: Watch, statics: Any) -> _Entry:
        """The entry whose other dependencies hold now; a new one where there is none."""
        entry = match.entry
        if entry.holds():
            return entry
        for entry in match.candidates:
            if entry.holds():
                match.entry = entry
                return entry
        entry = match.entry = _Entry(self, watch, statics)
        match.candidates.append(entry)
        return entry

    def _call(self, entry: _Entry, match: _Match, leaves: list[Any], plans: list[Plan]) -> Any:
        targets = match.joint.leaves(plans) if plans else []
        arrays = [leaves[spot] for spot in match.shape.rest]
        frame = local.frame
        outside = frame is None and current_trace() is EVAL
        if outside:
            values, captured = _read_quickly(targets, entry.sources)
        else:
            values = [unpack(outer_value(leaf)) if isinstance(leaf, State) else leaf for leaf in targets]
            captured = [read_source(source, environ.lookup) for source in entry.sources]
        _calling.arguments = lambda: Arguments(leaves, match.shape, match.joint)
        try:
            note, (results, written, fresh, outer) = entry.compiled(values, captured, arrays)
        finally:
            _calling.arguments = None
        if frame is not None:
            _pass_on(entry, frame)
        if note.simple and outside:
            _write_quickly(targets, note, written, outer)
            return results
        return self._finish(note, Arguments(leaves, match.shape, match.joint), results, written, fresh, outer)

    def _finish(self, note: _Note, arguments: Arguments, results: Any, written: Any, fresh: Any, outer: Any) -> Any:
        cells = [ref() for ref in note.captured]
        commit([(cell, pack(value)) for cell, value in zip(cells, outer, strict=True) if cell is not None])
        if note.departure.only_arrays:
            arrive(note.departure, arguments, jax.tree.leaves(results), written, fresh)
            return results
        return arrive(note.departure, arguments, results, written, fresh)


_NOTHING: Final = Joint((), ())


def _read_quickly(targets: list[Any], sources: tuple[Source, ...]) -> tuple[list[Any], list[Any]]:
    """The values of targets and sources where nothing is being traced."""
    try:
        values = [target._value for target in targets]
    except AttributeError:
        values = [unpack(outer_value(leaf)) if isinstance(leaf, State) else leaf for leaf in targets]
    captured = []
    for source in sources:
        cell = source.cell() if source.setting is None else environ.lookup(source.setting)
        if cell is None:
            raise _Changed
        try:
            captured.append(cell._value)
        except AttributeError:
            captured.append(unpack(outer_value(cell)))
    return values, captured


def _write_quickly(targets: list[Any], note: _Note, written: list[Any], outer: list[Any]) -> None:
    """Writes back arrays where nothing is being traced."""
    cells = [targets[number] for number in note.departure.written]
    values = written
    if note.captured:
        alive = [(cell, value) for ref, value in zip(note.captured, outer, strict=True) if (cell := ref()) is not None]
        cells = cells + [cell for cell, _ in alive]
        values = written + [value for _, value in alive]
    if all(type(value) is ArrayImpl and cell._home is None for cell, value in zip(cells, values, strict=True)):
        for cell, value in zip(cells, values, strict=True):
            cell._value = value
        return
    commit(zip(cells, map(pack, values), strict=True))


def _pass_on(entry: _Entry, frame: Any) -> None:
    """What the entry depends on, the programs around it depend on too."""
    for name in entry.settings:
        frame.note_setting(name, environ.lookup(name))
    for name in entry.array_settings:
        frame.note_setting_cell(name, environ.lookup(name))
    for watch in entry.watches:
        note_watch(frame, watch)


def _shorten(table: dict[Hashable, Any]) -> None:
    while len(table) > _LIMIT:
        del table[next(iter(table))]


_ = GraphDef, current_frame
