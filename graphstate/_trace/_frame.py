"""The stack of frames of a thread; each belongs to one trace in progress."""

import itertools
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

from graphstate._compat import EVAL, Trace, current_trace, enclosing_traces, is_caching, trace_token
from graphstate.errors import StaleReadWarning, TraceContextError

from ._place import user_stacklevel
from ._value import MISSING, check_in_place, copied, is_traced, unpack


def _no_name(_: Any) -> str | None:
    return None


class Home:
    """The trace that a State or Node was born in, held weakly: it must not outlive its program."""

    __slots__ = ("_trace",)

    def __init__(self, trace: Trace) -> None:
        self._trace = weakref.ref(trace)

    def trace(self) -> Trace | None:
        """The trace, or None where it is gone."""
        return self._trace()


class Slot:
    """The value of one Cell as a frame sees it: as it came in, and as it is now."""

    __slots__ = ("cell", "initial", "value")

    def __init__(self, cell: Any, initial: Any, value: Any) -> None:
        self.cell = cell
        self.initial = initial
        self.value = value


class _Local(threading.local):
    """What this thread is tracing.

    `foreign` holds the homes of traces that plain JAX began; `latched` is set once a State was read by a
    program that plain JAX caches: from then on every compiled trace gets a token of its own.
    """

    frame: "Frame | None" = None

    def __init__(self) -> None:
        self.foreign: weakref.WeakKeyDictionary[Trace, Home] = weakref.WeakKeyDictionary()


class _Latch:
    """Whether any program cached by plain JAX has read a State in this process."""

    closed = False


local: Final = _Local()
entered: Final[set[int]] = set()
"""The ids of all frames that any thread is in: while there is none, no thread needs to look for its own."""

_latch: Final = _Latch()
_tokens: Final = itertools.count(1)
_COMMON_TOKEN: Final = 0


def current_frame() -> "Frame | None":
    """The innermost frame of this thread."""
    return local.frame


def current_home() -> Home | None:
    """The home of what is created now; None where nothing is being traced."""
    trace = current_trace()
    if trace is EVAL:
        return None
    frame = local.frame
    if frame is not None and frame.trace is trace:
        return frame.home
    return birthplace(trace)


def birthplace(trace: Trace) -> Home:
    """The home of what plain JAX creates in `trace`."""
    home = local.foreign.get(trace)
    if home is None:
        home = local.foreign[trace] = Home(trace)
    return home


