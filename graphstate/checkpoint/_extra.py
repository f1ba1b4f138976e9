"""The way to the store, which needs a package of the extra `checkpoint`."""

import importlib
from typing import Any

from graphstate.errors import MissingPackageError

__all__ = ["open_store"]


def open_store(call: str) -> Any:
    """The module that knows Orbax; importing it takes a while, so that it is imported when it is used.

    Raises:
        MissingPackageError: Orbax is not installed.
    """
    try:
        return importlib.import_module(f"{__package__}._store")
    except ImportError as error:
        raise MissingPackageError(
            f"`{call}` writes and reads with Orbax, which cannot be imported here ({error}). Install it with "
            '`pip install "graphstate[checkpoint]"`.'
        ) from error
