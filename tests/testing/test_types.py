"""`from_type` knows the types of graphstate, whichever package is imported first."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

import graphstate as gs
from graphstate.testing import BatchCase
from graphstate.testing._types import register_types
from tests.testing.strategies.searching import some

ROOT = Path(__file__).parents[2]

KINDS = [
    gs.Node, gs.State, gs.ParamState, gs.BatchState, gs.LongTermState, gs.ShortTermState, gs.HiddenState,
    gs.random.RandomState, gs.GraphDef, gs.GraphState, BatchCase,
]  # fmt: skip


@pytest.mark.no_leak_check("very many eager operations")
@pytest.mark.parametrize("kind", KINDS)
def test_from_type_draws_the_types_of_graphstate(kind: type[Any]) -> None:
    register_types()
    assert {type(each) for each in some(st.from_type(kind), 5)} == {kind}


def test_a_class_of_nodes_is_made_by_its_arguments() -> None:
    class Scale(gs.Node):
        def __init__(self, factor: int) -> None:
            self.factor = factor

    assert len({each.factor for each in some(st.from_type(Scale), 20)}) > 3


def run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_graphstate_registers_its_types_where_hypothesis_was_imported_before() -> None:
    code = "import hypothesis.strategies as st, graphstate as gs; print(st.from_type(gs.Node))"
    assert "graphs" in run(code)


def test_hypothesis_registers_them_where_graphstate_was_imported_before() -> None:
    code = (
        "import sys, graphstate as gs; print('hypothesis' in sys.modules);"
        "import hypothesis.strategies as st; from _graphstate_plugins.for_hypothesis import register; register();"
        "print(st.from_type(gs.Node))"
    )
    assert run(code).startswith("False\n_graphs(")


def test_the_entry_point_imports_neither_jax_nor_graphstate() -> None:
    code = (
        "import sys, hypothesis; from _graphstate_plugins import for_hypothesis, for_pytest; for_hypothesis.register();"
        "print([name for name in ('jax', 'graphstate') if name in sys.modules])"
    )
    assert run(code) == "[]\n"
