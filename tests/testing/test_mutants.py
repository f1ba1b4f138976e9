"""Each faulty map, layer and step is found by the check that is for it."""

import re

import hypothesis
import pytest

import graphstate.testing as gst
from graphstate.errors import PropertyError
from tests.testing.mutants import CASES, MUTANTS

pytestmark = pytest.mark.no_leak_check(reason="counts traces, and runs many eager operations")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_is_found(mutant) -> None:
    for case in CASES[mutant.kind]()[:1]:
        with pytest.raises(PropertyError) as caught:
            mutant.run(case)
        text = str(caught.value)
        assert text.startswith(f"{mutant.check}: ")
        assert len(text) <= 6000
        assert len(text.splitlines()) <= 60
        assert re.search("\n  case: ", text)


def test_there_are_at_least_forty_and_one_for_each_check() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40
    checks = {name for name in gst.__all__ if name.startswith("check_")} - {"check_module"}
    assert checks == {mutant.check for mutant in MUTANTS}


def search(mutant):
    """Looks for the mistake with up to 100 examples of a few structures."""
    faulty = mutant.make()

    @gst.given(case=STRATEGIES[mutant.kind], examples=100)
    @hypothesis.settings(phases=(hypothesis.Phase.generate,), database=None)
    def look(case):
        getattr(gst, mutant.check)(faulty, case, batched=mutant.batched)

    look()


LANES = hypothesis.strategies.sampled_from([2, 3])
STRATEGIES = {
    "vector": gst.batched(gst.arrays("float32", (3,)), axis_size=LANES, in_axes=0),
    "pair": gst.batched(gst.arrays("float32", (3,)), gst.arrays("float32", (3,)), axis_size=LANES, in_axes=0),
    "keyed": gst.batched(gst.keys(), gst.arrays("float32", (3,)), axis_size=LANES, in_axes=(None, 0)),
}
DRAWN = [mutant for mutant in MUTANTS if mutant.kind in STRATEGIES and mutant.check != "check_pickle"]


@pytest.mark.parametrize("mutant", DRAWN[::12], ids=lambda mutant: mutant.name)
def test_some_are_found_in_a_hundred_examples(mutant) -> None:
    with pytest.raises(PropertyError, match=f"{mutant.check}: "):
        search(mutant)


@pytest.mark.sweep
@pytest.mark.parametrize("mutant", DRAWN, ids=lambda mutant: mutant.name)
def test_all_are_found_in_a_hundred_examples(mutant) -> None:
    with pytest.raises(PropertyError, match=f"{mutant.check}: "):
        search(mutant)
