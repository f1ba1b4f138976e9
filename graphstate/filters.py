"""Filters: small questions about a State, asked by its path and its record, that say which States are meant.

Wherever a call selects States it takes a filter: a type, a tag, a function, `...`, or one of the objects
below. `to_predicate` turns each of these into a `Predicate`, a frozen record that answers one question.
Predicates combine with `&`, `|` and `~`, with raw filters too: `OfType(ParamState) & ~PathContains("head")`.

A State that is shared has several paths, and a question about its path is answered with yes if it is so for
any of them. Combinations combine these answers: `~PathContains("head")` leaves out a weight that is tied to
the head, whichever path comes first.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType, UnionType
from typing import Any, Protocol, TypeAlias, get_args, get_origin

from graphstate.errors import StateTypeError

__all__ = ["Filter", "OfType", "Path", "PathContains", "Predicate", "Record", "WithTag", "to_predicate"]

Path: TypeAlias = tuple[str | int, ...]
Class: TypeAlias = type[Any]


class Record(Protocol):
    """What a filter is asked about: a State, or the same attributes read from a `GraphState`, or an array."""

    @property
    def type(self) -> Class:
        """The type of the State; that of the array for an array which is no State's value."""

    @property
    def tags(self) -> frozenset[str]:
        """The labels of the State."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata of the State."""

    @property
    def value(self) -> Any:
        """What the State holds."""


class Predicate(ABC):
    """A filter as an object: a yes or no for each State, combined with `&`, `|` and `~`.

    Example:
        >>> import graphstate as gs
        >>> from graphstate.filters import OfType, PathContains
        >>> node = gs.Node()
        >>> node.encoder = [gs.ParamState(1.0), gs.BatchState(2.0)]
        >>> node.head = gs.ParamState(3.0)
        >>> list(gs.states(node, OfType(gs.ParamState) & ~PathContains("head")))
        [('encoder', 0)]
        >>> PathContains("head") | "frozen"
        PathContains('head') | WithTag('frozen')
    """

    __slots__ = ()

    @abstractmethod
    def matches(self, paths: Sequence[Path], record: Record) -> bool:
        """Whether the State with all these paths is meant.

        Args:
            paths: every path by which the State is reached.
            record: its type, tags, metadata and value.
        """

    def __call__(self, path: Path, record: Record) -> bool:
        """Whether a State with this one path is meant."""
        return self.matches((path,), record)

    def __and__(self, other: "Filter") -> "Predicate":
        return _Both(self, to_predicate(other))

    def __rand__(self, other: "Filter") -> "Predicate":
        return _Both(to_predicate(other), self)

    def __or__(self, other: "Filter") -> "Predicate":
        return _Any((self, to_predicate(other)))

    def __ror__(self, other: "Filter") -> "Predicate":
        return _Any((to_predicate(other), self))

    def __invert__(self) -> "Predicate":
        return _Not(self)

    def __bool__(self) -> bool:
        raise StateTypeError(
            f"A filter is neither true nor false by itself, but {self!r} was used with `and`, `or`, `not` or `if`. "
            "Combine filters with `&`, `|` and `~`."
        )


Filter: TypeAlias = (
    Predicate
    | Class
    | UnionType
    | EllipsisType
    | str
    | Callable[..., bool]
    | tuple["Filter", ...]
    | list["Filter"]
    | None
)
"""What selects States: `...` all, None none, a type, a tag, a function of path and record, a tuple any of several."""


@dataclass(frozen=True, slots=True, repr=False)
class OfType(Predicate):
    """The States of a type, subclasses included; what a bare type means as a filter.

    Example:
        >>> import graphstate as gs
        >>> node = gs.Node()
        >>> node.mean, node.weight = gs.BatchState(0.0), gs.ParamState(1.0)
        >>> list(gs.states(node, gs.filters.OfType(gs.BatchState)))
        [('mean',)]
    """

    kind: Class | UnionType

    def __post_init__(self) -> None:
        _check("OfType", "a type", self.kind, (type, UnionType))

    def matches(self, paths: Sequence[Path], record: Record) -> bool:
        """Whether the type of the State is `kind` or a subclass of it."""
        return issubclass(record.type, self.kind)

    def __repr__(self) -> str:
        return f"OfType({getattr(self.kind, '__name__', self.kind)})"


