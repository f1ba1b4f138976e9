"""The graph of a tuple is put together from what is known of its elements."""

import gc
import weakref

import jax
import jax.numpy as jnp
import pytest

import graphstate as gs
from graphstate.graph._flatten import flatten
from graphstate.graph._walked import walk
from tests.counting import calls_of

from .test_plan import CHANGES, Layer, Model


def check(root):
    """Compares with a walk over everything."""
    for _ in range(2):
        known, fresh = walk(root), flatten(root)
        assert known.graphdef == fresh.graphdef
        assert list(map(id, known.objects)) == list(map(id, fresh.objects))
        assert list(map(id, known.leaves)) == list(map(id, fresh.leaves))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_an_element_is_seen(change):
    model, other = Model(), Layer()
    other.first, other.depth = model.layers[0], 1
    roots = [(model, other), (other, model), (model.table["scale"], model), (model, model), (model,), (model, Model())]
    for root in roots:
        check(root)
    change(model)
    for root in roots:
        check(root)


def test_a_change_of_sharing_between_elements_is_seen():
    one, two = Layer(), Layer()
    check((one, two))
    two.weight = one.weight
    check((one, two))
    assert gs.graph.shared((one, two)) == {(0, "weight"): ((1, "weight"),)}


def test_other_containers_and_elements_are_walked():
    model, state = Model(), gs.State(1.0)
    for root in ([model, state], {"a": model}, (model, jnp.ones(2)), (model, (state,)), (), (1, "a")):
        check(root)


@jax.tree_util.register_pytree_node_class
class Pair:
    """A pytree whose children are made when it is looked at."""

    def __init__(self, scale):
        self.scale = scale

    def tree_flatten(self):
        return ([self.scale, 2],), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(children[0][0])


def test_children_that_are_made_when_they_are_looked_at_are_walked():
    model = Model()
    model.pair = Pair(gs.State(1.0))
    for _ in range(2):
        assert walk((model, Layer())).graphdef == flatten((model, Layer())).graphdef
        assert gs.states((model, Layer()))["0/pair/0/0"] is model.pair.scale


def test_it_keeps_nothing_alive():
    model, other = Model(), Layer()
    gs.split((model, other)), gs.states((other, model))
    first, second = weakref.ref(model), weakref.ref(other.weight)
    gc.collect()
    gc.disable()
    try:
        del model
        assert first() is None
        del other
        assert second() is None
    finally:
        gc.enable()


@pytest.mark.no_leak_check("counts calls, of which looking for leaks makes more")
@pytest.mark.parametrize("call", [gs.split, gs.state, gs.states, gs.graphdef])
def test_a_warm_call_runs_as_many_functions_however_many_states_there_are(call):
    def count(depth):
        root = Model(depth), Model(depth)
        call(root)
        return calls_of(call, root)

    assert count(2) == count(20)
