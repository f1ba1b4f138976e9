"""The examples that divide one network over devices, as their users run them, on eight devices and on one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def run(example: str, *options: str, launcher: tuple[str, ...] = ()) -> str:
    command = [sys.executable, "-W", "error", *launcher, str(ROOT / "examples" / example), *options]
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def accuracies(told: str) -> list[float]:
    """The last number of each line of the table."""
    return [float(number) for number in re.findall(r" (\d\.\d{3})$", told, re.MULTILINE)]


def assert_close(told: list[float], others: list[float]) -> None:
    np.testing.assert_allclose(told, others, atol=0.01)


@pytest.fixture(scope="module")
def divided() -> list[float]:
    return accuracies(run("data_parallel.py", "--devices=8"))


def test_a_divided_batch_gives_the_accuracies_of_one_device(divided: list[float]) -> None:
    assert len(divided) == 8
    assert_close(divided, accuracies(run("data_parallel.py", "--devices=1")))


def test_so_it_does_in_two_processes(divided: list[float]) -> None:
    launcher = ("-m", "graphstate.launch", "--processes=2", "--devices=4")
    told = run("data_parallel.py", "--epochs=1", launcher=launcher)
    for number in range(2):
        assert_close(accuracies("\n".join(re.findall(rf"^\[{number}\].*$", told, re.MULTILINE))), divided[:1])


def test_a_divided_network_gives_the_accuracies_of_one_device() -> None:
    spread, alone = run("fsdp.py", "--devices=8"), run("fsdp.py", "--devices=1")
    assert re.findall(r"(\d+) of 113696", spread) == ["29024", "16352"]
    assert re.findall(r"(\d+) of 113696", alone) == ["113696", "113696"]
    assert len(accuracies(spread)) == 2
    assert_close(accuracies(spread), accuracies(alone))
