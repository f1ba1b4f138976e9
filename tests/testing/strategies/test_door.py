"""`graphstate.testing.strategies`: its names, and what is said where hypothesis is not installed."""

import importlib
import sys

import pytest

import graphstate.testing
import graphstate.testing.strategies
from graphstate.errors import MissingPackageError


def test_every_strategy_is_a_name_of_testing() -> None:
    names = graphstate.testing.strategies.__all__
    assert names == sorted(names)
    assert set(names) <= set(graphstate.testing.__all__)
    for name in names:
        assert getattr(graphstate.testing, name) is getattr(graphstate.testing.strategies, name)
        assert "Example:" in getattr(graphstate.testing, name).__doc__


def test_without_hypothesis_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(vars(graphstate.testing), "arrays", raising=False)
    for name in list(sys.modules):
        if name.startswith("graphstate.testing.strategies"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(
        MissingPackageError,
        match=r'`graphstate\.testing\.arrays` needs hypothesis, .* `pip install "graphstate\[testing\]"`',
    ):
        _ = graphstate.testing.arrays


def test_another_module_that_is_missing_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: (_ for _ in ()).throw(ModuleNotFoundError(name=name)))
    monkeypatch.delitem(vars(graphstate.testing), "arrays", raising=False)
    with pytest.raises(ModuleNotFoundError) as raised:
        _ = graphstate.testing.arrays
    assert not isinstance(raised.value, MissingPackageError)
