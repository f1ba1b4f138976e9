"""`given`: few structures and many values, no deadline, a second search after a failure, and what it all cost."""

import time
from collections.abc import Callable
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import graphstate.testing as gst
from graphstate.errors import StrategyError
from graphstate.testing import BatchCase, _structure

pytestmark = pytest.mark.no_leak_check("counts traces")

ARRAYS = gst.arrays(gst.dtypes("fi"), gst.shapes())


def shapes_of(structures: int, examples: int = 60) -> list[tuple[Any, ...]]:
    """The shapes and dtypes that a test sees, in order."""
    seen = []

    @hypothesis.settings(database=None)
    @gst.given(x=ARRAYS, structures=structures, examples=examples)
    def look(x: np.ndarray) -> None:
        seen.append((x.shape, str(x.dtype)))

    look()
    return seen


def test_examples_have_no_more_structures_than_were_asked_for() -> None:
    for structures in (1, 8):
        seen = shapes_of(structures)
        assert len(seen) == 60
        assert 1 <= len(set(seen)) <= structures
    assert len(set(shapes_of(8))) > 3
    assert set(shapes_of(1)) == {((), "float32")}


def test_structures_are_the_same_on_every_run() -> None:
    assert set(shapes_of(3)) == set(shapes_of(3))


def test_values_are_free() -> None:
    seen = set()

    @gst.given(x=gst.arrays(), structures=1, examples=60)
    def look(x: np.ndarray) -> None:
        seen.add(float(x))

    look()
    assert len(seen) > 20


def test_the_arguments_of_one_example_have_structures_of_their_own() -> None:
    seen = set()

    @gst.given(x=gst.arrays(shape=gst.shapes()), y=gst.arrays(shape=gst.shapes()), examples=60)
    def look(x: np.ndarray, y: np.ndarray) -> None:
        seen.add((x.shape, y.shape))

    look()
    assert len(seen) <= 8
    assert any(one != two for one, two in seen)


def failure_of(test: Callable[[], Any]) -> tuple[BaseException, str]:
    with pytest.raises(AssertionError) as raised:
        test()
    return raised.value, "\n".join(getattr(raised.value, "__notes__", ()))


def test_a_failure_shrinks_to_the_simplest_structure_there_is_and_not_only_of_the_pool() -> None:
    @hypothesis.settings(database=None)
    @gst.given(case=gst.batched(gst.arrays(gst.dtypes("fi"), gst.shapes())), structures=8)
    def look(case: BatchCase) -> None:
        assert not (case.args[0].ndim > 1 and case.axis_size > 1)

    _, notes = failure_of(look)
    assert "case=BatchCase(axis_size=2, args=(np.array([[" in notes
    assert "second search, which was not bound to a few structures" in notes


def test_a_failure_of_the_simplest_structure_is_not_searched_for_again() -> None:
    @hypothesis.settings(database=None)
    @gst.given(x=ARRAYS)
    def look(x: np.ndarray) -> None:
        assert x.size < 0

    _, notes = failure_of(look)
    assert "x=array(0., dtype=float32)" in notes
    assert "second search" not in notes


@st.composite
def is_pooled(draw: st.DrawFn) -> bool:
    """Whether the structure comes from a pool."""
    return draw(st.just(_structure._answer.get() is not _structure._drawn))


def test_a_failure_that_the_second_search_does_not_find_is_told_as_it_was() -> None:
    @hypothesis.settings(database=None)
    @gst.given(x=gst.arrays(shape=gst.shapes(1, 2)), first=is_pooled())
    def look(x: np.ndarray, first: bool) -> None:
        if x.ndim == 2:
            raise (AssertionError if first else ValueError)("a failure")

    error, notes = failure_of(look)
    assert (type(error), str(error)) == (AssertionError, "a failure")
    assert "first=True" in notes


def test_a_phase_without_shrinking_has_no_second_search() -> None:
    @hypothesis.settings(database=None, phases=(hypothesis.Phase.generate,))
    @gst.given(x=gst.arrays(shape=gst.shapes(1, 2)))
    def look(x: np.ndarray) -> None:
        assert x.ndim == 1

    assert "second search" not in failure_of(look)[1]


def test_examples_and_settings_of_hypothesis_may_be_given_as_usual() -> None:
    seen = []

    @hypothesis.example(x=np.float32(7))
    @hypothesis.settings(max_examples=5, database=None)
    @gst.given(x=gst.arrays())
    def look(x: np.ndarray) -> None:
        seen.append(float(x))

    look()
    assert seen[0] == 7
    assert len(seen) == 6


