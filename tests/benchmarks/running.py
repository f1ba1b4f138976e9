"""Runs a benchmark as a person runs it; what it measures is not judged here."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["PEERS", "ROOT", "are_installed", "quick", "run", "table"]

ROOT = Path(__file__).parents[2]
PEERS = ("brainstate", "equinox", "flax")


def are_installed(*packages: str) -> bool:
    return all(map(importlib.util.find_spec, packages))


def run(benchmark: str, *arguments: str) -> str:
    """What a benchmark prints."""
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / benchmark, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def quick(benchmark: str) -> Any:
    """What a benchmark finds with few rounds and small sizes."""
    return json.loads(run(benchmark, "--quick", "--json"))


def table(text: str) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a printed table."""
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return head, rows
