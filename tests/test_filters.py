"""Filters: what each kind selects, how they combine, and what is refused."""

import abc
import pickle
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphstate.errors import GraphStateError, StateTypeError
from graphstate.filters import Filter, OfType, Path, PathContains, Predicate, WithTag, lasting_key, to_predicate
from graphstate.graph import BatchState, HiddenState, LongTermState, ParamState, State


class Leaf(NamedTuple):
    """A record that filters are asked about."""

    type: type = ParamState
    tags: frozenset[str] = frozenset()
    metadata: Mapping[str, Any] = MappingProxyType({})
    value: Any = None


class Locked(Leaf):
    """A record whose value must not be read."""

    @property
    def value(self) -> Any:
        raise AssertionError("the value was read")


PARAMETER = Leaf()


def matches(filter: Filter, *paths: Path, record: Leaf = PARAMETER) -> bool:
    return to_predicate(filter).matches(paths or (("weight",),), record)


# Kinds


def test_an_ellipsis_selects_all_and_none_selects_nothing() -> None:
    assert matches(...)
    assert not matches(None)


@pytest.mark.parametrize(
    ("kind", "selected"),
    [(State, True), (LongTermState, True), (ParamState, True), (BatchState, False), (object, True)],
)
def test_a_type_selects_itself_and_its_subclasses(kind: type, selected: bool) -> None:
    assert matches(kind) is selected
    assert matches(OfType(kind)) is selected


def test_a_union_of_types_selects_either() -> None:
    assert matches(ParamState | BatchState)
    assert matches(OfType(BatchState | ParamState))
    assert not matches(HiddenState | BatchState)


@pytest.mark.parametrize("array", [np.ndarray, jax.Array])
def test_state_types_do_not_select_arrays_and_array_types_do(array: type) -> None:
    assert not matches(State, record=Leaf(type=array))
    assert matches(array, record=Leaf(type=array))
    assert not matches(array, record=Leaf(type=ParamState))


def test_a_str_is_a_tag_and_not_a_part_of_the_path() -> None:
    assert matches("frozen", record=Leaf(tags=frozenset({"frozen", "encoder"})))
    assert matches(WithTag("frozen"), record=Leaf(tags=frozenset({"frozen"})))
    assert not matches("froze", record=Leaf(tags=frozenset({"frozen"})))
    assert not matches("weight", ("weight",))


def test_a_function_is_asked_with_path_and_record() -> None:
    asked = []

    def first_of_two(path: Path, record: Leaf) -> bool:
        asked.append((path, record))
        return path[0] == 0

    record = Leaf(value=3)
    assert matches(first_of_two, (0, "weight"), record=record)
    assert not matches(first_of_two, (1, "weight"), record=record)
    assert asked == [((0, "weight"), record), ((1, "weight"), record)]


def test_a_function_may_look_at_the_value() -> None:
    is_matrix = to_predicate(lambda path, record: record.value.ndim == 2)
    assert is_matrix(("w",), Leaf(value=np.ones((2, 2))))
    assert not is_matrix(("w",), Leaf(value=np.ones(2)))


def test_the_answer_of_a_function_becomes_a_bool() -> None:
    assert matches(lambda path, record: np.bool_(True)) is True
    assert matches(lambda path, record: None) is False


def test_a_tuple_or_list_selects_what_any_part_selects() -> None:
    assert matches((BatchState, "frozen", ParamState))
    assert matches([BatchState, [None, ParamState]])
    assert not matches((BatchState, "frozen"))
    assert not matches(())


@pytest.mark.parametrize("part", ["layers", "0", 0, "weight", "layers/0", "0/weight", "layers/0/weight"])
def test_path_contains_selects_by_whole_parts(part: str | int) -> None:
    assert matches(PathContains(part), ("layers", 0, "weight"))
    assert matches(PathContains(part), ("layers", "0", "weight"))


@pytest.mark.parametrize("part", ["layer", "ayers", "weigh", "1", 1, "layers/weight", "", "/", "weight/layers"])
def test_path_contains_selects_no_less_than_a_whole_part(part: str | int) -> None:
    assert not matches(PathContains(part), ("layers", 0, "weight"))


def test_path_contains_does_not_find_an_index_inside_of_another() -> None:
    assert not matches(PathContains(1), ("layers", 10))
    assert not matches(PathContains("a"), ())


