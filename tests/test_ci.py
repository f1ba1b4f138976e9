"""`.ci/run` tests the oldest versions that pyproject.toml states, whatever they are."""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = (ROOT / ".ci" / "run").read_text()


def test_the_oldest_versions_are_those_of_pyproject() -> None:
    (function,) = re.findall(r"^oldest\(\) \{.*?^\}", SCRIPT, re.MULTILINE | re.DOTALL)
    done = subprocess.run(["bash", "-c", f"{function}\noldest"], cwd=ROOT, check=True, capture_output=True, text=True)
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert done.stdout.splitlines() == [re.sub(r">=([\d.]+).*", r"==\1", each) for each in stated]
    assert {each.split("==")[0] for each in done.stdout.splitlines()} == {"jax", "jaxlib", "numpy", "treescope"}


def test_no_version_is_repeated_in_the_script() -> None:
    assert not re.search(r"(jax|jaxlib|numpy)[=<>~]=", SCRIPT)
