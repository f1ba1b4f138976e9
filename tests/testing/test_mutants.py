"""Each faulty map, layer and step is found by the check that is for it."""

import re

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