@dataclass(frozen=True, slots=True, repr=False)
class WithTag(Predicate):
    """The States that carry a tag; what a bare str means as a filter.

    Example:
        >>> import graphstate as gs
        >>> node = gs.Node()
        >>> node.scale, node.shift = gs.State(1.0, tags="frozen"), gs.State(0.0)
        >>> list(gs.states(node, gs.filters.WithTag("frozen")))
        [('scale',)]
    """

    tag: str

    def __post_init__(self) -> None:
        _check("WithTag", "a str", self.tag, str)

    def matches(self, paths: Sequence[Path], record: Record) -> bool:
        """Whether the State carries the tag."""
        return self.tag in record.tags

    def __repr__(self) -> str:
        return f"WithTag({self.tag!r})"


@dataclass(frozen=True, slots=True, repr=False)
class PathContains(Predicate):
    """The States whose path, as it is written, contains a part or a run of parts; whole parts only.

    Args:
        part: a name, an index, or several parts as they are written: `"encoder"`, `0`, `"layers/0"`.

    Example:
        >>> import graphstate as gs
        >>> node = gs.Node()
        >>> node.layers = [{"weight": gs.State(1.0)}, {"weight": gs.State(2.0)}]
        >>> list(gs.states(node, gs.filters.PathContains("layers/1")))
        [('layers', 1, 'weight')]
        >>> list(gs.states(node, gs.filters.PathContains("layer")))
        []
    """

    part: str | int

    def __post_init__(self) -> None:
        _check("PathContains", "a str or an int", self.part, (str, int))

    def matches(self, paths: Sequence[Path], record: Record) -> bool:
        """Whether any of the paths contains the part."""
        wanted = f"/{self.part}/"
        return any(wanted in f"/{'/'.join(map(str, path))}/" for path in paths)

    def __repr__(self) -> str:
        return f"PathContains({self.part!r})"


@dataclass(frozen=True, slots=True, repr=False)
class _Always(Predicate):
    """The same answer for every State: `...` and None."""

    answer: bool

    def matches(self, paths: Sequence[Path], record: Record) -> bool:
        return self.answer

    def __repr__(self) -> str:
        return "..." if self.answer else "None"


@dataclass(frozen=True, slots=True, repr=False)
class _Asking(Predicate):
    """The States for which a function of the user says yes, at any of their paths."""

    function: Callable[..., Any]

    def matches(self, paths: Sequence[Path], record: Record) -> bool:
        return any(bool(self.function(path, record)) for path in paths)

    def __repr__(self) -> str:
        return getattr(self.function, "__qualname__", None) or repr(self.function)


@dataclass(frozen=True, slots=True, repr=False)
class _Any(Predicate):
    parts: tuple[Predicate, ...]

    def matches(self, paths: Sequence[Path], record: Record) -> bool:
        return any(part.matches(paths, record) for part in self.parts)

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.parts)) if self.parts else "()"


@dataclass(frozen=True, slots=True, repr=False)
class _Both(Predicate):
    left: Predicate
    right: Predicate

    def matches(self, paths: Sequence[Path], record: Record) -> bool:
        return self.left.matches(paths, record) and self.right.matches(paths, record)

    def __repr__(self) -> str:
        return f"{_nested(self.left, _Any)} & {_nested(self.right, _Any)}"


@dataclass(frozen=True, slots=True, repr=False)
class _Not(Predicate):
    part: Predicate

    def matches(self, paths: Sequence[Path], record: Record) -> bool:
        return not self.part.matches(paths, record)

    def __repr__(self) -> str:
        return f"~{_nested(self.part, (_Any, _Both))}"


