"""The plugin for pytest: `--gst-profile`, `--gst-structures`, the setting `gst_cpu_devices`, the mark `gst_devices`.

It is there wherever graphstate is installed. `pytest -p no:graphstate.testing.plugin` leaves it out.
"""

from _graphstate_plugins.for_pytest import (
    pytest_addoption,
    pytest_configure,
    pytest_report_header,
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_terminal_summary,
    pytest_unconfigure,
)

__all__ = [
    "pytest_addoption",
    "pytest_configure",
    "pytest_report_header",
    "pytest_runtest_call",
    "pytest_runtest_setup",
    "pytest_terminal_summary",
    "pytest_unconfigure",
]