def test_what_is_told_about_a_case_can_be_pasted_as_an_example() -> None:
    seen = []
    case = BatchCase(axis_size=2, args=(np.array([0.0, 1.0], "float32"),))

    @hypothesis.example(case=case)
    @gst.given(case=gst.batched(gst.arrays()), examples=3)
    def look(case: BatchCase) -> None:
        seen.append(case)

    look()
    assert seen[0] is case


def test_there_is_no_deadline() -> None:
    @gst.given(x=gst.arrays(), examples=2)
    def look(x: np.ndarray) -> None:
        time.sleep(0.25)

    with_deadline = hypothesis.settings(deadline=200, max_examples=100)
    before = hypothesis.settings().deadline
    hypothesis.settings.register_profile("hasty", with_deadline)
    hypothesis.settings.load_profile("hasty")
    try:
        look()
        assert hypothesis.settings().deadline == with_deadline.deadline
    finally:
        hypothesis.settings.load_profile("graphstate")
    assert hypothesis.settings().deadline == before


@pytest.mark.parametrize("power", [2, 3])
@gst.given(x=gst.arrays(max_value=2, min_value=1), examples=3)
def test_parameters_and_fixtures_of_pytest_work(x: np.ndarray, power: int, request: pytest.FixtureRequest) -> None:
    assert 1 <= x <= 2
    assert power in (2, 3)
    assert str(power) in request.node.name


class TestMethod:
    @gst.given(x=gst.arrays(), examples=3)
    def test_methods_work(self, x: np.ndarray) -> None:
        assert isinstance(self, TestMethod)
        assert x.shape == ()


def test_a_run_tells_what_it_cost() -> None:
    double = jax.jit(lambda x: x * 2)

    @hypothesis.settings(database=None)
    @gst.given(x=gst.arrays(shape=gst.shapes()), structures=8, examples=40)
    def look(x: np.ndarray) -> None:
        double(x).block_until_ready()

    look()
    tally = look.gst_tally
    assert tally.examples == 40
    assert 3 < len(tally.structures) <= 8
    assert 0 < tally.traces <= 4 * len(tally.structures)
    assert 0 < tally.seconds < 60
    assert str(tally).startswith(f"40 examples, {len(tally.structures)} structures, {tally.traces} traces, ")
    look()
    assert look.gst_tally.traces < tally.traces


def test_other_strategies_are_free_and_may_stand_beside() -> None:
    seen = set()

    @gst.given(x=gst.arrays(), number=st.integers(0, 50), structures=1, examples=50)
    def look(x: np.ndarray, number: int) -> None:
        seen.add(number)

    look()
    assert len(seen) > 10


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({}, "0 strategies and structures=8"), ({"x": ARRAYS, "structures": 0}, "1 strategies and structures=0")],
)
def test_a_test_without_strategies_or_structures_is_an_error(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(
        StrategyError, match=rf"`given` needs a strategy for an argument of the test.*, but {text} came"
    ):
        gst.given(**arguments)


class Compilations:
    """How often XLA compiles."""

    def __init__(self) -> None:
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self.listen)

    def listen(self, event: str, duration_secs: float, **kwargs: Any) -> None:
        self.count += event == "/jax/core/compile/backend_compile_duration"


compilations = Compilations()


def network(weight: Any, x: Any) -> Any:
    return jnp.tanh(weight) * x[:, None]


def test_100_examples_of_one_structure_compile_at_most_20_programs() -> None:
    @hypothesis.settings(database=None)
    @gst.given(case=gst.batched(gst.arrays(shape=(3, 2)), gst.arrays(shape=(3,))), structures=1, examples=100)
    def check(case: BatchCase) -> None:
        gst.check_vmap(network, case)

    jax.clear_caches()
    before = compilations.count
    check()
    assert check.gst_tally.examples == 100
    assert 0 < compilations.count - before <= 20


def test_100_examples_of_8_structures_trace_the_function_at_most_48_times() -> None:
    traces = 0

    def counted(weight: Any, x: Any) -> Any:
        nonlocal traces
        traces += isinstance(x, jax.core.Tracer)
        return network(weight, x)

    @hypothesis.settings(database=None)
    @gst.given(case=gst.batched(gst.arrays(shape=(3, 2)), gst.arrays(shape=(3,))), structures=8, examples=100)
    def check(case: BatchCase) -> None:
        gst.check_vmap(counted, case)

    check()
    assert len(check.gst_tally.structures) > 3
    assert 0 < traces <= 48
