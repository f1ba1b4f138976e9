"""Places in the user's source: where a State was created, where a warning belongs."""

import contextlib
import functools
import os
import sys
from types import CodeType, FrameType
from typing import NamedTuple

import jax

# Frames of this package, of JAX, and of the machinery of decorators and contexts are nobody's lines.
_SKIPPED = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    os.path.dirname(os.path.abspath(jax.__file__)) + os.sep,
    os.path.abspath(contextlib.__file__),
    os.path.abspath(functools.__file__),
)


class Place(NamedTuple):
    """A line of source, kept as its code object so that recording it costs no string."""

    code: CodeType
    line: int

    def __str__(self) -> str:
        return f"{os.path.basename(self.code.co_filename)}:{self.line}"


def _user_frame(frame: FrameType | None) -> tuple[FrameType | None, int]:
    """The innermost frame from `frame` on that is a user's, and how far out it is."""
    depth = 1
    while frame is not None and frame.f_code.co_filename.startswith(_SKIPPED) and frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return frame, depth


def place_of_caller() -> Place | None:
    """The line outside this package that is being executed."""
    frame, _ = _user_frame(sys._getframe(1))
    return None if frame is None else Place(frame.f_code, frame.f_lineno)


def user_stacklevel() -> int:
    """The `stacklevel` with which a warning by the caller names the user's line."""
    return _user_frame(sys._getframe(1))[1]