def to_predicate(filter: Filter) -> Predicate:
    """The `Predicate` that a filter stands for.

    Args:
        filter: a `Predicate` (returned as it is), a type, `...`, None, a str (a tag), a function
            `(path, record) -> bool`, or a tuple or list of these, which means any of them.

    Raises:
        StateTypeError: it is none of these.

    Example:
        >>> from graphstate.filters import to_predicate
        >>> to_predicate(("frozen", None))
        WithTag('frozen') | None
        >>> to_predicate(3)
        Traceback (most recent call last):
        graphstate.errors.StateTypeError: A filter is a type, `...` (all), None (none), a str (a tag), ...
    """
    if isinstance(filter, Predicate):
        return filter
    if filter is None or filter is ...:
        return _Always(filter is ...)
    if isinstance(filter, type | UnionType):
        return OfType(filter)
    if isinstance(filter, str):
        return WithTag(filter)
    if isinstance(filter, tuple | list):
        return _Any(tuple(map(to_predicate, filter)))
    # A generic alias (`Cache[int]`) is callable: asked as a function it would make an object, which is always true.
    if get_origin(filter) is None and callable(filter):
        return _Asking(filter)
    raise StateTypeError(
        "A filter is a type, `...` (all), None (none), a str (a tag), a function `(path, record) -> bool`, "
        "`PathContains`, `WithTag` or `OfType`, a combination of these with `&`, `|` and `~`, "
        f"or a tuple or list of them (any), but {str(filter)[:60]!r} of type {type(filter).__name__} came. "
        f"{_way_out(filter)}"
    )


def lasting_key(filters: Sequence[Filter]) -> Hashable | None:
    """A key that is equal for filters that select alike, at any time; None where there is no such key.

    A function may answer otherwise the next time, and so may a class of the user that decides itself what its
    subclasses are; a list counts as what is in it now.

    Args:
        filters: what `to_predicate` takes.
    """
    keys = []
    for each in filters:
        key = _lasting_key(each)
        if key is None:
            return None
        keys.append(key)
    return tuple(keys)


def _lasting_key(filter: Any) -> Hashable | None:
    kind = type(filter)
    if kind is type or kind is str or filter is ...:
        return filter  # type: ignore[no-any-return]
    if filter is None:
        return _Always, False
    if kind is _Always:
        return _Always, filter.answer
    if kind is UnionType:
        return _joint_key(_Any, get_args(filter))
    if kind is tuple or kind is list:
        return _joint_key(_Any, filter)
    if kind is OfType:
        return _lasting_key(filter.kind)
    if kind is WithTag:
        return _lasting_key(filter.tag)
    if kind is PathContains:
        return PathContains, str(filter.part)
    if kind is _Any:
        return _joint_key(_Any, filter.parts)
    if kind is _Both:
        return _joint_key(_Both, (filter.left, filter.right))
    if kind is _Not:
        return _joint_key(_Not, (filter.part,))
    return None


def _joint_key(how: type, filters: Sequence[Filter]) -> Hashable | None:
    keys = lasting_key(filters)
    return None if keys is None else (how, keys)


def _way_out(filter: object) -> str:
    if isinstance(filter, bool):
        return f"Write {'`...`' if filter else 'None'} for {filter}."
    if isinstance(filter, int):
        return f"To select by an index in the path, write `PathContains({filter})`."
    if get_origin(filter) is not None:
        return "Write the class without its parameters."
    if isinstance(filter, set | frozenset):
        return "Write a tuple for a set."
    return "To select States by what they are, pass their type."


def _nested(part: Predicate, looser: Any) -> str:
    return f"({part!r})" if isinstance(part, looser) else repr(part)


def _check(name: str, needed: str, given: object, kinds: Any) -> None:
    if not isinstance(given, kinds):
        raise StateTypeError(
            f"`{name}` takes {needed}, but {str(given)[:60]!r} of type {type(given).__name__} came. "
            f"For several, combine them: `{name}(a) | {name}(b)`."
        )
