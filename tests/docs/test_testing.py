"""docs/testing.md: its examples do what it says, and no check is left out."""

import ast
import contextlib
import io
import re
from pathlib import Path

import pytest

import graphstate.testing as gst
from graphstate.errors import PropertyError

TEXT = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def promises(code: str) -> dict[int, str]:
    """The comments behind statements, by the number of the line."""
    return {
        number: line.split("  # ")[1]
        for number, line in enumerate(code.splitlines(), start=1)
        if re.search(r"  # (PropertyError: \w+|\d+)$", line)
    }


@pytest.mark.no_leak_check("checks look for leaks themselves")
def test_its_examples_raise_and_print_what_it_says() -> None:
    names: dict[str, object] = {"__name__": "testing"}
    for code in BLOCKS:
        promised = promises(code)
        for statement in ast.parse(code).body:
            run = compile(ast.Module([statement], []), "docs/testing.md", "exec")
            printed, promise = io.StringIO(), promised.get(statement.end_lineno or 0, "")
            if promise.startswith("PropertyError"):
                with pytest.raises(PropertyError, match=promise.removeprefix("PropertyError: ")):
                    exec(run, names)
                continue
            with contextlib.redirect_stdout(printed):
                exec(run, names)
            assert printed.getvalue().strip() == promise


def test_it_tells_of_every_check() -> None:
    described = re.findall(r"^\*\*`(check_\w+)`\*\*", TEXT, re.MULTILINE)
    assert sorted(described) == [name for name in gst.__all__ if name.startswith("check_")]
    for name in described:
        assert f"gst.{name}(" in "".join(BLOCKS)
