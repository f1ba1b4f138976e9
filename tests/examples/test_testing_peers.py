"""The checks on modules of other libraries, where these are installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("library", ["equinox", "flax"])
def test_a_module_of_another_library_is_checked_through_a_pure_function(library: str, tmp_path: Path) -> None:
    pytest.importorskip(library, reason="is part of the extra `bench`")
    example = ROOT / "examples" / f"testing_{library}.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(example)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "-c", os.devnull],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
