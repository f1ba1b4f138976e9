"""`self.step = jit(self._step)`: transformed methods as attributes are structure, and follow their Node."""

import copy
import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import StructureError


class Scaled(gs.Node):
    def __init__(self, factor=2.0):
        self.weight = gs.ParamState(jnp.ones(2))
        self.factor = factor
        self.apply = gs.jit(self._apply)
        self.each = gs.vmap(self._apply)
        self.step = gs.jit(self._step, donate_states=True)

    def _apply(self, x):
        return (self.weight.value * x * self.factor).sum()

    def _step(self, x):
        self.weight.value = self.weight.value - x


def test_they_work_on_the_node_that_holds_them():
    node = Scaled()
    assert node.apply(1.0) == 4.0
    np.testing.assert_array_equal(node.each(jnp.arange(3.0)), [0.0, 4.0, 8.0])
    node.step(0.5)
    node.factor = 4.0
    assert node.apply(1.0) == 4.0


def pickled(node):
    return pickle.loads(pickle.dumps(node))


@pytest.mark.parametrize("copied", [gs.clone, copy.deepcopy, lambda node: gs.merge(*gs.split(node)), pickled])
def test_a_copy_has_methods_of_its_own(copied):
    node = Scaled()
    node.apply(1.0)
    other = copied(node)
    other.weight.value = jnp.zeros(2)
    other.factor = 3.0
    assert (node.apply(1.0), other.apply(1.0)) == (4.0, 0.0)
    other.step(-1.0)
    assert other.apply(1.0) == 6.0
    assert node.apply(1.0) == 4.0


def test_nodes_that_are_made_alike_have_one_structure():
    assert gs.graphdef(Scaled()) == gs.graphdef(Scaled())
    assert hash(gs.graphdef(Scaled())) == hash(gs.graphdef(Scaled()))
    assert gs.diff(Scaled(), Scaled(3.0)) == ["factor: 2.0 -> 3.0"]


def test_the_parameters_of_a_transform_are_structure():
    class Other(Scaled):
        def __init__(self, keep):
            super().__init__()
            self.apply = gs.jit(self._apply, keep_unused=keep)

    assert gs.graphdef(Other(True)) == gs.graphdef(Other(True))
    assert gs.graphdef(Other(True)) != gs.graphdef(Other(False))


DERIVED = {
    "grad": lambda method: gs.grad(method),
    "value_and_grad": lambda method: gs.value_and_grad(method),
    "vector_grad": lambda method: gs.vector_grad(method),
    "jacrev": lambda method: gs.jacrev(method),
    "jacfwd": lambda method: gs.jacfwd(method),
    "hessian": lambda method: gs.hessian(method),
}


@pytest.mark.parametrize("derive", DERIVED.values(), ids=list(DERIVED))
def test_derivatives_of_a_method_are_structure_too(derive):
    class Derived(Scaled):
        def __init__(self, factor=2.0):
            super().__init__(factor)
            self.slope = derive(self._square if derive is not DERIVED["vector_grad"] else self._squares)

        def _square(self, x):
            return self._squares(x).sum()

        def _squares(self, x):
            return self.weight.value * self.factor * x**2

    node, other = Derived(), Derived()
    assert gs.diff(node, other) == []
    other.weight.value = jnp.zeros(2)
    stacked = gs.stack([node, other])
    slopes = jax.tree.leaves(gs.vmap(lambda node: node.slope(jnp.float32(1.0)))(stacked))[-1]
    np.testing.assert_array_equal(slopes[1], 0 * slopes[1])
    assert jnp.any(slopes[0] != 0)


def test_a_message_calls_a_derivative_by_its_name():
    class Derived(Scaled):
        def __init__(self, allow_int):
            super().__init__()
            self.slope = gs.grad(self._apply, allow_int=allow_int)

    assert gs.diff(Derived(True), Derived(False)) == ["slope: grad -> grad"]


def test_they_may_be_called_inside_of_a_transform():
    @gs.jit
    def train(node, x):
        node.step(x)
        node.step(x)
        return node.apply(1.0)

    node = Scaled()
    assert train(node, 0.25) == 2.0
    assert train(node, 0.25) == 0.0


def test_members_of_a_stack_have_them():
    nodes = gs.stack([Scaled(), Scaled()])
    nodes.weight.value = jnp.array([[1.0, 1.0], [2.0, 2.0]])
    np.testing.assert_array_equal(gs.vmap(lambda node: node.apply(1.0))(nodes), [4.0, 8.0])
    assert gs.take(nodes, 1).apply(1.0) == 8.0