class Frame:
    """One trace in progress: what States are worth in it.

    A transform makes its frame before it calls JAX and enters it inside of the function that JAX traces.
    Subclasses say in `admit` what the value of an outer State becomes inside.

    Attributes:
        parent: the frame around this one.
        outer: the trace in which the transform was called.
        trace: the trace that this frame belongs to, while it is entered.
        home: the home of what is created in this frame.
        slots: the outer Cells that were read or written, by id.
        aliases: an outer Cell that came in as an argument, by id, and its copy inside.
        origins: the other way round: a copy inside, by id, and the outer Cell.
        settings: what was read from `environ`, by name.
        setting_cells: the names of the settings whose values are arrays, by the id of their Cell.
        alias_reads: the ids of the outer Cells that were reached through their copy.
        watches: what the functions that were called in it depend on.
        find_name: how messages call a State or Node that was found in arguments and closures.
        foreign_reads: the ids of the Cells that a program cached by plain JAX has read since the token was renewed.
        compiled: whether the operations recorded here end up in a compiled program.
    """

    builds_program = False

    def __init__(self) -> None:
        self.parent = local.frame
        self.outer = current_trace()
        self.trace: Trace | None = None
        self.home: Home | None = None
        self.slots: dict[int, Slot] = {}
        self.aliases: dict[int, Any] = {}
        self.origins: dict[int, Any] = {}
        self.settings: dict[str, Any] = {}
        self.setting_cells: dict[int, str] = {}
        self.find_name: Callable[[Any], str | None] = _no_name
        self.alias_reads: set[int] = set()
        self.watches: list[Any] = []
        self.compiled: bool = self.builds_program or (self.parent is not None and self.parent.compiled)
        self.foreign_reads: set[int] = set()
        self._handed_on = False
        self._tokens = ExitStack()

    # Life

    def __enter__(self) -> "Frame":
        self.trace = current_trace()
        self.home = Home(self.trace)
        entered.add(id(self))
        local.frame = self
        if self.compiled:
            self._enter_token()
        return self

    def __exit__(self, *_: object) -> None:
        local.frame = self.parent
        entered.discard(id(self))
        self._tokens.close()
        if self._handed_on and self.parent is not None and self.parent.compiled:
            # What this frame handed to a cached program must not be found there by the frame around it.
            self.parent.renew_token()
        self.trace = None
        self.slots = {}
        self.aliases = {}
        self.origins = {}
        self.find_name = _no_name

    def _enter_token(self) -> None:
        """Parts what plain JAX caches while this frame is entered from what it caches elsewhere.

        As long as no such program has read a State, one token for all frames will do: what JAX has traced of its own
        functions is found again, and the programs of the caller outside of graphstate are kept apart.
        """
        if _latch.closed:
            self.renew_token()
        elif self.parent is None or not self.parent.compiled:
            self._tokens.enter_context(trace_token(_COMMON_TOKEN))

    def renew_token(self) -> None:
        self.foreign_reads.clear()
        self._tokens.enter_context(trace_token(next(_tokens)))

    # Reading and writing

    def admit(self, cell: Any, outer: Any) -> Any:
        """What the packed value `outer` of an outer Cell becomes inside; recorded in `self.trace`."""
        return copied(outer)

    def lane_axis(self, cell: Any) -> Any:
        """The axis at which an outer Cell is mapped in this frame, where it is."""
        return None

    def canonical(self, cell: Any) -> Any:
        """The Cell that `cell` is in this frame: its copy, if it came in as an argument here or further out."""
        if self.parent is not None:
            cell = self.parent.canonical(cell)
        alias = self.aliases.get(id(cell))
        if alias is None:
            return cell
        self.alias_reads.add(id(cell))
        return alias

    def copy_of(self, cell: Any) -> Any:
        """As `canonical`, for a Cell that stands for its copy: nobody has reached it through a closure."""
        if self.parent is not None:
            cell = self.parent.copy_of(cell)
        return self.aliases.get(id(cell), cell)

    def origin(self, cell: Any) -> Any:
        """The Cell that `cell` is a copy of: the one that lives on when this frame and those around it have ended."""
        cell = self.origins.get(id(cell), cell)
        return cell if self.parent is None else self.parent.origin(cell)

    def read(self, cell: Any) -> Any:
        """The packed value of `cell`, for code that runs in the current trace."""
        trace = current_trace()
        value = self.lookup(cell)
        if trace is not self.trace:
            self.note_foreign_read(cell, trace, value)
        return value

    def lookup(self, cell: Any) -> Any:
        """The packed value of `cell` as this frame sees it."""
        if cell._home is not self.home:
            cell = self.canonical(cell)
        home = cell._home
        if home is self.home:
            return cell._held
        slot = self.slots.get(id(cell))
        if slot is not None:
            return slot.value
        if home is not None and self._surrounds(cell, home):
            return cell._held
        value = self.admit(cell, self.outer_lookup(cell))
        self.slots[id(cell)] = Slot(cell, value, value)
        return value

    def outer_lookup(self, cell: Any) -> Any:
        """The packed value of `cell` where the transform was called."""
        if self.parent is None:
            return base_lookup(cell, self.outer)
        value = self.parent.lookup(cell)
        if self.outer is not self.parent.trace:
            self.parent.note_foreign_read(cell, self.outer, value)
        return value

    def write(self, cell: Any, value: Any) -> None:
        """Makes the packed `value` that of `cell` in this frame."""
        trace = current_trace()
        if cell._home is not self.home:
            cell = self.canonical(cell)
        home = cell._home
        if trace is not self.trace:
            write_foreign(cell, value, trace)
        elif home is self.home:
            cell._held = value
            self._part_from_cached(cell)
        elif home is not None and home.trace() is None:
            cell._home, cell._held = self.home, value
        else:
            self._write_slot(cell, value)

    def _write_slot(self, cell: Any, value: Any) -> None:
        slot = self.slots.get(id(cell))
        if slot is None:
            self.slots[id(cell)] = Slot(cell, MISSING, value)
        else:
            slot.value = value
        self._part_from_cached(cell)

    def _part_from_cached(self, cell: Any) -> None:
        """After a write, what plain JAX has cached with the value before must not be found."""
        if id(cell) in self.foreign_reads:
            self.renew_token()

    def written(self) -> list[Slot]:
        """The slots whose values were replaced; a container that was changed in place raises."""
        for slot in self.slots.values():
            check_in_place(slot.value)
        return [slot for slot in self.slots.values() if slot.value is not slot.initial]

    def _surrounds(self, cell: Any, home: Home) -> bool:
        trace = home.trace()
        if trace is None:
            raise outlived(cell)
        return any(each is self.trace for each in enclosing_traces(trace))

    # Programs that plain JAX caches

    def note_foreign_read(self, cell: Any, trace: Trace, value: Any) -> None:
        """`cell` was read in `trace`, which plain JAX began inside of this frame."""
        home = getattr(cell, "_home", None)
        if not self._is_cached_between(trace, None if home is None else home.trace()):
            return
        _latch.closed = True
        if self.compiled:
            frame: Frame | None = self
            while frame is not None:
                frame.foreign_reads |= {id(cell), id(frame.aliases.get(id(cell), cell))}
                frame._handed_on = True
                frame = frame.parent
        elif is_traced(unpack(value)):
            raise TraceContextError(
                f"A program that plain JAX caches (`jax.jit`, `jax.lax.scan`, ...) read {describe(cell)} inside of an "
                "eager graphstate transform, where its value belongs to the trace: the next call would find it in "
                "the cache. Use the transform of the same name from graphstate inside, or wrap the whole call in "
                "`graphstate.jit`."
            )
        else:
            warn_stale(cell)

    def _is_cached_between(self, trace: Trace, home: Trace | None) -> bool:
        """Whether plain JAX caches a program that is traced in `trace`, but inside of this frame and of `home`."""
        for each in enclosing_traces(trace):
            if each is self.trace or each is home:
                return False
            if is_caching(each):
                return True
        return False