@pytest.mark.parametrize("filter", [..., None, ParamState, "frozen", PathContains("a"), ~(OfType(State) & "frozen")])
def test_what_looks_at_path_type_and_tags_never_reads_the_value(filter: Filter) -> None:
    matches(filter, record=Locked())


def test_a_predicate_is_called_with_one_path() -> None:
    assert PathContains("a")(("a", "w"), Leaf())
    assert not PathContains("a")(("b", "w"), Leaf())


def test_a_predicate_stays_itself() -> None:
    predicate = OfType(ParamState) | "frozen"
    assert to_predicate(predicate) is predicate


# Shared States


def test_a_shared_state_is_selected_by_any_of_its_paths() -> None:
    assert matches(PathContains("a"), ("b", "w"), ("a", "w"))
    assert matches(lambda path, record: path == ("a", "w"), ("b", "w"), ("a", "w"))


def test_not_leaves_out_a_shared_state_whichever_path_is_found() -> None:
    assert not matches(~PathContains("a"), ("a", "w"), ("b", "w"))
    assert not matches(~PathContains("b"), ("a", "w"), ("b", "w"))
    assert matches(~PathContains("c"), ("a", "w"), ("b", "w"))


def test_and_combines_answers_and_not_paths() -> None:
    assert matches(PathContains("a") & PathContains("b"), ("a", "w"), ("b", "w"))
    assert not matches(PathContains("a") & ~PathContains("b"), ("a", "w"), ("b", "w"))


# Combinations

AGREEING = OfType(ParamState)
REFUSING = OfType(BatchState)


@pytest.mark.parametrize(
    ("filter", "selected"),
    [
        (AGREEING & AGREEING, True),
        (AGREEING & REFUSING, False),
        (REFUSING & AGREEING, False),
        (AGREEING | REFUSING, True),
        (REFUSING | AGREEING, True),
        (REFUSING | REFUSING, False),
        (~AGREEING, False),
        (~REFUSING, True),
        (~~AGREEING, True),
    ],
)
def test_operators_mean_and_or_not(filter: Filter, selected: bool) -> None:
    assert matches(filter) is selected


def say_yes(path: Path, record: Leaf) -> bool:
    return True


@pytest.mark.parametrize("raw", [ParamState, ..., say_yes, (None, ParamState), [ParamState]])
def test_a_raw_filter_combines_on_either_side(raw: Any) -> None:
    assert matches(raw & AGREEING)
    assert matches(AGREEING & raw)
    assert matches(raw | REFUSING)
    assert matches(REFUSING | raw)
    assert not matches(raw & REFUSING)
    assert not matches(REFUSING & raw)


@pytest.mark.parametrize("raw", [None, "frozen", BatchState])
def test_a_raw_filter_that_refuses_combines_on_either_side(raw: Any) -> None:
    assert matches(raw | AGREEING)
    assert matches(AGREEING | raw)
    assert not matches(raw & AGREEING)
    assert not matches(AGREEING & raw)


predicates = st.recursive(
    st.sampled_from(
        [OfType(ParamState), OfType(BatchState), WithTag("t"), PathContains("a"), PathContains(0), to_predicate(None)]
    ),
    lambda parts: (
        st.builds(lambda a, b: a & b, parts, parts)
        | st.builds(lambda a, b: a | b, parts, parts)
        | st.builds(lambda a: ~a, parts)
    ),
    max_leaves=5,
)
kinds = st.sampled_from([ParamState, BatchState, np.ndarray])
records = st.tuples(kinds, st.sampled_from([frozenset(), frozenset({"t"})])).map(lambda parts: Leaf(*parts))
paths = st.lists(st.lists(st.sampled_from(["a", "b", 0]), max_size=2).map(tuple), min_size=1, max_size=3)


@given(predicates, predicates, paths, records)
def test_combinations_follow_the_laws_of_logic(a: Predicate, b: Predicate, paths: list[Path], record: Leaf) -> None:
    def holds(predicate: Predicate) -> bool:
        return predicate.matches(paths, record)

    assert holds(a & b) == (holds(a) and holds(b))
    assert holds(a | b) == (holds(a) or holds(b))
    assert holds(~a) != holds(a)
    assert holds(~(a & b)) == holds(~a | ~b)


@given(predicates)
def test_a_predicate_can_be_a_key_and_pickles(predicate: Predicate) -> None:
    copy = pickle.loads(pickle.dumps(predicate))
    assert copy == predicate
    assert {predicate: 0}[copy] == 0


