"""Where the peers raise with a dump, an internal path, or no place at all: what is said here instead.

Each message names the State or argument, says what to do about it, and takes ten lines at most.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import graphstate as gs
from graphstate import errors


class Leaf(gs.Node):
    def __init__(self, weight=2.0):
        self.weight = gs.ParamState(jnp.asarray(weight, jnp.float32))

    def __call__(self, x):
        return self.weight.value * x


class Tree(gs.Node):
    def __init__(self):
        self.layers = [Leaf(), Leaf(jnp.ones(3))]
        self.count = gs.State(jnp.int32(0))


def write_under_plain_jax(tree):
    jax.jit(lambda x: setattr(tree.count, "value", x))(1)


def set_attribute_of_the_closure(tree):
    gs.jit(lambda x: setattr(tree.layers[0], "last", x))(1.0)


def pass_a_node_to_plain_jax(tree):
    jax.jit(lambda tree: tree.count.value)(tree)


def map_different_sizes(tree):
    gs.vmap(lambda tree, x: x)(gs.stack([tree, Tree()]), jnp.ones(3))


def in_axes_of_another_length(tree):
    gs.vmap(lambda tree, x: x, in_axes=(None, 0, 0))(tree, jnp.ones(3))


def state_axes_that_miss_one(tree):
    gs.vmap(lambda tree: None, in_axes=gs.StateAxes({gs.ParamState: None}), axis_size=2)(tree)


def an_axis_that_is_none(tree):
    gs.StateAxes({gs.ParamState: "0"})


def two_axes_for_one_state(tree):
    gs.vmap(lambda a, b: None, in_axes=(0, None))(tree.layers[1], tree)


def a_result_that_is_no_scalar(tree):
    gs.grad(lambda tree: tree.layers[1](1.0))(tree)


def a_node_as_loss(tree):
    gs.grad(lambda tree: tree)(tree)


def a_branch_that_adds_an_attribute(tree):
    gs.cond(True, lambda tree: setattr(tree.layers[0], "new", 1), lambda tree: None, tree)


def a_loop_that_adds_an_attribute(tree):
    gs.scan(lambda tree, _: (tree, setattr(tree.layers[0], "new", 1)), tree, length=2)


def a_loop_that_adds_a_state(tree):
    gs.fori_loop(0, 2, lambda _, tree: tree.layers.append(Leaf()) or tree, tree)


def a_carry_that_grows(tree):
    def step(tree, _):
        tree.layers[1].weight.value = jnp.concatenate([tree.layers[1].weight.value] * 2)
        return tree, None

    gs.scan(step, tree, length=2)


def a_derivative_by_integers(tree):
    gs.grad(lambda tree: 1.0, wrt=gs.State)(tree)


def merge_too_little(tree):
    graphdef, params, _ = gs.split(tree, gs.ParamState, ...)
    gs.merge(graphdef, params)


def merge_too_much(tree):
    graphdef, params, rest = gs.split(tree, gs.ParamState, ...)
    gs.merge(graphdef, params, rest, params)


def a_filter_that_is_none(tree):
    gs.split(tree, 3)


def filters_that_leave_some_over(tree):
    gs.split(tree, gs.ParamState)


def gradients_of_another_structure(tree):
    optimizer = gs.optim.Optimizer(tree, optax.sgd(0.1))
    optimizer.update(tree, {"layers": {"0": {"weight": jnp.float32(1.0)}}})


def a_wrong_shape(tree):
    gs.update(tree, {"layers": {"1": {"weight": jnp.ones(7)}}})


def a_name_that_is_misspelt(tree):
    gs.update(tree, {"layers": {"1": {"wieght": jnp.ones(3)}}})


def a_plain_object(tree):
    gs.jit(lambda thing: None)(object())


def a_lane_dependent_write(tree):
    gs.vmap(lambda tree, x: setattr(tree.count, "value", x), in_axes=(None, 0))(tree, jnp.arange(3))


def a_state_that_outlives_its_trace(tree):
    kept = []
    gs.vmap(lambda x: kept.append(gs.State(x)))(jnp.ones(2))
    _ = kept[0].value


def structures_that_do_not_stack(tree):
    other = Tree()
    other.layers[1].scale = 2.0
    gs.stack([tree, other])


def a_static_value_without_hash(tree):
    tree.layers[0].table = {1, 2}
    gs.split(tree)


SITUATIONS = {
    write_under_plain_jax: (errors.TraceContextError, r"State, created at .*test_messages.py:\d+.*graphstate.jit"),
    set_attribute_of_the_closure: (errors.TraceContextError, r"layers/0.*Pass the Node as an argument"),
    pass_a_node_to_plain_jax: (TypeError, r"Tree"),
    map_different_sizes: (errors.AxisError, r"tree.count.*x"),
    in_axes_of_another_length: (errors.AxisError, r"in_axes"),
    state_axes_that_miss_one: (errors.AxisError, r"`count` \(State\).*Add `\.\.\.: None`"),
    an_axis_that_is_none: (errors.AxisError, r"'0'"),
    two_axes_for_one_state: (errors.AliasError, r"`a.weight` and `b.layers/1/weight` are the same State"),
    a_result_that_is_no_scalar: (TypeError, r"\(3,\)"),
    a_node_as_loss: (TypeError, r"a Tree"),
    a_branch_that_adds_an_attribute: (errors.StructureError, r"tree.layers/0/new: missing -> 1"),
    a_loop_that_adds_an_attribute: (errors.StructureError, r"carry.layers/0/new: missing -> 1"),
    a_loop_that_adds_a_state: (errors.StructureError, r"layers: 2 elements -> 3 elements"),
    a_carry_that_grows: (errors.CarryError, r"`carry.layers/1/weight`.*f.*\[3\].*f.*\[6\]"),
    a_derivative_by_integers: (errors.StateTypeError, r"`tree.count` has dtype int32"),
    merge_too_little: (errors.UpdateError, r"count"),
    merge_too_much: (errors.UpdateError, r"layers/0/weight"),
    a_filter_that_is_none: (TypeError, r"3"),
    filters_that_leave_some_over: (errors.FilterError, r"count \(State\).*Add `\.\.\.`"),
    gradients_of_another_structure: (errors.UpdateError, r"layers/1/weight"),
    a_wrong_shape: (errors.UpdateError, r"layers/1/weight.*\(?3.*7"),
    a_name_that_is_misspelt: (errors.UpdateError, r"layers/1/wieght: unknown"),
    a_plain_object: (errors.StateTypeError, r"`thing`.*object.*(Node|static)"),
    a_lane_dependent_write: (errors.BatchAxisError, r"`tree.count` \(State, created at .*pmean"),
    a_state_that_outlives_its_trace: (errors.TraceContextError, r"created at .*Return the State"),
    structures_that_do_not_stack: (errors.StructureError, r"layers/1/scale"),
    a_static_value_without_hash: (errors.StructureError, r"`layers/0/table`.*graph.Static"),
}


@pytest.mark.no_leak_check("a State is kept beyond its trace on purpose")
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda function: function.__name__)
def test_a_message_says_where_it_went_wrong_and_the_way_out(situation):
    tree = Tree()
    before = jax.tree.map(np.asarray, gs.state(tree))
    kind, text = SITUATIONS[situation]
    with pytest.raises(kind, match=rf"(?s){text}") as raised:
        situation(tree)
    message = str(raised.value).split("\n--------------------\n")[0]
    assert len(message.splitlines()) <= 10
    assert "GraphDef(" not in message
    if situation is not a_static_value_without_hash:
        jax.tree.map(np.testing.assert_array_equal, gs.state(tree), before)
