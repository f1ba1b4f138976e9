"""Places in the user's source: where a State was created, where a warning belongs."""

import os
import sys
from types import CodeType, FrameType
from typing import NamedTuple

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Place(NamedTuple):
    """A line of source, kept as its code object so that recording it costs no string."""

    code: CodeType
    line: int

    def __str__(self) -> str:
        return f"{os.path.basename(self.code.co_filename)}:{self.line}"


def _user_frame(frame: FrameType | None) -> tuple[FrameType | None, int]:
    """The innermost frame from `frame` on that is not of this package, and how far out it is."""
    depth = 1
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return frame, depth


def place_of_caller() -> Place | None:
    """The line outside this package that is being executed."""
    frame, _ = _user_frame(sys._getframe(1))
    return None if frame is None else Place(frame.f_code, frame.f_lineno)


def user_stacklevel() -> int:
    """The `stacklevel` with which a warning by the caller names the user's line."""
    return _user_frame(sys._getframe(1))[1]
