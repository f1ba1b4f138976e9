"""`abstract` builds shapes and computes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate.graph as g
from graphstate import random
from graphstate.errors import TraceContextError
from graphstate.graph import BatchState, Node, ParamState, State


class Layer(Node):
    def __init__(self, size, *, scale=None, name="layer"):
        self.weight = ParamState(random.normal(size=(size, 3)))
        self.bias = ParamState(jnp.zeros(size) if scale is None else scale * jnp.ones(size), tags="b", unit="m")
        self.count = BatchState(0)
        self.key = State({"k": random.split_key()})
        self.table = np.arange(size, dtype=np.float64)
        self.tied = [self.weight]
        self.name = name
        self.size = size


def struct(shape, dtype=jnp.float32, **options):
    return jax.ShapeDtypeStruct(shape, dtype, **options)


def test_it_holds_the_shapes_of_what_would_be_built():
    node = g.abstract(Layer, 2)
    assert node.weight.value == struct((2, 3))
    assert node.bias.value == struct((2,))
    assert node.count.value.shape == ()
    assert jnp.issubdtype(node.key.value["k"].dtype, jax.dtypes.prng_key)
    assert node.table == struct((2,), np.float64)
    assert node.tied[0] is node.weight
    assert (node.size, node.name) == (2, "layer")
    assert (type(node.bias), node.bias.tags, dict(node.bias.metadata)) == (ParamState, {"b"}, {"unit": "m"})


def test_it_differs_in_nothing_from_the_real_one():
    assert g.diff(g.abstract(Layer, 2, name="x"), Layer(2, name="x")) == []


def test_arrays_are_traced_and_all_else_is_given_as_it_is():
    for scale in (jnp.ones(()), struct(()), np.float32(2)):
        assert g.abstract(Layer, 4, scale=scale).bias.value == struct((4,))


def test_the_function_runs_once():
    runs = []

    def make():
        runs.append(1)
        return Layer(2)

    g.abstract(make)
    assert runs == [1]


def test_the_default_stream_stays_where_it_was():
    random.seed(3)
    expected = random.normal(size=2)
    random.seed(3)
    g.abstract(Layer, 5)
    assert (random.normal(size=2) == expected).all()


def test_no_state_of_the_caller_is_changed():
    counter = State(jnp.zeros(()))

    def make():
        counter.value += 1
        node = Node()
        node.counter = counter
        return node

    assert g.abstract(make).counter.value == struct(())
    assert counter.value == 0
    assert g.abstract(make).counter is not counter


def test_a_node_of_the_caller_is_not_restructured():
    owner = Node()
    with pytest.raises(TraceContextError, match="Attribute 'layer' of a Node was changed inside of a transform"):
        g.abstract(lambda: setattr(owner, "layer", 1))
    assert vars(owner) == {}


def test_an_error_of_the_function_comes_through_and_leaves_nothing_behind():
    def fails():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        g.abstract(fails)
    assert g.abstract(Layer, 2).weight.value == struct((2, 3))


def test_what_is_abstract_already_keeps_its_sharding():
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def make():
        node = Node()
        node.weight = State(struct((2,), sharding=sharding))
        node.pair = (struct((1,)), jnp.ones(3))
        return node

    node = g.abstract(make)
    assert node.weight.value.sharding is sharding
    assert node.pair == (struct((1,)), struct((3,)))


def test_a_pytree_of_nodes_may_be_returned():
    layers, extra = g.abstract(lambda: ([Layer(size) for size in (1, 2)], {"s": State(jnp.ones(1))}))
    assert [layer.weight.value.shape for layer in layers] == [(1, 3), (2, 3)]
    assert extra["s"].value == struct((1,))


def test_nodes_may_be_arguments():
    layer = Layer(2)

    def wider(inner, size):
        outer = Node()
        outer.inner, outer.weight = inner, State(jnp.ones((size, *inner.weight.value.shape)))
        return outer

    node = g.abstract(wider, layer, 5)
    assert node.weight.value == struct((5, 2, 3))
    assert node.inner is not layer
    assert isinstance(layer.weight.value, jax.Array)


def test_it_is_filled_by_update_and_merge():
    real, node = Layer(2), g.abstract(Layer, 2)
    g.update(node, g.state(real))
    assert (node.weight.value == real.weight.value).all()
    assert g.merge(g.graphdef(g.abstract(Layer, 2)), g.state(real)).size == 2


def test_the_new_objects_belong_to_the_caller():
    node = g.abstract(Layer, 2)
    node.extra = 1
    node.weight.value = jnp.ones(1)
    assert node.weight.value == 1
