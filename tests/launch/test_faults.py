"""When something goes wrong in one process, all end, soon, with an error that names the cause."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from graphstate import launch
from graphstate.errors import ProcessError
from graphstate.launch._group import _Group

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]
LIMIT = 30
"""How many seconds a fault may take, from the start of the processes to the end of the last."""


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def run(
    program: str, *arguments: str, timeout: float = 20, port: int | None = None, limit: float = LIMIT
) -> tuple[int, str, str]:
    """The exit code and what was written, which comes before the time limit."""
    output, errors = io.StringIO(), io.StringIO()
    before = time.monotonic()
    code = launch.run(
        PROGRAMS / program, arguments, devices=2, timeout=timeout, port=port, output=output, errors=errors
    )
    assert time.monotonic() - before < limit
    return code, output.getvalue(), errors.getvalue()


def test_one_that_raises_ends_all_and_its_error_comes_last() -> None:
    code, _, errors = run("fails.py", "raises")
    assert code == 1
    before, last = errors.split("graphstate.launch: ")
    assert "[1] ValueError: the data of process 1 are gone" in before
    first, traceback = last.split("\n", 1)
    assert first == "process 1 of 2 ended with exit code 1; the others were ended."
    assert re.fullmatch(
        r'Traceback \(most recent call last\):\n  File ".*fails\.py", line \d+, in <module>\n    raise .*\n'
        r"ValueError: the data of process 1 are gone\n",
        traceback,
    )


def test_one_that_exits_ends_all_with_its_exit_code() -> None:
    code, _, errors = run("fails.py", "exits")
    assert (code, errors.splitlines()[-1]) == (
        3,
        "graphstate.launch: process 1 of 2 ended with exit code 3; the others were ended.",
    )


def test_one_that_is_killed_ends_all() -> None:
    code, _, errors = run("fails.py", "is killed")
    assert code == 128 + signal.SIGKILL
    assert "graphstate.launch: process 1 of 2 was killed by SIGKILL; the others were ended." in errors


def test_one_that_waits_for_one_that_has_come_to_its_end_hears_of_it() -> None:
    code, _, errors = run("fails.py", "returns", timeout=6)
    assert code == 1
    assert (
        "graphstate.launch: process 0 of 2 ended with exit code 1; the others were ended (process 1 had come to its "
        "end before).\n" in errors
    )
    assert "Timed out waiting 6000ms" in errors.split("graphstate.launch: ")[1]


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, output, errors = run("waits.py", port=port)
    assert (code, output) == (1, "")
    assert errors == (
        f"graphstate.launch: port {port} is taken (Address already in use). Give another, or leave `--port` out for "
        "one that is free.\n"
    )


def test_one_that_never_starts_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROGRAMS / "never_starts"), str(ROOT)]))
    code, output, errors = run("waits.py", timeout=10)
    assert (code, output) == (1, "")
    assert errors.endswith(
        "graphstate.launch: after 10 s process 1 of 2 has not come up; all were ended. If it is only slow, give it "
        "more time (`--timeout`).\n"
    )


def test_one_that_ends_before_it_has_begun_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROGRAMS / "never_starts"), str(ROOT)]))
    monkeypatch.setenv("NEVER_STARTS", "exits")
    code, output, errors = run("waits.py")
    assert (code, output) == (1, "")
    assert errors == "graphstate.launch: process 1 of 2 ended before it had begun; the others were ended.\n"


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        (["up", None, None], "process 1, 2 of 3 has not come up"),
        (["connected", "up", "done"], "process 1 of 3 has not found the others"),
    ],
)
def test_those_that_are_late_are_named(stages: list[str | None], told: str) -> None:
    group = _Group(9.0, io.StringIO(), io.StringIO())
    group._members = [SimpleNamespace(number=number, stage=stage) for number, stage in enumerate(stages)]  # type: ignore[misc]
    with pytest.raises(ProcessError) as raised:
        group._check_start()
    assert str(raised.value) == (
        f"after 9 s {told}; all were ended. If it is only slow, give it more time (`--timeout`)."
    )


def test_those_that_do_different_things_are_told_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    code, output, errors = run("different.py", timeout=6, limit=4 * LIMIT)
    assert code == 0, errors
    told = [dict(re.findall(rf"^\[{number}\] ([\w ]+): (.*)$", output, re.MULTILINE)) for number in (0, 1)]
    alone = told[0].pop("alone")
    assert told[0] == told[1]
    for name, needed in DIFFERENCES.items():
        assert re.search(needed, told[0][name]), (name, told[0][name])
    assert alone == (
        "`replicate` needs all processes, but process 1 has ended without it (this is process 0). Let all make the "
        "same calls in the same order, none of them alone; if one is only slow, wait longer (`--timeout` of "
        "`graphstate.launch`, `timeout=` of `parallel.initialize`)."
    )


DIFFERENCES = {
    "same": r"^no error$",
    "width": r"^`replicate` needs the same in all processes, but from process 0 to 1 it changes: \|   "
    r"`layers/0/out_features`: 4 -> 5 \|   `layers/1/in_features`: 4 -> 5 \|   "
    r"the value of `layers/0/bias`: float32\[4\] with digest \w+ -> float32\[5\] with digest \w+ \|   .* "
    r"and 1 more \| Build the same in each, from the same arguments, seed and data\. What each process has its own "
    r"part of goes in as one array of all \(`jax\.make_array_from_process_local_data`\)\.$",
    "function": r"\|   `act`: .*\brelu\b.* -> .*\btanh\b.* \| Build",
    "code": r"\|   `act`: function __main__\.<lambda> \(\w+\) -> function __main__\.<lambda> \(\w+\) \| Build",
    "closure": r"\|   `act`: function \S+<lambda> \(\w+\) -> function \S+<lambda> \(\w+\) \| Build",
    "tag": r"\|   `label`: State graphstate\S+ParamState b c net role='net' -> State \S+ParamState b c et role='et' \|",
    "values": r"changes: \|   the value of `layers/0/weight`: float32\[2, 4\] with digest \w+ -> float32\[2, 4\] with",
    "argument": r"^`data_parallel` of `loss` needs .* \|   `model\.layers/0/out_features`: 4 -> 5 \|",
    "batch": r"changes: \|   the value of `x`: float32\[8, 2\] with digest \w+ -> float32\[8, 2\] with digest \w+ \| B",
    "step": r"^no error$",
    "later batch": r"^no error$",
    "later model": r"changes: \|   the value of `model\.layers/0/weight`: .* \|   the value of `model\.l",
    "captured": r"^`pmap` of `closed` needs .* \|   `ours\.layers/0/out_features`: 4 -> 5 \|",
    "program": r"^The program of `pmap` of `scaled` needs the same in all processes, but from process 0 to 1 it "
    r"changes: \|   operation \d+: mul float32\S+ \d\] float32\[\]=1\.0 -> mul float32\S+ \d\] float32\[\]=2\.0 \| Let "
    r"each process compute the same: what it reads of its own number, files or settings changes its program\.$",
    "constant": r"^The program of `pmap` of `keyed` needs .* \|   constant 0: key<fry>\[\] with .* -> key<fry>\[\] w",
    "setting": r"^The program of `pmap` of `noisy` needs .* \|   operation \d+: ",
    "built": r"^`init_sharded\(<lambda>\)` needs .* \|   the value of `\(root\)`: float32\[4, 4\] -> float32\[4, 8\] ",
    "drawn": r"^The program of `init_sharded\(<lambda>\)` needs .* \|   \w+ \d+: .* \| Let each process compute ",
    "call": r"^All processes make the same calls in the same order, but process 0 has come to `replicate`, and process "
    r"1 to `shard`\. Let each make both, in one order\.$",
}


def start() -> tuple[subprocess.Popen[str], list[int]]:
    """The launcher as a process, and the processes under it."""
    command = [sys.executable, "-m", "graphstate.launch", "--processes=2", str(PROGRAMS / "waits.py")]
    launcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    lines = [launcher.stdout.readline() for _ in range(2)]
    return launcher, [int(pid) for line in lines for pid in re.findall(r"\d+(?!\])\b", line.split("pids")[1])]


def are_gone(pids: list[int]) -> bool:
    end = time.monotonic() + 10
    while any(runs(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def runs(pid: int) -> bool:
    """Whether a process does anything yet; what is left of one that nobody has asked for its exit code does not."""
    if not Path("/proc/self").exists():
        done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return done.stdout.strip()[:1] not in ("", "Z")
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_interrupt_ends_all_and_what_they_have_started() -> None:
    launcher, pids = start()
    launcher.send_signal(signal.SIGINT)
    _, errors = launcher.communicate(timeout=20)
    assert launcher.returncode == 128 + signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert errors.splitlines()[-1] == "graphstate.launch: all 2 processes were ended by SIGINT."
    assert len(pids) == 4
    assert are_gone(pids)


def test_a_launcher_that_is_killed_leaves_none_behind() -> None:
    launcher, pids = start()
    launcher.kill()
    launcher.communicate(timeout=20)
    assert len(pids) == 4
    assert are_gone(pids)
