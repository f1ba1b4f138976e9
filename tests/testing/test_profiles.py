"""Profiles: how thorough a run is, chosen by the environment, and never in place of hypothesis' own."""

import hypothesis
import numpy as np
import pytest
from hypothesis import Phase

import graphstate.testing as gst
from graphstate.errors import StrategyError
from graphstate.testing._profiles import PROFILES, chosen_profile, structures_of


def examples_of(monkeypatch: pytest.MonkeyPatch, name: str, examples: int | None) -> int:
    monkeypatch.setenv("GRAPHSTATE_PROFILE", name)
    seen = []

    @hypothesis.settings(database=None)
    @gst.given(x=gst.arrays(), examples=examples)
    def look(x: np.ndarray) -> None:
        seen.append(x)

    look()
    return len(seen)


@pytest.mark.parametrize(
    ("name", "examples", "expected"),
    [("dev", None, 30), ("dev", 10, 10), ("dev", 50, 30), ("ci", 20, 20), ("debug", 20, 1), ("thorough", 20, 500)],
)
def test_a_profile_bounds_the_number_of_examples(
    name: str, examples: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert examples_of(monkeypatch, name, examples) == expected


def test_without_a_profile_a_test_has_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPHSTATE_PROFILE", raising=False)
    own = hypothesis.settings(max_examples=7)
    assert chosen_profile().settings(own, None).max_examples == 7
    assert chosen_profile().settings(own, 9).max_examples == 9
    assert chosen_profile().settings(own, 9).deadline is None
    assert hypothesis.HealthCheck.too_slow in chosen_profile().settings(own, 9).suppress_health_check


def test_ci_is_the_same_on_every_run_and_debug_does_not_shrink() -> None:
    ci = PROFILES["ci"].settings(hypothesis.settings(), None)
    assert (ci.derandomize, ci.database, ci.print_blob) == (True, None, True)
    assert Phase.shrink not in PROFILES["debug"].settings(hypothesis.settings(), None).phases


def test_structures_are_those_of_the_test_the_profile_or_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPHSTATE_PROFILE", raising=False)
    monkeypatch.delenv("GRAPHSTATE_STRUCTURES", raising=False)
    assert structures_of(8) == 8
    monkeypatch.setenv("GRAPHSTATE_PROFILE", "thorough")
    assert structures_of(8) == 64
    monkeypatch.setenv("GRAPHSTATE_STRUCTURES", "3")
    assert structures_of(8) == 3


def test_a_profile_that_there_is_not_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHSTATE_PROFILE", "lazy")
    with pytest.raises(StrategyError, match=r"is one of dev, ci, thorough, debug, but it is 'lazy'\. Leave it out"):
        chosen_profile()