@pytest.mark.parametrize(
    ("predicate", "written"),
    [
        (OfType(ParamState), "OfType(ParamState)"),
        (~PathContains("a") & "t", "~PathContains('a') & WithTag('t')"),
        ((OfType(State) | ...) & None, "(OfType(State) | ...) & None"),
        (~(OfType(State) & say_yes), "~(OfType(State) & say_yes)"),
        (to_predicate(()), "()"),
    ],
)
def test_a_predicate_reads_as_it_is_written(predicate: Predicate, written: str) -> None:
    assert repr(predicate) == written


# Errors


@pytest.mark.parametrize(
    ("wrong", "way_out"),
    [
        (3, r"'3' of type int came. To select by an index in the path, write `PathContains\(3\)`"),
        (True, r"'True' of type bool came. Write `\.\.\.` for True"),
        (False, "'False' of type bool came. Write None for False"),
        (1.5, r"'1\.5' of type float came. To select States by what they are, pass their type"),
        ({"a"}, "of type set came. Write a tuple for a set"),
        ({"a": 0}, "of type dict came"),
        (State(1.0), "of type State came. To select States by what they are, pass their type"),
        (list[int], "Write the class without its parameters"),
        ((ParamState, 3), "'3' of type int came"),
    ],
)
def test_anything_else_is_refused(wrong: Any, way_out: str) -> None:
    with pytest.raises(TypeError, match=way_out) as caught:
        to_predicate(wrong)
    assert isinstance(caught.value, GraphStateError)
    assert str(caught.value).startswith("A filter is a type, `...` (all), None (none), a str (a tag), a function")


def test_a_combination_refuses_what_is_no_filter() -> None:
    with pytest.raises(StateTypeError, match="A filter is a type"):
        AGREEING & 3  # type: ignore[operator]
    with pytest.raises(StateTypeError, match="A filter is a type"):
        3 | AGREEING  # type: ignore[operator]


@pytest.mark.parametrize(
    ("make", "given", "needed"),
    [(OfType, "frozen", "a type"), (WithTag, ParamState, "a str"), (PathContains, ("a", "b"), "a str or an int")],
)
def test_filter_objects_refuse_other_kinds(make: Any, given: Any, needed: str) -> None:
    with pytest.raises(
        StateTypeError, match=rf"`{make.__name__}` takes {needed}, but .* came. For several, combine them"
    ):
        make(given)


@pytest.mark.parametrize("use", [bool, lambda a: a and ..., lambda a: not a])
def test_words_do_not_combine_filters(use: Any) -> None:
    with pytest.raises(
        StateTypeError, match=r"OfType\(ParamState\) was used with `and`, `or`, `not` or `if`. .* `&`, `\|` and `~`"
    ):
        use(OfType(ParamState))


def test_a_filter_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        PathContains("a").part = "b"  # type: ignore[misc]


class _Named(Predicate):
    def matches(self, paths: Any, record: Any) -> bool:
        return True


class _Family(abc.ABC):  # noqa: B024, its metaclass is what counts
    pass


@pytest.mark.parametrize(
    "changing",
    [
        lambda path, record: True,
        _Named(),
        _Family,
        ParamState | _Family,
        OfType(_Family),
        (ParamState, [len]),
        ~_Named(),
        OfType(ParamState) & len,
        "frozen" | _Named(),
    ],
)
def test_what_may_answer_otherwise_the_next_time_has_no_lasting_key(changing: Filter) -> None:
    assert lasting_key([changing]) is None
    assert lasting_key([ParamState, changing]) is None


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (ParamState, OfType(ParamState)),
        ("frozen", WithTag("frozen")),
        (ParamState | BatchState, (ParamState, BatchState)),
        ([None, ...], (None, ...)),
        (PathContains(0), PathContains("0")),
        (~OfType(ParamState) & "frozen", ~OfType(ParamState) & WithTag("frozen")),
    ],
    ids=repr,
)
def test_filters_that_select_alike_have_one_lasting_key(one: Filter, two: Filter) -> None:
    assert lasting_key([one]) == lasting_key([two]) is not None


def test_filters_that_select_otherwise_have_other_keys() -> None:
    type_ = OfType(ParamState)
    filters: list[Filter] = [
        ParamState, "a", "b", ..., None, PathContains("a"), PathContains(1), PathContains(True), (ParamState,),
        (ParamState, "a"), type_ & "a", ~type_, ~~type_, type_ | ~type_, (), ParamState | BatchState,
    ]  # fmt: skip
    assert len({lasting_key([each]) for each in filters}) == len(filters)
