"""`Identity`: a layer that does nothing, where one is expected."""

from typing import Any

from graphstate.graph import Node

__all__ = ["Identity"]


class Identity(Node):
    """Returns its input, whatever it is; further arguments are ignored.

    Example:
        >>> import graphstate as gs
        >>> gs.nn.Identity()(3, fit=True)
        3

    Source: `torch.nn.Identity`.
    """

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """The input itself."""
        return x
