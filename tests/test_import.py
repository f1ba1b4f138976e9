"""What `import graphstate` does besides: as little as can be."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def imported(*packages: str) -> list[str]:
    """Those packages that an import of graphstate brings along."""
    done = run(f"import sys, graphstate; print(*[name for name in {packages} if name in sys.modules])")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_it_starts_no_backend() -> None:
    assert run("import graphstate", JAX_PLATFORMS="none").returncode == 0
    started = run("import graphstate, jax; jax.devices()", JAX_PLATFORMS="none")
    assert "Unable to initialize backend 'none'" in started.stderr


def test_it_does_not_import_treescope() -> None:
    assert imported("treescope", "jax") == ["jax"]


def test_it_imports_no_extra() -> None:
    extras = ("brainstate", "equinox", "flax", "hypothesis", "matplotlib", "optax", "orbax", "pytest", "rich", "tqdm")
    assert imported(*extras) == []


def test_it_does_not_import_pallas() -> None:
    assert imported("jax._src.pallas", "jax.extend", "jax.experimental.checkify", "jax") == ["jax"]


def test_it_warns_of_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:graphstate", "-c", "import graphstate"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