def base_lookup(cell: Any, trace: Trace) -> Any:
    """The packed value of `cell` for code that runs in `trace`, around which there is no frame."""
    home = cell._home
    if home is not None:
        if not any(each is home.trace() for each in enclosing_traces(trace)):
            raise outlived(cell)
        return cell._held
    if trace is not EVAL and any(map(is_caching, enclosing_traces(trace))):
        _latch.closed = True
        warn_stale(cell)
    return base_cell_value(cell)


def base_cell_value(cell: Any) -> Any:
    """The packed value that `cell` itself has."""
    try:
        return cell._value
    except AttributeError:
        return cell._held


def write_foreign(cell: Any, value: Any, trace: Trace) -> None:
    """Writes `cell` in a trace that plain JAX began: only where the Cell was born there."""
    check_foreign(cell, trace)
    cell._held = value


def check_foreign(cell: Any, trace: Trace) -> None:
    """Refuses to write a Cell in a trace that plain JAX began, unless it was born there."""
    home = cell._home
    if home is not None and home.trace() is trace:
        return
    raise TraceContextError(
        f"{describe(cell)} was written inside of a transform of plain JAX, which would lose the value or leak a "
        "tracer. Use the transform of the same name from graphstate (`graphstate.jit`, `graphstate.vmap`, "
        "`graphstate.scan`, ...), or pass values in and out with `graphstate.split` and `graphstate.merge`. Nothing "
        "was changed."
    )


def describe(cell: Any) -> str:
    """How messages call `cell`: by its path, if it was found by one, and by what and where it is."""
    name = name_in_frames(cell)
    return f"a {kind_and_place(cell)}" if name is None else f"`{name}` ({kind_and_place(cell)})"


def name_in_frames(item: Any) -> str | None:
    """The path of a State or Node, as the innermost frame that knows it calls it."""
    frame = local.frame
    while frame is not None:
        name = frame.find_name(item)
        if name is not None:
            return name
        frame = frame.parent
    return None


def kind_and_place(cell: Any) -> str:
    """What a Cell is and where it was created."""
    place = cell._place
    return type(cell).__name__ + (f", created at {place}" if place is not None else "")


def outlived(cell: Any) -> TraceContextError:
    """The error for a State that is read after the trace that it was written in."""
    return TraceContextError(
        f"{describe(cell)} was read after the trace that it was created in had ended; its value is gone. "
        "Return the State (or its Node) from the transformed function, or write a concrete value to it first."
    )


def warn_stale(cell: Any) -> None:
    """Warns that a program that plain JAX caches has read `cell`."""
    warnings.warn(
        f"Plain JAX (`jax.jit`, `jax.lax.scan`, ...) is tracing a program that it will cache, and {describe(cell)} "
        "was read in it: its present value becomes a constant of that program, and later writes are not seen. Use "
        "`graphstate.jit` (or `graphstate.scan`, `graphstate.cond`, ...) instead.",
        StaleReadWarning,
        stacklevel=user_stacklevel(),
    )
