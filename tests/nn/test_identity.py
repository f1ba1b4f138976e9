"""`Identity` returns what it gets."""

from graphstate import nn


def test_it_returns_its_input_and_takes_further_arguments() -> None:
    x = object()
    assert nn.Identity()(x) is x
    assert nn.Identity()(x, 1, fit=True) is x
