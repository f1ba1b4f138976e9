"""The command line of the launcher."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ._group import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line and runs what it says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m graphstate.launch",
        description="Starts one Python script in several processes of this machine, with virtual CPU devices.",
    )
    parser.add_argument("--processes", type=_count, default=2, help="how many processes (default: 2)")
    parser.add_argument("--devices", type=_count, default=1, help="how many devices each of them has (default: 1)")
    parser.add_argument("--port", type=_count, help="where process 0 coordinates the others (default: a free one)")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=300.0,
        help="for how many seconds a process waits for another: to come up, to do the same, to take part in a "
        "computation (default: 300)",
    )
    parser.add_argument("script", type=Path, help="the script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    options = parser.parse_args(arguments)
    if not options.script.is_file():
        parser.error(f"there is no script {options.script}")
    return run(
        options.script,
        options.arguments,
        processes=options.processes,
        devices=options.devices,
        port=options.port,
        timeout=options.timeout,
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 1 on")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
