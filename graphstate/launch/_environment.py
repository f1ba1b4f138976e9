"""What a process must find in its environment, before it imports JAX."""

import os
from collections.abc import Mapping

from graphstate.parallel._initialize import Seat

__all__ = ["environment_of"]


def environment_of(seat: Seat, devices: int, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of one process.

    Args:
        seat: its place among all.
        devices: how many devices it has.
        given: the environment of the launcher.
    """
    flags = [flag for flag in given.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in flag]
    if not any("cpu_collective_timeout" in flag for flag in flags):
        flags.append(f"--xla_cpu_collective_timeout_seconds={int(seat.timeout)}")
    threads = max(2 * devices, os.cpu_count() or 1)
    return {
        **given,
        **seat.environment(),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        # XLA's thread pool is sized by NPROC: below twice the devices, un-awaited programs with collectives deadlock.
        "NPROC": str(max(threads, _number(given.get("NPROC")))),
        "XLA_FLAGS": " ".join(flags),
        # Sets of strings are then walked through in the same order by all.
        "PYTHONHASHSEED": given.get("PYTHONHASHSEED", "0"),
        # gRPC would ask a proxy for the way to this very machine.
        "no_grpc_proxy": ",".join(filter(None, [given.get("no_grpc_proxy") or given.get("no_proxy"), "127.0.0.1"])),
    }


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
