"""A launched script finds what it would find if Python ran it."""

import io
import os
from pathlib import Path

import pytest

from graphstate import launch

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("safe", "first"), [("", PROGRAMS), ("1", ROOT)])
def test_modules_are_looked_for_beside_the_script_unless_that_is_not_safe(
    safe: str, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "examples")]))
    monkeypatch.setenv("PYTHONSAFEPATH", safe)
    output = io.StringIO()
    assert launch.run(PROGRAMS / "path.py", processes=1, output=output) == 0
    assert output.getvalue() == f"[0] {first}\n"
