"""`named_scope`: names for the operations of a part of a program."""

import functools
import threading
import types
from collections.abc import Callable
from typing import Any, Self, TypeVar

import jax

__all__ = ["NamedScope", "named_scope"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Entered(threading.local):
    """The blocks that this thread is in."""

    def __init__(self) -> None:
        self.blocks: list[Any] = []


class NamedScope:
    """What `named_scope` returns: a block, and a decorator.

    Args:
        name: the name.
    """

    def __init__(self, name: str) -> None:
        jax.named_scope(name)  # refuses what is no name
        self.name = name
        self._entered = _Entered()

    def __enter__(self) -> Self:
        block = jax.named_scope(self.name)
        block.__enter__()
        self._entered.blocks.append(block)
        return self

    def __exit__(self, *error: Any) -> None:
        self._entered.blocks.pop().__exit__(*error)

    def __call__(self, function: _Function) -> _Function:
        """A function whose operations bear the name."""
        # What stands in the `__dict__` of a Node or of a transformed function is not the wrapper's.
        updated = functools.WRAPPER_UPDATES if isinstance(function, types.FunctionType) else ()

        @functools.wraps(function, updated=updated)
        def scoped(*args: Any, **kwargs: Any) -> Any:
            with jax.named_scope(self.name):
                return function(*args, **kwargs)

        return scoped  # type: ignore[return-value]


def named_scope(name: str) -> NamedScope:
    """Names the operations of a block or a function, as `jax.named_scope` does; profilers and program texts show it.

    Args:
        name: the name; names of scopes inside of scopes are joined by slashes.

    Returns:
        A block for `with`, and a decorator for functions, methods and callable Nodes.

    Example:
        >>> import graphstate as gs, jax.numpy as jnp
        >>> class Model(gs.Node):
        ...     def __init__(self):
        ...         self.layer = gs.nn.Linear(2, 3)
        ...     @gs.named_scope("model")
        ...     def __call__(self, x):
        ...         with gs.named_scope("head"):
        ...             return self.layer(x)
        >>> lowered = gs.jit(lambda model, x: model(x)).lower(Model(), jnp.ones(2))
        >>> "model/head" in lowered.as_text(debug_info=True)
        True
    """
    return NamedScope(name)
