"""What runs in each process: it finds the others, then runs the script as Python would."""

import os
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NoReturn

from graphstate.parallel import initialize

from ._link import Link


def main() -> None:
    """Runs the script that the command line names, with the arguments after it."""
    link = Link()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what Python makes of pipes can do it
    script, *_ = sys.argv = sys.argv[1:]
    link.say(stage="up")
    try:
        initialize()
        link.say(stage="connected")
        _run(script)
    except SystemExit as end:
        if isinstance(end.code, int) and end.code:
            _fail(link, end.code, None)
        if end.code:
            _fail(link, 1, str(end.code))
    except BaseException as error:
        error.__traceback__ = _from_script(error.__traceback__)
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
        _fail(link, code, "".join(traceback.format_exception(error)).rstrip())
    link.say(stage="done")


def _run(script: str) -> None:
    module = ModuleType("__main__")
    module.__file__ = script
    sys.modules["__main__"] = module
    if not sys.flags.safe_path:  # else the first is no folder that Python has put there for the launcher
        sys.path[0] = str(Path(script).resolve().parent)
    exec(compile(Path(script).read_bytes(), script, "exec"), module.__dict__)


def _from_script(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without its part in this file."""
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def _fail(link: Link, code: int, error: str | None) -> NoReturn:
    """Ends the process at once: JAX would wait at its exit for processes that may wait for this one."""
    try:
        link.say(stage="failed", error=error)
        sys.stdout.flush()
        if error is not None:
            os.write(2, f"{error}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(code % 256 or 1)


if __name__ == "__main__":
    main()
