"""The plugin for pytest, as a user runs it: options, setting, mark, header and summary."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import graphstate.testing.plugin
from _graphstate_plugins import for_pytest
from graphstate.testing._profiles import PROFILES

ROOT = Path(__file__).parents[2]
NAME = "graphstate.testing.plugin"

PROPERTY = """
import hypothesis
import pytest
import graphstate.testing as gst

@gst.given(x=gst.arrays(shape=gst.shapes()), examples=40)
def test_one(x):
    assert x.ndim < 3

@pytest.mark.parametrize("n", [1, 2])
@gst.given(x=gst.arrays(), examples=10)
def test_two(x, n):
    assert x.ndim == 0

def test_none():
    assert hypothesis.settings().max_examples == 100

@pytest.mark.gst_devices(3)
def test_three():
    pass

@pytest.mark.gst_devices(4)
def test_four():
    pass
"""


def run(path: Path, *options: str, test: str = PROPERTY, ini: str = "", plugin: str = NAME, **settings: str) -> str:
    (path / "test_it.py").write_text(test)
    (path / "pytest.ini").write_text(f"[pytest]\n{ini}\n")
    hidden = ("JAX_NUM_CPU_DEVICES", "GRAPHSTATE_PROFILE", "GRAPHSTATE_STRUCTURES", "CI", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-m", "pytest", "-p", plugin, "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        command, cwd=path, env={**environment, "PYTHONPATH": str(ROOT), **settings}, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def test_a_run_tells_its_choices_at_the_start_and_its_costs_at_the_end(tmp_path: Path) -> None:
    text = run(tmp_path, "-rs", ini="gst_cpu_devices = 3")
    assert "graphstate: profile as the tests say, structures as the tests say, CPU devices 3, jax " in text
    assert re.search(
        r"^graphstate: 3 properties, 60 examples, \d+ structures, \d+ traces, \d+\.\d s$", text, re.MULTILINE
    )
    assert "5 passed, 1 skipped" in text
    assert "needs 4 devices, but there are 3: see gst_cpu_devices" in text


def test_options_choose_for_the_run_and_not_for_hypothesis(tmp_path: Path) -> None:
    text = run(tmp_path, "-v", "--gst-profile", "dev", "--gst-structures", "2", JAX_NUM_CPU_DEVICES="4")
    assert "graphstate: profile dev, structures 2, CPU devices 4, jax " in text
    assert re.search(r"^test_it\.py::test_one: 30 examples, [12] structures, ", text, re.MULTILINE)
    assert "6 passed" in text


def test_several_processes_have_one_summary(tmp_path: Path) -> None:
    pytest.importorskip("xdist", reason="is part of the extra `test`")
    text = run(tmp_path, "-n", "2", "--gst-profile", "dev", ini="gst_cpu_devices = 4")
    assert len(re.findall(r"^graphstate: 3 properties, 50 examples, ", text, re.MULTILINE)) == 1
    assert "6 passed" in text


@pytest.mark.parametrize(
    ("options", "ini", "message"),
    [
        (("--gst-structures", "0"), "", "--gst-structures needs a positive number, but 0 came."),
        (("--gst-profile", "lazy"), "", "invalid choice: 'lazy'"),
        ((), "gst_cpu_devices = many", "gst_cpu_devices needs a positive number, but it is 'many'."),
    ],
)
def test_a_wrong_choice_is_an_error(options: tuple[str, ...], ini: str, message: str, tmp_path: Path) -> None:
    assert message in run(tmp_path, *options, test="", ini=ini)


def test_devices_can_be_chosen_until_jax_is_used(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("import jax\n")
    test = "import jax\ndef test_it(): assert jax.device_count() == 2\n"
    assert "1 passed" in run(tmp_path, test=test, ini="gst_cpu_devices = 2")
    (tmp_path / "conftest.py").write_text("import jax\njax.devices()\n")
    text = run(tmp_path, test=test, ini="gst_cpu_devices = 2")
    assert "gst_cpu_devices is 2, but a conftest or plugin has used JAX before" in text


def test_a_run_without_properties_imports_no_jax_and_says_nothing_at_the_end(tmp_path: Path) -> None:
    test = "import sys\ndef test_it(): assert 'jax' not in sys.modules\n"
    text = run(tmp_path, "-q", "-p", f"no:{NAME}", test=test, plugin="_graphstate_plugins.for_pytest")
    assert "1 passed" in text
    assert "properties" not in text


def test_its_documented_name_has_all_its_hooks() -> None:
    assert graphstate.testing.plugin.__all__ == for_pytest.__all__
    for name in for_pytest.__all__:
        assert getattr(graphstate.testing.plugin, name) is getattr(for_pytest, name)


def test_pyproject_names_the_plugins() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points["pytest11"] == {"graphstate.testing.plugin": "_graphstate_plugins.for_pytest"}
    assert points["hypothesis"] == {"graphstate": "_graphstate_plugins.for_hypothesis:register"}


def test_its_profiles_are_those_that_there_are() -> None:
    parser = pytest.Parser(_ispytest=True)
    for_pytest.pytest_addoption(parser)
    assert "{" + ",".join(filter(None, PROFILES)) + "}" in parser.optparser.format_help()
