"""Checkpoints: the values of a graph on disk, and back into a graph, all of them or none.

A checkpoint is a directory. Orbax writes and reads the arrays in it; beside them stands a manifest, which says what
value each path had, which paths led to one State, and what numbers and text were attributes. A graph is compared with
the manifest before anything is read or changed. What is code (classes, functions, types of States) is not saved: build
the model, then restore its values.

The module is called `checkpoint`, as the transform is (`remat` by its other name); it can be called as the transform.
"""

import sys
from types import ModuleType
from typing import Any

from graphstate.transform import checkpoint as _transform

from ._checkpoints import Checkpoints
from ._restore import restore
from ._save import save

__all__ = ["Checkpoints", "restore", "save"]


class _Module(ModuleType):
    """A module that is a transform, too: `graphstate.checkpoint(function)`."""

    @property
    def __wrapped__(self) -> Any:
        return _transform

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _transform(*args, **kwargs)


sys.modules[__name__].__class__ = _Module
