"""Each benchmark, run as a person runs it with `--quick --json`: what it prints is whole and consistent."""

import math
from typing import Any

import pytest

from tests.benchmarks.running import PEERS, ROOT, are_installed, quick, table

NEEDS_PEERS = pytest.mark.skipif(not are_installed(*PEERS), reason="needs the extra `bench`")

BENCHMARKS = {
    "dispatch": ["A warm call: ratio to pure JAX"],
    "first_call": [
        "The first call, wall time: ratio to pure JAX",
        "The first call, CPU time: ratio to pure JAX",
    ],
    "ensemble": ["A warm call for 2 members: ratio to pure JAX"],
    "pmap": ["A warm call for 2 members: ratio to pure JAX"],
    "scaling": [
        "A device's part of 64 members, times devices: ratio to one device",
        "A device's part of a divided batch, times devices: ratio to one device",
    ],
    "linear": [
        "By the number of States: ratio to pure JAX",
        "By the number of calls made before: ratio to pure JAX",
        "By the number of models alive: ratio to pure JAX",
    ],
    "state_access": ["Access: ratio to a property", "A forward pass without `jit`: ratio to pure JAX"],
    "graph_ops": ["Walking a model: how many times the cost of graphstate"],
    "memory": ["Memory for one call at width 8: ratio to pure JAX", "What 50 calls leave behind"],
    "import_time": ["Importing, beside `import jax` alone"],
    "silent": ["What came"],
}


@pytest.fixture(params=[pytest.param(name, marks=NEEDS_PEERS if name == "silent" else ()) for name in BENCHMARKS])
def benchmark(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def found(benchmark: str) -> Any:
    return quick(f"{benchmark}.py")


def test_all_are_here() -> None:
    files = {file.stem for file in (ROOT / "benchmarks").glob("[!_]*.py")}
    assert files == {*BENCHMARKS, "run"}


def test_it_answers_a_question_with_tables(benchmark: str, found: Any) -> None:
    assert found["question"].endswith("?")
    assert found["question"] in (ROOT / "benchmarks" / f"{benchmark}.py").read_text()
    assert [table["title"] for table in found["tables"]] == BENCHMARKS[benchmark]


def test_it_says_where_and_when_but_names_no_place_of_this_machine(found: Any) -> None:
    assert "cpu" in found["machine"]
    assert "jax " in found["versions"]
    assert found["date"].startswith("20")
    assert str(ROOT) not in str(found)


def test_each_table_is_printed_with_a_cell_for_each_figure(found: Any) -> None:
    for printed in found["tables"]:
        head, rows = table(printed["text"])
        assert len(rows) == len(printed["rows"]) > 0
        for cells, row in zip(rows, printed["rows"], strict=True):
            filled = {name for name, cell in zip(head, cells, strict=True) if cell != "-"}
            named = {name for name, label in row["labels"].items() if label != "-"}
            assert named | set(row["figures"]) == filled - {"limit"}


def test_each_figure_lies_between_its_quartiles_and_each_verdict_follows_from_it(found: Any) -> None:
    for row in [row for each in found["tables"] for row in each["rows"]]:
        for spread in row["figures"].values():
            assert -math.inf < spread["low"] <= spread["median"] <= spread["high"] < math.inf
        for name, judged in row["limits"].items():
            side, number = judged["limit"].rsplit(" ", 1)
            median = row["figures"][name]["median"]
            met = median <= float(number) if side == "at most" else median >= float(number)
            assert judged["verdict"].split()[0] == ("met" if met else "missed")


def test_a_call_needs_no_more_memory_than_in_pure_jax_and_leaves_nothing_behind() -> None:
    reserved, loops = (table["rows"] for table in quick("memory.py")["tables"])
    assert {judged["verdict"] for row in reserved for judged in row["limits"].values()} == {"met"}
    ours = [row["figures"] for row in loops if "graphstate" in row["labels"]["way"]]
    assert len(ours) == 2
    for figures in ours:
        assert figures["arrays"]["median"] == figures["arrays, all dropped"]["median"] == 0


def test_64_devices_share_the_work_of_an_ensemble_and_hear_of_no_other() -> None:
    mapped, divided = (table["rows"] for table in quick("scaling.py")["tables"])
    assert {row["labels"]["devices"] for row in mapped} == {1, 2, 64}
    for row in mapped:
        shares = {name: spread["median"] for name, spread in row["figures"].items()}
        assert shares["operations"] == pytest.approx(1, rel=0.05)
        assert 0.5 < shares["temporary memory"] < 1.05
        assert shares["collectives"] == 0
    assert [row["labels"]["which"] for row in divided] == ["-", "all-reduce", "all-reduce"]
    assert [row["figures"]["collectives"]["median"] for row in divided] == [0, 1, 1]


@NEEDS_PEERS
def test_nothing_is_wrong_in_silence_here() -> None:
    (came,) = quick("silent.py")["tables"]
    for outcomes in [row["labels"] for row in came["rows"]]:
        assert outcomes["graphstate"] != "wrong", outcomes
        assert "wrong" in outcomes.values(), outcomes
