"""The example of a layer with a bug, as a newcomer runs it, with the message that it promises."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "test_my_layer.py"


def test_it_passes_and_prints_the_message_that_it_shows(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "pytest", "-s", "-p", "no:cacheprovider", str(EXAMPLE)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "-c", os.devnull],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    shown = [line.strip() for line in EXAMPLE.read_text().splitlines() if line.startswith("    check_vmap: ")]
    assert len(shown) == 1
    assert shown[0] in done.stdout


def test_it_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60
