"""Whether a layer is fitting: what the call says, else the layer, else the setting `fit`."""

from graphstate import environ

__all__ = ["is_fitting"]


def is_fitting(*said: bool | None) -> bool:
    """The first of `said` that is not None, else the setting `fit` of `environ`."""
    for fit in said:
        if fit is not None:
            return bool(fit)
    return bool(environ.get("fit"))
