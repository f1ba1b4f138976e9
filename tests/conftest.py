"""The strictest world that JAX offers, on eight CPU devices, set up before anything imports JAX."""

import os

# XLA's thread pool is sized by NPROC: below twice the devices, un-awaited programs with collectives can deadlock.
os.environ.setdefault("NPROC", "32")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

import gc
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# On a busy machine a first example compiles for seconds; CI runs the same examples each time.
hypothesis.settings.register_profile(
    "graphstate",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("graphstate")


collect_ignore = ["nn/references/make.py"]  # a script that needs PyTorch


MAPPED = Path("/proc/self/maps")
MOST_MAPPED = 30_000
"""Linux lets a process map 65,530 pieces of memory, and XLA takes some for each program that it keeps."""


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> None:
    """Forgets the programs of earlier modules before there are too many of them: XLA would crash."""
    if MAPPED.exists() and MAPPED.read_bytes().count(b"\n") > MOST_MAPPED:
        jax.clear_caches()
        gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def short_search(few_programs: None) -> None:
    """The search for leaked tracers looks at all objects that the collector knows: none is of those from before."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test in which a tracer outlives its trace.

    JAX then keeps no cache of eager operations and traces more often than it would: a test that counts traces,
    or runs very many eager operations, is marked with `no_leak_check` and the reason.
    """
    if request.node.get_closest_marker("no_leak_check"):
        yield
        return
    with jax.checking_leaks():
        yield
