"""What `graphstate.testing` offers, and what its import brings along."""

import subprocess
import sys
from pathlib import Path

import pytest

import graphstate.testing as gst

ROOT = Path(__file__).parents[2]


def test_every_name_that_it_lists_is_there_in_order() -> None:
    assert gst.__all__ == sorted(gst.__all__)
    for name in gst.__all__:
        assert getattr(gst, name).__name__ == name
    assert set(gst.__all__) <= set(dir(gst))


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'graphstate\.testing' has no attribute 'check_luck'"):
        _ = gst.check_luck


def test_its_import_and_its_checks_need_neither_hypothesis_nor_pytest() -> None:
    code = (
        "import sys; sys.modules.update(hypothesis=None, pytest=None); import graphstate.testing as gst; "
        "print(gst.BatchCase, *[name for name in ('hypothesis', 'pytest') if sys.modules[name]])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "<class 'graphstate.testing._case.BatchCase'>\n"), done.stderr
