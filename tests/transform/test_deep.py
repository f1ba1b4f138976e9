"""Nothing recurses: a chain of 10,000 Nodes, a graph of 10,000 States, a Node that holds itself."""

import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs

pytestmark = pytest.mark.no_leak_check("large graphs")

COUNT = 10_000


class Link(gs.Node):
    def __init__(self, following):
        self.following = following


@pytest.fixture(scope="module")
def chain():
    """10,000 Nodes, each held by the one before; the last one has a State and refers to the first."""
    last = node = Link(None)
    for _ in range(COUNT - 1):
        node = Link(node)
    node.weight = last.weight = gs.ParamState(jnp.ones(2))
    last.following = node
    return node


@pytest.fixture(scope="module")
def wide():
    """10,000 States in a list, of which the programs touch one."""
    node = gs.Node()
    node.states = [gs.State(np.ones(2, np.float32)) for _ in range(COUNT - 1)]
    node.weight = gs.ParamState(jnp.ones(2))
    return node


@pytest.fixture(scope="module")
def cycle():
    node = gs.Node()
    node.itself, node.list, node.weight = node, [node], gs.ParamState(jnp.ones(2))
    return node


@pytest.fixture(params=["chain", "wide", "cycle"])
def graph(request):
    node = request.getfixturevalue(request.param)
    node.weight.value = jnp.ones(2)
    return node


def step(node, x):
    node.weight.value = 2 * node.weight.value
    return jnp.sum(node.weight.value) * jnp.sum(x)


def test_jit(graph):
    compiled = gs.jit(step)
    assert [compiled(graph, 1.0), compiled(graph, 1.0)] == [4.0, 8.0]
    assert gs.jit(lambda x: step(graph, x))(1.0) == 16.0


def test_jit_that_restructures(graph):
    def change(node, x):
        node.extra = gs.State(x)
        return node

    assert gs.jit(change)(graph, 3.0) is graph
    assert graph.extra.value == 3.0
    del graph.extra


def test_vmap(graph):
    x = jnp.arange(3.0)
    np.testing.assert_array_equal(gs.vmap(step, in_axes=(None, 0))(graph, x), 4 * x)
    np.testing.assert_array_equal(gs.vmap(lambda x: step(graph, x))(x), 8 * x)
    np.testing.assert_array_equal(gs.vmap(step)(graph, jnp.ones(2)), [8.0, 8.0])
    np.testing.assert_array_equal(graph.weight.value, [8.0, 8.0])


def test_vmap_writes_every_state(wide):
    def double(node):
        for state in node.states:
            state.value = 2 * state.value

    gs.jit(lambda node: gs.vmap(lambda node, x: x, in_axes=(0, 0))(node, jnp.ones(2)))(wide)
    some = gs.Node()
    some.states = wide.states[:1000]
    gs.vmap(double)(some)
    assert some.states[-1].value.tolist() == [2.0, 2.0]
    gs.vmap(lambda node: [setattr(state, "value", state.value / 2) for state in node.states] and None)(some)


def test_grad(graph):
    np.testing.assert_array_equal(gs.grad(step)(graph, 3.0)["weight"], [6.0, 6.0])
    np.testing.assert_array_equal(gs.grad(lambda x: step(graph, x), states=graph.weight)(3.0), [6.0, 6.0])


def test_scan(graph):
    def body(node, x):
        return node, step(node, x)

    last, outputs = gs.scan(body, graph, jnp.ones(3))
    assert last is graph
    assert outputs.tolist() == [4.0, 8.0, 16.0]
    assert gs.for_loop(lambda x: step(graph, x), jnp.ones(2)).tolist() == [32.0, 64.0]
    assert gs.for_loop(lambda node: jnp.sum(node.weight.value), graph).tolist() == [32.0, 32.0]


def test_eval_shape(graph):
    assert gs.eval_shape(step, graph, 1.0).shape == ()
    assert gs.eval_shape(lambda node: node, graph).weight.value.shape == (2,)
    np.testing.assert_array_equal(graph.weight.value, [1.0, 1.0])


def test_errors_stay_short(chain):
    def fail(node, x):
        node.weight.value = x

    with pytest.raises(gs.errors.BatchAxisError, match="is not mapped") as caught:
        gs.vmap(fail, in_axes=(None, 0))(chain, jnp.ones((3, 2)))
    assert str(caught.value).count("\n") < 10
    assert len(str(caught.value)) < 1500
