"""`initialize` lets processes find each other, and does nothing where there is one."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import jax
import pytest

from graphstate._lift.lanes._agreement import agreement
from graphstate.errors import ProcessError
from graphstate.parallel import initialize


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    before = agreement.patience
    yield
    agreement.patience = before


@pytest.mark.parametrize("given", [{}, {"num_processes": 1, "process_id": 0, "coordinator_address": "127.0.0.1:1"}])
def test_it_does_nothing_with_one_process(given: dict[str, object]) -> None:
    initialize(**given, timeout=7)  # type: ignore[arg-type]
    assert not jax.distributed.is_initialized()
    assert agreement.patience == 7


def test_half_of_what_it_needs_is_an_error_of_jax() -> None:
    with pytest.raises((RuntimeError, ValueError)):
        initialize(num_processes=2)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ProcessError) as raised:
            initialize(address, 2, 0)
    assert str(raised.value) == (
        f"Process 0 is to coordinate the others at {address}, but cannot listen there: Address already in use. Give "
        "another port, or end what uses it."
    )


def test_processes_find_each_other_without_a_launcher() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    program = (
        "import sys, jax, graphstate as gs\n"
        f"options = dict(cluster_detection_method='deactivate', coordinator_bind_address='{address}')\n"
        f"gs.parallel.initialize('{address}', 2, int(sys.argv[1]), timeout=20, **options)\n"
        "gs.parallel.initialize()\n"
        "print(jax.process_index(), jax.process_count())"
    )
    command = [sys.executable, "-c", program]
    both = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(2)]
    assert [each.communicate(timeout=30)[0] for each in both] == ["0 2\n", "1 2\n"]
