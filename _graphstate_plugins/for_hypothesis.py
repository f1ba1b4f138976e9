"""What `hypothesis.strategies.from_type` draws for the types of graphstate.

Neither package brings the other along: hypothesis calls `register` when it is imported, which does nothing where
graphstate is not there yet; graphstate then registers its types itself.
"""

import sys

__all__ = ["register"]


def register() -> None:
    """Tells hypothesis how the types of graphstate are drawn, if graphstate has been imported."""
    if "graphstate" in sys.modules:
        from graphstate.testing._types import register_types  # which needs JAX

        register_types()
