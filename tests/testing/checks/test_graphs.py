"""The checks of graphs."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
import graphstate.testing as gst
from graphstate.errors import PropertyError, StateTypeError

pytestmark = pytest.mark.no_leak_check(reason="runs many eager operations")

CHECKS = [gst.check_roundtrip, gst.check_pickle]
each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
CASE = gst.BatchCase(2, (np.ones((2, 2), "float32"),))


class Shared(gs.Node):
    def __init__(self):
        self.first = gs.nn.Linear(2, 2)
        self.layers = [self.first, gs.nn.Dropout(0.5, fit=True, rng=gs.random.RandomState(0)), {"again": self.first}]
        self.me = self
        self.array = jnp.ones(2)

    def __call__(self, x):
        return self.layers[1](self.layers[0](x)) + self.array


class Cheater(gs.Node):
    """Keeps a number where no copy of it gets."""

    secrets: ClassVar[dict] = {}

    def __init__(self):
        self.weight = gs.ParamState(jnp.ones(2))
        Cheater.secrets[id(self)] = 2.0

    def __call__(self, x):
        return x * self.weight.value * Cheater.secrets.get(id(self), 1.0)


class Renamed:
    """Registered with what forgets one of its attributes."""

    def __init__(self):
        self.kept = gs.ParamState(jnp.ones(2))
        self.lost = 3


gs.register_node_type(
    Renamed,
    attributes=vars,
    set_attribute=lambda item, name, value: setattr(item, name, value) if name != "lost" else None,
    create=lambda cls: cls.__new__(cls),
)


class Unpicklable(gs.Node):
    def __init__(self):
        self.f = lambda x: x


@each_check
def test_it_passes_shared_parts_cycles_and_streams(check) -> None:
    node = Shared()
    check(node)
    check(node, CASE)
    check(node.__call__, CASE)
    check(lambda x: node(x), CASE)
    check(lambda node, x: node(x), gst.BatchCase(2, (node, *CASE.args), in_axes=(None, 0)))


@each_check
def test_it_finds_a_node_that_keeps_values_elsewhere(check) -> None:
    with pytest.raises(PropertyError, match=r"output: index .*, the original 2.0"):
        check(Cheater(), CASE)


def test_roundtrip_finds_a_registration_that_forgets() -> None:
    with pytest.raises(PropertyError, match=r"(?s)structure or sharing has changed.*lost"):
        gst.check_roundtrip(Renamed())


def test_pickle_finds_what_cannot_be_pickled() -> None:
    with pytest.raises(PropertyError, match=r"error: the pickled copy: .*pickle"):
        gst.check_pickle(Unpicklable())


@each_check
def test_it_needs_a_graph(check) -> None:
    with pytest.raises(StateTypeError, match=f"`{check.__name__}` takes a graph apart, but `sin` is no Node"):
        check(jnp.sin)
