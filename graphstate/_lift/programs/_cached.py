"""Calling a traced program again: what is remembered of a function, and how a call finds it.

Three tables lead from a call to its program, each cheaper than the one below it:

- `_matches`, by serial numbers: the same objects, unchanged since, were passed before;
- `_entries`, by structure: equal graphs, equal static values and the same closure were passed before;
- the cache of `jax.jit`, by shapes and dtypes, inside of each entry.

So a warm call walks no attributes: it compares versions, reads values, calls the compiled program with flat
lists and writes back what was written.
"""

import functools
import itertools
import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

import jax

from graphstate import environ
from graphstate._compat import EVAL, current_trace, trace_state
from graphstate._lift.call._arguments import Arguments, Joint, Shape, function_name, make_shape
from graphstate._lift.call._boundary import arrive
from graphstate._lift.call._capture import read_source
from graphstate._lift.call._lane_stream import read_lazily
from graphstate._lift.call._lifted import Lifted, note_watch
from graphstate._lift.call._progress import close_failed
from graphstate._lift.watch._check import Check
from graphstate._lift.watch._watch import Watch
from graphstate._trace import Cell, commit, commit_arrays, entered, local, outer_value, pack, read_cells, unpack
from graphstate.errors import TraceContextError
from graphstate.graph._plan import Plan, plan_of
from graphstate.random import RandomState
from graphstate.random._stream import exclusive

from ._build import Options
from ._built import BuiltCall
from ._entry import Again, Entry, Gone, Note, Raced, Returned, RunEagerly, Uncompiled, as_seen, calling
from ._placing import Inputs, Placement, keep_placed

__all__ = ["CachedFunction"]

_tree_flatten: Final = jax.tree_util.default_registry.flatten
_LIMIT: Final = 1024
_RACES: Final = 100
_ATTEMPTS: Final = 100


class _Match:
    """Where a call with these very objects leads.

    Attributes:
        shape: what the arguments look like.
        joint: the graph that they make together.
        entries: the entries of this structure.
        entry: the one that was used last, of which `revision` was found to suit.
        check: all that must be as it was for that; None where a call has more to mind.
    """

    __slots__ = ("check", "entries", "entry", "joint", "key", "revision", "shape")

    def __init__(self, shape: Shape, joint: Joint, key: Hashable, entries: list[Entry]) -> None:
        self.shape = shape
        self.joint = joint
        self.key = key
        self.entries = entries
        self.entry: Entry | None = None
        self.revision = -1
        self.check: Check | None = None

    def settle(self, entry: Entry, watch: Watch) -> None:
        """Leads to `entry` as long as nothing changes."""
        self.entry, self.revision = entry, entry.revision
        self.check = Check.joined([each.check for each in (watch, *entry.watches)]) if entry.is_quick else None


