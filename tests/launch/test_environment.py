"""What the launcher sets for each process, beside and instead of what it was given itself."""

import os

import pytest

from graphstate.launch._environment import environment_of
from graphstate.parallel._initialize import Seat

SEAT = Seat("127.0.0.1:1234", processes=2, process=1, timeout=20.0)


def test_a_process_takes_its_seat_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SEAT.environment().items():
        monkeypatch.setenv(name, value)
    assert Seat.take() == SEAT
    assert Seat.take() is None
    assert not [name for name in os.environ if name.startswith("GRAPHSTATE_")]


def test_it_has_so_many_cpu_devices_and_threads_for_them() -> None:
    found = environment_of(SEAT, 40, {"NPROC": "9", "JAX_PLATFORMS": "tpu"})
    assert (found["JAX_PLATFORMS"], found["JAX_NUM_CPU_DEVICES"], found["NPROC"]) == ("cpu", "40", "80")
    assert environment_of(SEAT, 1, {"NPROC": "512"})["NPROC"] == "512"


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ("", "--xla_cpu_collective_timeout_seconds=20"),
        ("--xla_a=1 --xla_force_host_platform_device_count=8", "--xla_a=1 --xla_cpu_collective_timeout_seconds=20"),
        ("--xla_cpu_collective_timeout_seconds=3", "--xla_cpu_collective_timeout_seconds=3"),
    ],
)
def test_a_computation_waits_as_long_as_all_else(given: str, flags: str) -> None:
    assert environment_of(SEAT, 1, {"XLA_FLAGS": given})["XLA_FLAGS"] == flags


def test_all_else_is_passed_on_but_no_proxy_stands_between_the_processes() -> None:
    found = environment_of(SEAT, 1, {"HOME": "/root", "https_proxy": "proxy:80", "no_proxy": "intern"})
    assert (found["HOME"], found["https_proxy"], found["no_grpc_proxy"]) == ("/root", "proxy:80", "intern,127.0.0.1")


def test_sets_of_strings_have_one_order_in_all() -> None:
    assert environment_of(SEAT, 1, {})["PYTHONHASHSEED"] == "0"
    assert environment_of(SEAT, 1, {"PYTHONHASHSEED": "7"})["PYTHONHASHSEED"] == "7"
