"""The hooks of the plugin for pytest, documented as `graphstate.testing.plugin`.

They only tell tests of `graphstate.testing.given` how thorough to be, and tell the user what these have cost. The
choice goes through the environment: pytest's plugins are imported before everything else, and this one for tests, too,
that have nothing to do with JAX.
"""

import importlib.metadata
import os
import sys
from collections.abc import Generator
from typing import Any

import pytest

__all__ = [
    "pytest_addoption",
    "pytest_configure",
    "pytest_report_header",
    "pytest_runtest_call",
    "pytest_runtest_setup",
    "pytest_terminal_summary",
    "pytest_unconfigure",
]

_SET = pytest.StashKey[dict[str, str | None]]()
_PROPERTY = "graphstate"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options and the setting."""
    group = parser.getgroup("graphstate", "properties of functions of arrays")
    group.addoption(
        "--gst-profile",
        choices=("dev", "ci", "thorough", "debug"),
        help="how thoroughly `graphstate.testing.given` tests: dev (at most 30 examples), ci (the same on every run), "
        "thorough (at least 500 examples, 64 structures), debug (one example)",
    )
    group.addoption("--gst-structures", type=int, metavar="N", help="test every property with N structures")
    parser.addini("gst_cpu_devices", "how many devices JAX makes of the CPU", default="")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Puts the choices where tests and other processes find them."""
    config.addinivalue_line("markers", "gst_devices(n): skipped where JAX has fewer than n devices")
    config.stash[_SET] = {}
    structures = config.getoption("--gst-structures")
    if structures is not None and structures < 1:
        raise pytest.UsageError(f"--gst-structures needs a positive number, but {structures} came.")
    _set(config, "GRAPHSTATE_PROFILE", config.getoption("--gst-profile"))
    _set(config, "GRAPHSTATE_STRUCTURES", structures)
    _set_devices(config, config.getini("gst_cpu_devices"))


def _set(config: pytest.Config, name: str, value: Any) -> None:
    if value is not None:
        config.stash[_SET].setdefault(name, os.environ.get(name))
        os.environ[name] = str(value)


def _set_devices(config: pytest.Config, count: str) -> None:
    if not count or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    if not count.isdigit() or count == "0":
        raise pytest.UsageError(f"gst_cpu_devices needs a positive number, but it is {count!r}.")
    _set(config, "JAX_NUM_CPU_DEVICES", count)  # for a JAX that is imported later, here and elsewhere
    if "jax" not in sys.modules:
        return
    try:
        sys.modules["jax"].config.update("jax_num_cpu_devices", int(count))
    except RuntimeError as error:
        raise pytest.UsageError(
            f"gst_cpu_devices is {count}, but a conftest or plugin has used JAX before ({error}). "
            "Let none do so while it is imported, or set JAX_NUM_CPU_DEVICES."
        ) from error


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leaves the environment as it was."""
    for name, value in config.stash.get(_SET, {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def pytest_report_header(config: pytest.Config) -> str:
    """One line: what was chosen."""
    profile = os.environ.get("GRAPHSTATE_PROFILE", "as the tests say")
    structures = os.environ.get("GRAPHSTATE_STRUCTURES", "as the tests say")
    devices = os.environ.get("JAX_NUM_CPU_DEVICES", "1")
    version = importlib.metadata.version("jax")
    return f"graphstate: profile {profile}, structures {structures}, CPU devices {devices}, jax {version}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test that needs more devices than there are."""
    for mark in item.iter_markers("gst_devices"):
        import jax  # for tests that ask for devices, it is there

        if jax.device_count() < mark.args[0]:
            pytest.skip(f"needs {mark.args[0]} devices, but there are {jax.device_count()}: see gst_cpu_devices")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Keeps what a property has cost with its report, which other processes send."""
    try:
        return (yield)
    finally:
        tally = getattr(getattr(item, "obj", None), "gst_tally", None)
        if tally is not None:
            cost = (tally.examples, len(tally.structures), tally.traces, tally.seconds)
            item.user_properties.append((_PROPERTY, cost))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line: what all properties have cost; with `-v` one for each."""
    reports = [each for group in terminalreporter.stats.values() for each in group]
    costs = {
        each.nodeid: cost
        for each in reports
        if getattr(each, "when", None) == "call"
        for name, cost in each.user_properties
        if name == _PROPERTY
    }
    if not costs:
        return
    if terminalreporter.config.get_verbosity() > 0:
        for nodeid, cost in costs.items():
            terminalreporter.write_line(f"{nodeid}: {_written(cost)}")
    total = [sum(column) for column in zip(*costs.values(), strict=True)]
    properties = "1 property" if len(costs) == 1 else f"{len(costs)} properties"
    terminalreporter.write_line(f"graphstate: {properties}, {_written(total)}")


def _written(cost: Any) -> str:
    examples, structures, traces, seconds = cost
    return f"{examples} examples, {structures} structures, {traces} traces, {seconds:.1f} s"