class CachedFunction(Lifted):
    """A function that is traced into a program once for each structure, and run from then on."""

    transform = "jit"

    def __init__(self, function: Callable[..., Any], **jit_options: Any) -> None:
        super().__init__(function)
        self.jit_options = jit_options
        self._serials = itertools.count(1)
        self._flat_shapes: dict[tuple[type, ...], Shape] = {}
        self._shapes: dict[Hashable, Shape] = {}
        self._last_shape: Shape | None = None
        self._matches: dict[Hashable, _Match] = {}
        self._matched: Watch | None = None
        self._entries: dict[Hashable, list[Entry]] = {}

    # What subclasses change

    takes_static = False
    """Whether some arguments are static."""

    def take_static(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """Splits off the static arguments; hashable, and handed to `run_user` again."""
        return (), args, kwargs

    def build_options(self, statics: Any, shape: Shape) -> Options | None:
        """What is asked of the compiled programs; None where their compilation does not depend on what they write."""
        return None

    def placement(self, watch: Watch) -> Placement | None:
        """Says where the inputs of programs must lie; None where they are taken as they lie."""
        return None

    def run_user(self, statics: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the user's function while it is traced."""
        return self.function(*args, **kwargs)

    # A call

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the compiled function."""
        shape = None if kwargs else self._flat_shapes.get(tuple(map(type, args)))
        watch = self._watch
        if shape is None or watch is None or trace_state.value is not EVAL or (entered and local.frame is not None):
            return self._call(args, kwargs)
        plans = _plans(args, shape) if shape.spots else []
        match = self._matches.get(_token(shape, watch, (), plans))
        if match is None or (check := match.check) is None or (entry := match.entry) is None:
            return self._call(args, kwargs)
        if entry.revision != match.revision or not check.is_current():
            return self._call(args, kwargs)
        if entry.reads_settings and not entry.settings_hold():
            return self._call(args, kwargs)
        try:
            return _call(entry, match, args, plans)
        except (Again, Gone, Raced, RunEagerly):
            return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that may have to find out more."""
        statics: Any = ()
        if self.takes_static:
            statics, args, kwargs = self.take_static(args, kwargs)
        leaves, treedef = _tree_flatten((args, kwargs))
        shape = self._shape_of(leaves, treedef)
        if not kwargs and not self.takes_static and _are_same(leaves, args):
            self._flat_shapes[shape.types] = shape  # an argument of one of these types is one leaf
        token, match, watch, plans = self._find(statics, leaves, shape)
        try:
            if match is not None:
                return self._run(match, watch, statics, leaves, plans)
            match = self._match(watch, statics, leaves, shape, plans)
            result = self._run(match, watch, statics, leaves, plans)
            self._remember(token, match, watch)
            return result
        except RunEagerly:
            return self.run_user(statics, args, kwargs)

    def entries(self) -> list[list[Entry]]:
        """What is remembered of it."""
        return list(self._entries.values())

    def clear_cache(self) -> None:
        """Forgets every traced and compiled program of this function."""
        self._matches.clear()
        self._entries.clear()

    def staged(self, stage: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What `jax.jit(...).<stage>` gives for these arguments; nothing is run, no State changes."""
        statics: Any = ()
        if self.takes_static:
            statics, args, kwargs = self.take_static(args, kwargs)
        leaves, treedef = _tree_flatten((args, kwargs))
        shape = self._shape_of(leaves, treedef)
        token, match, watch, plans = self._find(statics, leaves, shape)
        match = match or self._match(watch, statics, leaves, shape, plans)
        while True:
            entry = self._entry_of(match, watch, statics, plans)
            values = _read(match.joint.leaves(plans))
            captured = [read_source(source, environ.depend_on) for source in entry.sources]
            arrays = [leaves[spot] for spot in match.shape.rest]
            inputs: Inputs = values, captured, arrays
            if entry.placement is not None and _is_eager():
                arguments = functools.partial(Arguments, leaves, match.shape, match.joint)
                inputs = entry.placement.place(arguments, entry.captured_cells(), *inputs)
            try:
                with calling.inside((leaves, match.shape, match.joint)):
                    result = entry.stage(stage, *inputs)
                self._remember(token, match, watch)
                return result
            except Again:
                continue

    # Finding the program

    def _shape_of(self, leaves: list[Any], treedef: Any) -> Shape:
        types = tuple(map(type, leaves))
        shape = self._last_shape
        if shape is None or types != shape.types or treedef != shape.treedef:
            shape = self._last_shape = self._shapes.get((treedef, types)) or self._new_shape(leaves, treedef, types)
        return shape

    def _find(self, statics: Any, leaves: Any, shape: Shape) -> tuple[Hashable, _Match | None, Watch, list[Plan]]:
        """Where a call leads: what it is remembered by, and what is remembered."""
        watch = self._watch
        if watch is None or not watch.is_current() or local.frame is not None:
            watch = self.watch()
            if watch is not self._matched:
                self._matches.clear()  # no call leads there any more
                self._matched = watch
        plans = _plans(leaves, shape)
        token = _token(shape, watch, statics, plans)
        return token, self._matches.get(token), watch, plans

    def _new_shape(self, leaves: list[Any], treedef: Any, types: tuple[type, ...]) -> Shape:
        shape = make_shape(next(self._serials), leaves, treedef, types, self.transform, self.function)
        self._shapes[treedef, types] = shape
        _shorten(self._shapes)
        return shape

    def _match(self, watch: Watch, statics: Any, leaves: Any, shape: Shape, plans: list[Plan]) -> _Match:
        joint = Joint([leaves[spot] for spot in shape.spots], plans) if plans else _NOTHING
        key = (shape.treedef, shape.spots, joint.graphdef, statics)
        return _Match(shape, joint, key, self._filed(key, watch.key))

    def _filed(self, key: Hashable, watch_key: Hashable) -> list[Entry]:
        entries = self._entries.get((key, watch_key))
        if entries is None:
            entries = self._entries[key, watch_key] = []
            _shorten(self._entries)
        return entries

    def _entry_of(self, match: _Match, watch: Watch, statics: Any, plans: list[Plan]) -> Entry:
        """The entry of this structure whose other dependencies hold now; a new one where there is none."""
        entry = match.entry
        if entry is not None and entry.revision == match.revision and entry.holds():
            return entry
        targets = match.joint.leaves(plans)
        for entry in match.entries:
            if entry.suits(targets) and entry.holds() and not entry.is_traced_here():
                break
        else:
            entry = Entry(self, watch, statics, match.shape, match.joint)
            match.entries.append(entry)
        match.settle(entry, watch)
        return entry

    # Running it

    def _remember(self, token: Hashable, match: _Match, watch: Watch) -> None:
        if watch.is_current():
            self._matches[token] = match
            _shorten(self._matches)
        elif match.entry is not None and match.entry.watch_key != watch.key:
            # The function has changed things itself: the program is filed under what remains, for the next call.
            self._filed(match.key, match.entry.watch_key).append(match.entry)

    def _run(self, match: _Match, watch: Watch, statics: Any, leaves: list[Any], plans: list[Plan]) -> Any:
        attempts = races = 0
        while True:
            entry = self._entry_of(match, watch, statics, plans)
            try:
                if _is_eager():
                    call = _call if entry.tailor is None else _call_built
                    return call(entry, match, leaves, plans)
                return _call_in_trace(entry, match, leaves, plans)
            except Again:
                attempts += 1
                if attempts == _ATTEMPTS:
                    raise _unsettled(self.function) from None
            except Raced as race:
                races += 1
                if races == _RACES:
                    raise race.error() from None
            except Gone:
                match.entries.remove(entry)
                match.entry = None


_NOTHING: Final = Joint((), ())


def _is_eager() -> bool:
    """Whether nothing is being traced."""
    return local.frame is None and current_trace() is EVAL


def _plans(leaves: Sequence[Any], shape: Shape) -> list[Plan]:
    """The current plans of the graph objects among the arguments."""
    plans = []
    for spot in shape.spots:
        root = leaves[spot]
        plan = getattr(root, "_graph_plan", None)
        plans.append(plan if plan is not None and plan.is_current(root) else plan_of(root))
    return plans


def _token(shape: Shape, watch: Watch, statics: Any, plans: list[Plan]) -> Hashable:
    """What a call is remembered by."""
    if not plans:
        return shape.serial, watch.serial, statics
    if len(plans) == 1:
        return shape.serial, watch.serial, statics, plans[0].serial
    return (shape.serial, watch.serial, statics, *[plan.serial for plan in plans])


def _call(entry: Entry, match: _Match, leaves: Sequence[Any], plans: list[Plan]) -> Any:
    """Runs a program where nothing is being traced."""
    targets = plans[0].leaves if len(plans) == 1 else match.joint.leaves(plans) if plans else []
    cells = entry.captured_cells() if entry.sources else []
    values = [] if not targets else read_cells(targets) if match.joint.only_states else _read(targets)
    captured = read_cells(cells) if cells else []
    there: Sequence[Any] = values
    held: Sequence[Any] = captured
    rest = match.shape.pick_rest(leaves)
    is_moved = False
    if entry.placement is not None:
        arguments = functools.partial(Arguments, leaves, match.shape, match.joint)
        there, held, rest = entry.placement.place(arguments, cells, values, captured, rest)
        is_moved = there is not values or held is not captured
    calling.arguments = (leaves, match.shape, match.joint)
    try:
        returned = entry.compiled(there, held, *rest)
    except (jax.errors.JaxRuntimeError, KeyboardInterrupt):
        close_failed()
        raise
    finally:
        calling.arguments = None  # no call around it needs them any more: nothing is being traced
    if entry.revision != match.revision:
        _check_again(entry, match, targets)
    if entry.draws or is_moved:
        # Another thread, or a callback, may have drawn meanwhile: then nothing is written, and the program runs again.
        with exclusive():
            if entry.draws:
                _check_streams(targets, values)
                _check_streams(cells, captured)
            if is_moved:
                keep_placed([*targets, *cells], [*values, *captured], [*there, *held])
            return _write_back(*entry.understand(returned), entry, match, leaves, targets, cells)
    note = entry.note
    if note is None or type(returned) is Returned:
        return _write_back(*entry.understand(returned), entry, match, leaves, targets, cells)
    return returned if note.is_pure else _write_back(note, returned, entry, match, leaves, targets, cells)


def _write_back(
    note: Note,
    outputs: Any,
    entry: Entry,
    match: _Match,
    leaves: Sequence[Any],
    targets: Sequence[Any],
    cells: list[Any],
) -> Any:
    """Writes what a program has written, where nothing is being traced; returns the result."""
    results, written, fresh, outer = outputs
    closed = entry.written_cells(note, cells) if outer else ()
    if not note.is_simple or (closed and note.pick_captured is None and None in closed):
        arguments = Arguments(leaves, match.shape, match.joint)
        return _finish(note, arguments, closed, results, written, fresh, outer)
    if written:
        commit_arrays(note.pick_written(targets), written)
    if closed:
        commit_arrays(closed, outer)
    return results


def _call_built(entry: Entry, match: _Match, leaves: list[Any], plans: list[Plan]) -> Any:
    """As `_call`, for programs that are built in their own way, and may be given buffers for good.

    Such a program cannot run again if somebody else has drawn from its streams meanwhile, so nobody may: the lock is
    held while it is started, but never while it is compiled.
    """
    targets = match.joint.leaves(plans)
    cells = entry.captured_cells() if entry.sources else []
    arrays = [leaves[spot] for spot in match.shape.rest]
    read = read_cells if match.joint.only_states else _read

    def finish(note: Note, outputs: Any) -> Any:
        return _write_back(note, outputs, entry, match, leaves, targets, cells)

    with calling.inside((leaves, match.shape, match.joint)):
        arguments = functools.partial(Arguments, leaves, match.shape, match.joint)
        build = entry.find_build(lambda: read(targets), arrays)
        call = BuiltCall(entry, build, targets, cells, arrays, arguments)
        if not call.build.draws:
            return call.run(read, finish)
        calling.must_be_compiled = True
        try:
            with exclusive():
                return call.run(read, finish)
        except Uncompiled:
            calling.must_be_compiled = False
        call.compile(read)
        with exclusive():
            return call.run(read, finish)


def _unsettled(function: Any) -> TraceContextError:
    return TraceContextError(
        f"`{function_name(function)}` was traced {_ATTEMPTS} times in one call, and each time what it depends on "
        "had changed meanwhile: something that it refers to is replaced at each look. Pass that as an argument. "
        "Nothing was changed."
    )


def _are_same(now: list[Any], before: tuple[Any, ...]) -> bool:
    return len(now) == len(before) and all(map(operator.is_, now, before))


def _check_streams(cells: Sequence[Any], values: list[Any]) -> None:
    for cell, value in zip(cells, values, strict=True):
        if isinstance(cell, RandomState) and unpack(outer_value(cell)) is not value:
            raise Raced(cell)


def _check_again(entry: Entry, match: _Match, targets: Sequence[Any]) -> None:
    """After a call during which more was found out, maybe by another thread: does the program still suit this call?"""
    if not entry.suits(targets) or not entry.holds():
        match.entry = None
        raise Again


def _call_in_trace(entry: Entry, match: _Match, leaves: list[Any], plans: list[Plan]) -> Any:
    """Runs a program inside of another trace."""
    _pass_on(entry)
    read = [read_lazily(outer_value(leaf) if isinstance(leaf, Cell) else leaf) for leaf in match.joint.leaves(plans)]
    values = [value for value, _ in read]
    captured = [read_source(source, environ.depend_on) for source in entry.sources]
    with calling.inside((leaves, match.shape, match.joint)):
        note, outputs = entry.run_inside(values, captured, [leaves[spot] for spot in match.shape.rest])
    _pass_on(entry)  # again: what the call has read while it was traced is known now
    results, written, fresh, outer = outputs
    for number, (_, stream) in enumerate(read):
        if stream is not None and number not in note.unread:
            stream.checked()
    closed = [as_seen(ref()) for ref in note.captured]
    return _finish(note, Arguments(leaves, match.shape, match.joint), closed, results, written, fresh, outer)


def _finish(
    note: Note, arguments: Arguments, closed: Sequence[Any], results: Any, written: Any, fresh: Any, outer: Any
) -> Any:
    commit([(cell, pack(value)) for cell, value in zip(closed, outer, strict=True) if cell is not None])
    if note.departure.only_arrays:
        arrive(note.departure, arguments, jax.tree.leaves(results), written, fresh)
        return results
    return arrive(note.departure, arguments, results, written, fresh)


def _read(leaves: Sequence[Any]) -> list[Any]:
    return [unpack(outer_value(leaf)) if isinstance(leaf, Cell) else leaf for leaf in leaves]


def _pass_on(entry: Entry) -> None:
    """What the entry depends on, the programs around it depend on too."""
    for name in (*entry.settings, *entry.array_settings):
        environ.depend_on(name)
    if local.frame is not None:
        for watch in entry.watches:
            note_watch(local.frame, watch)


def _shorten(table: dict[Any, Any]) -> None:
    while len(table) > _LIMIT:
        del table[next(iter(table))]
