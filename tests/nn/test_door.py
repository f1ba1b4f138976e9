"""What `graphstate.nn` shows."""

import jax.nn

from graphstate import nn


def test_all_is_sorted_and_there() -> None:
    assert nn.__all__ == sorted(nn.__all__, key=lambda name: (not name.isupper(), name))
    assert all(hasattr(nn, name) for name in nn.__all__)


def test_activations_and_initialisers_are_those_of_jax() -> None:
    functions = [name for name in nn.__all__ if name[0].islower() and name != "reset_state"]
    assert {"relu", "gelu", "tanh", "initializers"} <= set(functions)
    assert all(getattr(nn, name) is getattr(jax.nn, name) for name in functions)