def test_partials_and_nodes_may_be_transformed_too():
    class Model(gs.Node):
        def __init__(self):
            self.layer = gs.nn.Linear(2, 2)
            self.call = gs.jit(self.layer)
            self.bias = gs.jit(functools.partial(Model._bias, self))

        def _bias(self):
            return self.layer.bias.value

    model = Model()
    other = gs.clone(model)
    other.layer.bias.value = jnp.ones(2)
    np.testing.assert_allclose(other.call(jnp.ones(2)) - model.call(jnp.ones(2)), [1.0, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(other.bias(), [1.0, 1.0])


def test_a_node_that_comes_into_the_keywords_of_a_transformed_partial_is_found():
    node = gs.Node()
    node.apply = gs.jit(functools.partial(dict))
    assert list(gs.states(node)) == []
    node.apply.__wrapped__.keywords["layer"] = gs.nn.Linear(2, 2)
    assert len(gs.states(node)) == 2


def test_keywords_of_a_partial_that_two_attributes_hold_are_changed_for_both():
    node = gs.Node()
    node.first = node.second = functools.partial(lambda x, by: x * by, by=2.0)

    @gs.jit
    def change(node, x):
        node.first.keywords["by"] = 3.0
        return node.second(x)

    assert change(node, 1.0) == 3.0
    assert node.first is node.second
    assert node.second(1.0) == 3.0


def test_a_counted_method_may_be_transformed():
    class Counted(Scaled):
        def __init__(self):
            super().__init__()
            self.apply = gs.jit(gs.assert_max_traces(self._apply, 1))

    node = gs.clone(Counted())
    assert node.apply(1.0) == node.apply(1.0) == 4.0


def test_a_transformed_function_that_reaches_the_graph_by_its_closure_is_an_error():
    class Closed(gs.Node):
        def __init__(self):
            self.weight = gs.ParamState(jnp.ones(2))
            self.apply = gs.jit(lambda x: self.weight.value * x)

    with pytest.raises(StructureError, match=r"at `apply` refers to the graph that it is part of"):
        gs.clone(Closed())


def halved(x):
    return x / 2


@gs.jit
def doubled(x):
    return 2 * x


def test_a_transformed_function_is_pickled_by_its_name_or_by_its_parts():
    assert pickle.loads(pickle.dumps(doubled)) is doubled
    assert pickle.loads(pickle.dumps(gs.jit(halved)))(1.0) == 0.5


# What comes to a wrapper later


def _scaled(x):
    return 2.0 * x


def _forward(x):
    return 2.0 * x, None


def _backward(_, cotangent):
    return (100.0 * cotangent,)


class Ruled(gs.Node):
    """A method with rules, given as functions or as methods of the Node."""

    def __init__(self, bound=False):
        self.weight = gs.ParamState(jnp.float32(2.0))
        self.scaled = gs.custom_vjp(self._scaled)
        self.scaled.defvjp(self._forward if bound else _forward, _backward)

    def _scaled(self, x):
        return _scaled(x)

    def _forward(self, x):
        return _forward(x)


def test_copies_have_the_rules_of_the_original():
    node = Ruled()
    compiled = gs.jit(lambda node, x: gs.grad(node.scaled)(x))
    assert compiled(node, 3.0) == 100.0
    assert gs.grad(gs.clone(node).scaled)(3.0) == 100.0
    assert gs.diff(node, Ruled()) == []


def test_a_rule_that_is_a_method_of_the_node_is_refused_in_copies():
    node = Ruled(bound=True)
    assert gs.grad(node.scaled)(3.0) == 100.0
    with pytest.raises(StructureError, match=r"a rule of its `custom_vjp` is a method of that Node"):
        gs.clone(node)


def test_copies_are_counted_together():
    class Counted(gs.Node):
        def __init__(self):
            self.weight = gs.ParamState(jnp.float32(2.0))
            self.apply = gs.assert_max_traces(self._apply, 1)

        def _apply(self, x):
            return self.weight.value * x

    node = Counted()
    compiled = gs.jit(lambda node, x: node.apply(x))
    assert compiled(node, 1.0) == 2.0
    with pytest.raises(gs.errors.TraceCountError, match=r"x: float32\[\]\* became float32\[3\]"):
        compiled(node, jnp.ones(3))
    assert gs.diff(node, Counted()) == []
