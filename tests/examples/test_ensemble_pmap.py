"""The example as its users run it, with few members and one epoch."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "ensemble_pmap.py"
OPTIONS = (str(EXAMPLE), "--members=8", "--epochs=1")


def run(devices: int, *launcher: str) -> str:
    command = [sys.executable, "-W", "error", *launcher, *OPTIONS, f"--devices={devices}"]
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def spread() -> str:
    return run(8)


def test_members_come_out_alike_on_one_device_and_on_eight(spread: str) -> None:
    together = run(1)
    assert re.findall(r"^ +(\d)    (\d) to  \2 ", spread, re.MULTILINE) == [(str(each),) * 2 for each in range(8)]
    assert re.findall(r"^ +0    0 to  7 ", together, re.MULTILINE) != []
    accuracies = re.findall(r"\d\.\d{3}", spread)
    assert len(accuracies) == 9
    assert accuracies == re.findall(r"\d\.\d{3}", together)
    assert float(accuracies[-1]) > 0.5


def test_they_come_out_alike_in_two_processes(spread: str) -> None:
    told = run(8, "-m", "graphstate.launch", "--processes=2", "--devices=4")
    for number, held in enumerate([range(4), range(4, 8)]):
        mine = "\n".join(re.findall(rf"^\[{number}\] (.*)$", told, re.MULTILINE))
        for member in held:
            (accuracy,) = re.findall(rf"^ +\d+ +{member} to +{member}  (.*)$", mine, re.MULTILINE)
            assert f"  {member} to  {member}  {accuracy}\n" in spread
        assert mine.splitlines()[-1] == spread.splitlines()[-1]
