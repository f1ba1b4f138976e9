"""`initialize`: the processes of one program find each other.

After it `jax.devices()` are the devices of all processes, and an array may be spread over them. Each process runs the
same script.
"""

import atexit
import os
import socket
from dataclasses import dataclass
from typing import Any

import jax

from graphstate._compat import is_in_cluster
from graphstate._lift.lanes._agreement import agreement
from graphstate.errors import ProcessError

__all__ = ["Seat", "initialize"]

_MARGIN = 30
_FOR_EVER = 7 * 24 * 3600


@dataclass(frozen=True)
class Seat:
    """The place of one process among those that `graphstate.launch` starts, as its environment tells it.

    Attributes:
        address: where process 0 coordinates all.
        processes: how many there are.
        process: which of them this one is.
        timeout: for how many seconds each waits for the others.
    """

    address: str
    processes: int
    process: int
    timeout: float

    def environment(self) -> dict[str, str]:
        """The variables that say it."""
        return {f"GRAPHSTATE_LAUNCH_{name.upper()}": str(value) for name, value in vars(self).items()}

    @classmethod
    def take(cls) -> "Seat | None":
        """The seat of this process, which the processes that it may start itself do not hear of; None without one."""
        found = {name: os.environ.pop(f"GRAPHSTATE_LAUNCH_{name.upper()}", None) for name in cls.__annotations__}
        if found["address"] is None:
            return None
        return cls(
            found["address"],
            int(found["processes"] or 1),
            int(found["process"] or 0),
            float(found["timeout"] or agreement.patience),
        )


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: float = 300.0,
    **options: Any,
) -> None:
    """Lets the processes of one program find each other, before the first of them uses a device.

    It is `jax.distributed.initialize`, and may stand in every script: it does nothing where that is done already, as in
    what `python -m graphstate.launch` runs, and nothing where there is one process only. On the clusters that JAX knows
    (Slurm, the hosts of a TPU, ...) it needs no arguments. See `jax.distributed` for what these mean.

    All processes run the same script, and make the same calls in the same order. `pmap`, `data_parallel`, `shard`,
    `replicate` and `place` see to it, when they are first called over devices of several processes, that all of them
    have the same model, and the same values for what each of them passes whole.

    On a cluster it is for whoever starts the processes to end all when one has failed (Slurm: `srun
    --kill-on-bad-exit`), as `graphstate.launch` does: JAX lets one that fails wait at its exit for the others, which
    may wait for it.

    Args:
        coordinator_address: where process 0 coordinates all, as "10.0.0.1:1234".
        num_processes: how many there are.
        process_id: which of them this one is, from 0.
        timeout: for how many seconds this process waits for the others, to come up, and later to agree with them.
        **options: further arguments of `jax.distributed.initialize`.

    Raises:
        ProcessError: something else listens where process 0 is to coordinate.

    Example:
        >>> import graphstate as gs, jax
        >>> gs.parallel.initialize()
        >>> jax.process_count()
        1
    """
    if jax.distributed.is_initialized():
        return
    seat = Seat.take()
    if seat is not None:
        _take_seat(seat)
        return
    agreement.patience = timeout
    given = (coordinator_address, num_processes, process_id, *options.values())
    is_told = any(each is not None for each in given) or "JAX_COORDINATOR_ADDRESS" in os.environ
    if num_processes == 1 or not (is_told or is_in_cluster()):
        return
    if process_id == 0 and coordinator_address is not None:
        _check_free(options.get("coordinator_bind_address") or coordinator_address)
    options.setdefault("initialization_timeout", int(timeout))
    jax.distributed.initialize(coordinator_address, num_processes, process_id, **options)
    atexit.register(agreement.leave)  # before what JAX has registered, which waits for the others


def _take_seat(seat: Seat) -> None:
    agreement.patience = seat.timeout
    if seat.processes == 1:
        return
    jax.config.update("jax_check_proxy_envs", False)  # it would warn of them, but none is asked: see the launcher
    # Who has started the processes sees when one dies, and ends the others: here nothing else has to.
    jax.distributed.initialize(
        seat.address,
        seat.processes,
        seat.process,
        cluster_detection_method="deactivate",
        coordinator_bind_address=seat.address,
        initialization_timeout=int(seat.timeout) + _MARGIN,
        shutdown_timeout_seconds=_FOR_EVER,
    )
    atexit.register(agreement.leave)


def _check_free(address: str) -> None:
    """Refuses an address that is in use: the coordinator of JAX would crash."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise ProcessError(
                f"Process 0 is to coordinate the others at {address}, but cannot listen there: {error.strerror}. "
                "Give another port, or end what uses it."
            ) from None
