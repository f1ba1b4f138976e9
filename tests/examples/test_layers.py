"""The examples of layers as their users run them, with few steps; whole runs check their quality themselves."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

RUNS = {
    "transformer_characters": (
        ["--steps", "2", "--length", "5", "--prompt", "Th"],
        r"(?s)\nTh.{5}\n\nloss of held-out text: \d\.\d{3} nats a character\n",
    ),
    "recurrent_windows": (["--steps", "2"], r"state is carried    (0\.\d\d  ){11}0\.\d\d\nstate is reset      0\.\d\d"),
    "resnet_digits": (["--members", "2", "--epochs", "1"], r"one network   0\.\d{3}\nthe ensemble  0\.[5-9]\d{2}\n"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_small_run_prints_what_it_has_reached(name: str) -> None:
    arguments, expected = RUNS[name]
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(expected, done.stdout), done.stdout


@pytest.mark.parametrize("name", RUNS)
def test_it_is_short(name: str) -> None:
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) < 150
