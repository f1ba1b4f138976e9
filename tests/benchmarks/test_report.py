"""`benchmarks/_report.py` and `_timing.py`: how figures are compared, judged and printed."""

import importlib
from types import ModuleType

import pytest

from tests.benchmarks.running import ROOT, table


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("_report")


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("_timing")


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ((0.9, 1.0, 1.1), "met"),
        ((1.0, 1.1, 1.2), "met by median"),
        ((1.0, 1.2, 1.3), "missed by median"),
        ((1.2, 1.3, 1.4), "missed"),
    ],
)
def test_a_verdict_says_whether_the_spread_supports_it(
    report: ModuleType, timing: ModuleType, figures: tuple[float, float, float], verdict: str
) -> None:
    assert report.at_most(1.1).verdict(timing.Spread(*figures)) == verdict


def test_a_lower_limit_is_judged_from_the_other_side(report: ModuleType, timing: ModuleType) -> None:
    assert report.at_least(5).verdict(timing.Spread(5, 6, 7)) == "met"
    assert report.at_least(5).verdict(timing.Spread(3, 4, 6)) == "missed by median"


def test_ways_take_turns_forwards_and_backwards(timing: ModuleType) -> None:
    taken: list[str] = []
    timing.alternate({name: lambda name=name: taken.append(name) for name in "abc"}, 3)
    assert "".join(taken) == "abccbaabc"


def test_ratios_are_taken_within_a_round(timing: ModuleType) -> None:
    found = timing.ratios_of({"base": [1.0, 10.0, 2.0], "other": [2.0, 20.0, 4.0]})
    assert found.base == 2.0
    assert found.ratios == {"other": timing.Spread(2.0, 2.0, 2.0)}


def test_one_limit_has_a_column_and_several_stand_in_the_cells(report: ModuleType, timing: ModuleType) -> None:
    figures = {"a": timing.Spread(1.0, 1.5, 2.0), "b": timing.Spread(3.0, 3.0, 3.0)}
    one = report.Row({"layers": 2}, figures, dict.fromkeys("ab", report.at_most(2)))
    two = report.Row({"layers": 2}, figures, {"a": report.at_most(1.2), "b": report.at_most(2)})
    head, (cells,) = table(str(report.Table("One", [one])))
    assert dict(zip(head, cells, strict=True)) == {
        "layers": "2",
        "a": "1.50 (1.00 to 2), met",
        "b": "3, missed",
        "limit": "at most 2",
    }
    head, (cells,) = table(str(report.Table("Two", [two])))
    assert cells == ["2", "1.50 (1.00 to 2), at most 1.2: missed by median", "3, at most 2: missed"]


def test_what_a_row_lacks_is_a_dash(report: ModuleType, timing: ModuleType) -> None:
    rows = [report.Row({"layers": 1}, {"a": timing.Spread.of(2.5)}), report.Row({"layers": 2}, {})]
    assert table(str(report.Table("Some", rows))) == (["layers", "a"], [["1", "2.50"], ["2", "-"]])
