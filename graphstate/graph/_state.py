"""The State types: mutable cells with a label that filters select by.

State
├── LongTermState
│   ├── ParamState      what an optimizer changes
│   └── BatchState      statistics of batches
└── ShortTermState
    └── HiddenState     what a recurrent cell carries
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from graphstate._compat import current_trace, enclosing_traces
from graphstate._trace import Cell, Frame, current_frame, is_lost, peek
from graphstate.errors import GraphStateError, StructureError

from ._summary import summarize_labels, summarize_value

__all__ = ["BatchState", "HiddenState", "LongTermState", "ParamState", "ShortTermState", "State"]

AXES: Final = "axes"
"""The metadata that names the axes of the array."""


class State(Cell):
    """A mutable cell that holds an array, a number, or a pytree of these.

    `state.value` reads and `state.value = new` writes, inside and outside of every transform of graphstate.
    Identity is equality: two States are equal where they are the same object. A State is no pytree and no
    number; JAX functions take its `.value`.

    Args:
        value: what the State holds at first. Another shape, dtype or structure may be written later.
        tags: labels for filters, as `"frozen"` or `("frozen", "encoder")`; static.
        metadata: anything hashable, by name; static, kept by every transform. `axes` is a tuple that names each axis
            of the array (None for one without a name), as `parallel.place` takes it: a map that stacks lanes adds its
            `axis_name` there, and in a lane that is gone again.

    Raises:
        StateTypeError: `value` has a leaf that is neither an array nor a number, or is a State.
        StructureError: a metadata value cannot be hashed, or is a State or Node.

    Example:
        >>> import graphstate as gs
        >>> counter = gs.State(0, tags="statistics", unit="steps")
        >>> counter.value += 1
        >>> counter.value, counter.metadata["unit"], sorted(counter.tags)
        (1, 'steps', ['statistics'])
    """

    __slots__ = ("_metadata", "_plan", "_tags")

    _metadata: Mapping[str, Any]
    _tags: frozenset[str]
    _plan: Any

    def __init__(self, value: Any, *, tags: str | Iterable[str] = (), **metadata: Any) -> None:
        super().__init__(value)
        self._tags = frozenset((tags,) if isinstance(tags, str) else tags)
        self._metadata = MappingProxyType(metadata)
        self._plan = None
        for name, item in metadata.items():
            _check_metadata(name, item)

    @property
    def tags(self) -> frozenset[str]:
        """The labels given at construction."""
        return self._tags

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata given at construction, read-only; `axes` as they are where the caller runs."""
        return metadata_in(current_frame(), self) if AXES in self._metadata else self._metadata

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self) >> 4

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join([summarize_cell(self), *summarize_labels(self._tags, self._metadata)])})"
        )

    def __reduce__(self) -> Any:
        from ._pickling import reduce_state  # which pickles graphs of Nodes too, and is above this module

        return reduce_state(self)

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        from ._treescope import draw  # as above

        return draw(self, path, subtree_renderer)

    def __copy__(self) -> Any:
        from ._copying import copy_state  # as above

        return copy_state(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        from ._copying import copy_graph  # as above

        return copy_graph(self, memo)


def metadata_in(frame: Frame | None, state: State) -> Mapping[str, Any]:
    """The metadata of a State as code that runs in `frame` sees it, whose lanes have their slices of the value."""
    if frame is None or AXES not in state._metadata:
        return state._metadata
    state = frame.copy_of(state)
    metadata = state._metadata
    names = metadata.get(AXES)
    axes = _lane_axes(frame, state)
    if not axes or not isinstance(names, tuple):
        return metadata
    for axis in axes:
        names = without_name(names, axis)
    return MappingProxyType({**metadata, AXES: names})


def without_name(names: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    """The names of the axes without one of them."""
    position = axis % len(names) if names else 0
    return names[:position] + names[position + 1 :]


def _lane_axes(frame: Frame | None, state: State) -> list[int]:
    """The axes at which a State of the closure is mapped by the frames between it and `frame`, outermost first."""
    born = state._home and state._home.trace()
    homes = [] if born is None else list(enclosing_traces(born))
    found: list[int] = []
    while frame is not None and all(frame.trace is not each for each in homes):
        axis = frame.lane_axis(state)
        found[:0] = [axis] if isinstance(axis, int) else []
        frame = frame.parent
    return found


def is_out_of_reach(cell: Cell) -> bool:
    """Whether the value of a State belongs to a trace that does not reach to where the caller runs."""
    home = cell._home
    return home is not None and all(each is not home.trace() for each in enclosing_traces(current_trace()))


def summarize_cell(cell: Cell) -> str:
    """The value of a State in a few characters, or why it has none."""
    if is_out_of_reach(cell):
        return "no value: its trace has ended"
    if is_lost(cell):
        return "no value: donated"
    try:
        return summarize_value(peek(cell))
    except GraphStateError:
        return "changed in place"


class LongTermState(State):
    """A State that outlives a call: parameters and statistics."""

    __slots__ = ()


class ParamState(LongTermState):
    """A parameter: what `grad` differentiates and an optimizer changes unless told otherwise."""

    __slots__ = ()


class BatchState(LongTermState):
    """A statistic over batches, as the running mean of a normalisation."""

    __slots__ = ()


class ShortTermState(State):
    """A State that is reset between sequences or episodes."""

    __slots__ = ()


class HiddenState(ShortTermState):
    """What a recurrent cell carries from one step to the next."""

    __slots__ = ()


def _check_metadata(name: str, item: Any) -> None:
    if isinstance(item, Cell) or hasattr(type(item), "_graph_version"):
        raise StructureError(
            f"Metadata of a State is static, but {name} is a {type(item).__name__}, which can change and would be "
            "missed. Keep it as an attribute of a Node."
        )
    try:
        hash(item)
    except TypeError:
        raise StructureError(
            f"Metadata of a State must be hashable, but {name}={str(item)[:40]!r} is a {type(item).__name__}. "
            "Use a tuple for a list, a frozenset for a set; keep arrays as the value of a State."
        ) from None
