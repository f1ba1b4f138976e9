"""The example as its users run it, with few members and one epoch."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "ensemble_pmap.py"


def run(devices: int) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLE), "--members=8", "--epochs=1", f"--devices={devices}"]
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_members_come_out_alike_on_one_device_and_on_eight() -> None:
    spread, together = run(8), run(1)
    assert re.findall(r"^ +(\d)    (\d) to  \2 ", spread, re.MULTILINE) == [(str(each),) * 2 for each in range(8)]
    assert re.findall(r"^ +0    0 to  7 ", together, re.MULTILINE) != []
    accuracies = re.findall(r"\d\.\d{3}", spread)
    assert len(accuracies) == 9
    assert accuracies == re.findall(r"\d\.\d{3}", together)
    assert float(accuracies[-1]) > 0.5
