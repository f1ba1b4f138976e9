"""`assert_max_traces`: a limit on how often a function is traced, with the reason when it is exceeded."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import jax

from graphstate import environ
from graphstate._compat import EVAL, current_trace
from graphstate._lift.call._arguments import argument_names, function_name, is_array_like
from graphstate._lift.call._lifted import Lifted, Wrapping
from graphstate._lift.derivatives._rules import is_of_rules
from graphstate._lift.watch._watch import Watch
from graphstate._trace import Cell, peek
from graphstate.errors import StateTypeError, TraceCountError, some_of
from graphstate.graph import GraphDef, diff
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._flatten import flatten
from graphstate.graph._path import shorten_path
from graphstate.graph._state import State
from graphstate.graph._summary import clip

__all__ = ["CountedFunction", "assert_max_traces"]


class _Trace(NamedTuple):
    """What a trace was made for: structures and types, no arrays.

    Attributes:
        graphs: the structure of each Node, by how messages call it.
        types: the type of each array and State, and each static value, as text.
        watch: what the function refers to; None for a method of a copy in the trace, which ends with that.
        settings: the settings of `environ`, as text.
    """

    graphs: dict[str, GraphDef]
    types: dict[str, str]
    watch: Watch | None
    settings: dict[str, str]


class _Count:
    """How often a function was traced, in all copies of the Node that has it.

    Attributes:
        number: how often.
        last: what for, the last time.
        lock: held while it is counted.
    """

    def __init__(self) -> None:
        self.number = 0
        self.last: _Trace | None = None
        self.lock = threading.Lock()


class CountedFunction(Lifted):
    """What `assert_max_traces` returns.

    Args:
        function: the user's function.
        limit: how often it may be traced.
    """

    transform = "assert_max_traces"

    def __init__(self, function: Callable[..., Any], limit: int) -> None:
        super().__init__(function)
        self._limit = limit
        self._count = self._graph_wrapping.shared = _Count()

    @property
    def count(self) -> int:
        """How often it was traced."""
        return self._count.number

    def adopt(self, wrapping: Wrapping) -> None:
        """Counts together with what it is a copy of."""
        super().adopt(wrapping)
        self._count = wrapping.shared or self._count

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the function; counts the call if a trace is in progress."""
        if current_trace() is not EVAL:
            self._note(args, kwargs)
        return self.function(*args, **kwargs)

    def _note(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        trace = self._trace(args, kwargs)
        count = self._count
        with count.lock:
            last, is_allowed = count.last, count.number < self._limit
            if is_allowed:
                count.number, count.last = count.number + 1, trace
        if is_allowed:
            return
        differences = list(_differences(last, trace)) if last is not None else []
        name, allowed = function_name(self.function), _times(self._limit)
        if last is None:
            raise TraceCountError(f"`{name}` must not be traced, but it is. Call it outside of every transform.")
        if differences:
            raise TraceCountError(
                f"`{name}` may be traced {allowed}, but it is traced again. Since the trace before this has changed:\n"
                f"{some_of(differences)}\n"
                "Keep it the same from call to call, make it an array, or allow more traces.",
                differences,
            )
        raise TraceCountError(
            f"`{name}` may be traced {allowed}, but it is traced again, and its arguments and what it refers to are "
            "like those of the trace before. Transform it once, not on each call; or the cache was cleared, a "
            "configuration of JAX has changed, or it is called in several places or eagerly in `vmap` or `grad`, "
            "which trace at each call: wrap these in `jit`."
        )

    def _trace(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Trace:
        graphs: dict[str, GraphDef] = {}
        types: dict[str, str] = {}
        leaves, treedef = jax.tree.flatten((args, kwargs))
        for name, leaf in zip(argument_names(treedef, self.function), leaves, strict=True):
            _describe(name, leaf, graphs, types)
        watch = None if self._born_in_trace else Watch([self.function], self.changed_by_itself)
        for name, root in watch.roots() if watch is not None else ():
            _describe(name, root, graphs, types)
        settings = {
            name: _type_of(peek(held) if isinstance(held, Cell) else held)
            for name, held in environ.lookup_all().items()
            if not is_of_rules(name)
        }
        return _Trace(graphs, types, watch, settings)


def _times(limit: int) -> str:
    return "once" if limit == 1 else f"{limit} times"


def _describe(name: str, leaf: Any, graphs: dict[str, GraphDef], types: dict[str, str]) -> None:
    if not is_graph_object(leaf):
        types[name] = _type_of(leaf)
        return
    flat = flatten(leaf)
    graphs[name] = flat.graphdef
    for place in flat.graphdef.leaves:
        item, path = flat.objects[place], flat.graphdef.path(place)
        value = peek(item) if isinstance(item, State) else item
        types[f"{name}.{shorten_path(path)}" if path else name] = _type_of(value)


def _type_of(value: Any) -> str:
    """An array by its type, a `*` behind it where that is weak; a static value by itself."""
    leaves, treedef = jax.tree.flatten(value)
    if not leaves or not all(map(is_array_like, leaves)) or (len(leaves) == 1 and isinstance(value, _STATIC)):
        return f"{clip(repr(value))} ({type(value).__name__})"
    texts = [_aval_text(leaf) for leaf in leaves]
    return texts[0] if len(texts) == 1 else str(jax.tree.unflatten(treedef, texts))


_STATIC: Final = (bool, int, float, complex)


def _aval_text(leaf: Any) -> str:
    aval: Any = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    return f"{aval.dtype.name}[{','.join(map(str, aval.shape))}]{'*' if getattr(aval, 'weak_type', False) else ''}"


def _differences(before: _Trace, now: _Trace) -> Iterator[str]:
    for name in now.graphs.keys() & before.graphs.keys():
        yield from (f"{name}: {line}" for line in diff(before.graphs[name], now.graphs[name]))
    yield from _changes(before.types, now.types, "")
    yield from _changes(before.settings, now.settings, "the setting ")
    if before.watch is not None:
        yield from before.watch.changes()


def _changes(before: dict[str, str], now: dict[str, str], kind: str) -> Iterator[str]:
    for name in dict.fromkeys((*before, *now)):
        if before.get(name) != now.get(name):
            yield f"{kind}{name}: {before.get(name, 'nothing')} became {now.get(name, 'nothing')}"


def assert_max_traces(function: Callable[..., Any] | None = None, /, n: int | None = None) -> Any:
    """Raises when a function is traced more than `n` times, and says what has changed since the trace before.

    What is counted are runs of the function while graphstate or JAX is tracing, under whatever transforms; calls
    outside of every transform are not. Put it inside: `jit(assert_max_traces(f, 1))`.

    Args:
        function: any function; a method, a callable Node.
        n: how often it may be traced.

    Returns:
        The function, counted; `count` says how often it was traced.

    Raises:
        TraceCountError: it is traced once more than it may be; `differences` lists all that has changed. A `*` marks
            a weak type, as that of a Python number.
        StateTypeError: `n` is no int, or negative.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> @gs.jit
        ... @gs.assert_max_traces(n=1)
        ... def double(x):
        ...     return 2 * x
        >>> _ = double(jnp.ones(3)), double(jnp.zeros(3))
        >>> try:
        ...     double(jnp.ones(4))
        ... except gs.errors.TraceCountError as error:
        ...     print(error)
        `double` may be traced once, but it is traced again. Since the trace before this has changed:
          x: float32[3] became float32[4]
        Keep it the same from call to call, make it an array, or allow more traces.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise StateTypeError(
            f"`assert_max_traces` needs to know how often a function may be traced, as an int, but `n` is {n!r}. Write "
            "`assert_max_traces(function, 1)`, or `@assert_max_traces(n=1)`."
        )

    def transform(function: Callable[..., Any]) -> CountedFunction:
        return CountedFunction(function, n)

    return transform if function is None else transform(function)
