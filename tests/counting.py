"""Counts the Python code that a call runs: a cost that is the same on every machine, and seen without a clock."""

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["calls_of"]


def calls_of(function: Callable[..., Any], *args: Any, builtins: bool = False) -> int:
    """How many functions a call runs, itself included.

    Args:
        function: what is called; what it does for the first time only should be done by then.
        *args: its arguments.
        builtins: whether functions written in C count, too, as `len` and `dict.get`.
    """
    count = 0

    def note(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += event == "call" or (builtins and event == "c_call" and arg is not sys.setprofile)

    gc.disable()  # what is finalized is no part of the call
    sys.setprofile(note)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
        gc.enable()
    return count
