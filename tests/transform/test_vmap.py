"""`vmap` and `StatefulMapping`: axes of arguments, States, results and new Nodes; lanes; what no map can do."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate import random
from graphstate.errors import AliasError, AxisError, BatchAxisError, StateTypeError, TraceContextError
from graphstate.filters import PathContains

LANES = jnp.arange(3.0)


class Leaf(gs.Node):
    def __init__(self, weight, scale=1.0):
        self.weight = gs.ParamState(jnp.asarray(weight, jnp.float32))
        self.scale = scale


class Tree(gs.Node):
    def __init__(self, x):
        self.left = Leaf(x)
        self.right = Leaf(10 * x)


def stacked():
    return gs.vmap(Leaf)(LANES)


# The meaning: a loop over lanes, each of which starts from the States as they were


def test_each_lane_starts_from_the_states_as_they_were():
    counter = gs.State(jnp.float32(1.0))

    def step(x):
        counter.value = counter.value + 1
        return counter.value * x

    np.testing.assert_array_equal(gs.vmap(step)(LANES), [0.0, 2.0, 4.0])
    assert counter.value == 2.0


def test_a_write_that_does_not_depend_on_the_lane_is_kept_once():
    number = gs.State(3)

    def step(x):
        number.value = number.value + 1
        return x

    gs.vmap(step)(LANES)
    assert number.value == 4


def test_a_lane_dependent_write_to_an_unmapped_argument_is_an_error():
    leaf = Leaf(1.0)

    def step(leaf, x):
        leaf.weight.value = leaf.weight.value + x

    with pytest.raises(
        BatchAxisError,
        match=r"`leaf.weight` \(ParamState, created at test_vmap.py:\d+\) is not mapped, but a value that "
        r"depends on the lane was written to it.*"
        r"3 lanes. Map it .*`jax.lax.pmean\(value, axis_name\)`",
    ):
        gs.vmap(step, in_axes=(None, 0))(leaf, LANES)
    assert leaf.weight.value == 1.0


def test_a_lane_dependent_write_to_a_closed_over_state_is_an_error():
    total = gs.State(jnp.float32(0.0))

    def step(x):
        total.value = total.value + x

    with pytest.raises(BatchAxisError, match=r"`total` \(State, created at test_vmap.py:\d+\) is not mapped"):
        gs.vmap(step)(LANES)
    assert total.value == 0.0


def test_a_state_that_is_hidden_from_the_closure_is_named_by_where_it_was_created():
    hidden = types.ModuleType("hidden")  # no closure is looked for in a module
    hidden.state = gs.State(jnp.float32(0.0))

    def step(x):
        hidden.state.value = x

    with pytest.raises(BatchAxisError, match=r"a State, created at test_vmap.py:\d+,? is not mapped"):
        gs.vmap(step)(LANES)
    assert hidden.state.value == 0.0


def test_a_mean_over_the_lanes_may_be_written():
    total = gs.State(jnp.float32(0.0))

    def step(x):
        total.value = total.value + jax.lax.pmean(x, "lanes")

    gs.vmap(step, axis_name="lanes")(LANES)
    assert total.value == 1.0


def test_a_lane_dependent_value_that_went_through_a_gradient_is_found():
    written, weight = gs.State(jnp.float32(0.0)), gs.ParamState(jnp.float32(2.0))

    def loss(x):
        written.value = weight.value * x
        return written.value**2

    def step(x):
        return gs.grad(loss, states=weight)(x)

    with pytest.raises(BatchAxisError, match="`written`"):
        gs.vmap(step)(LANES)
    assert written.value == 0.0


def test_a_lane_dependent_carry_of_an_unmapped_state_is_an_error():
    hidden = gs.HiddenState(jnp.float32(0.0))

    def cell(x):
        hidden.value = hidden.value + x
        return hidden.value

    def sequence(xs):
        return gs.for_loop(cell, xs)

    with pytest.raises(BatchAxisError, match=r"HiddenState, created at test_vmap.py:\d+.* is not mapped"):
        gs.vmap(sequence)(jnp.ones((3, 4)))
    assert hidden.value == 0.0


# Axes of States in arguments


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_an_int_is_the_axis_of_all_states_of_a_node(axis):
    values = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    leaf = Leaf(values)
    count = values.shape[axis]

    def step(leaf, x):
        result = jnp.sum(leaf.weight.value * jnp.arange(1.0, 1 + leaf.weight.value.size)) * x
        leaf.weight.value = leaf.weight.value + x
        return result

    result = gs.vmap(step, in_axes=(axis, 0))(leaf, jnp.arange(float(count)))
    lanes = np.moveaxis(values, axis, 0)
    np.testing.assert_allclose(
        result, [np.sum(lane * np.arange(1.0, 1 + lane.size)) * i for i, lane in enumerate(lanes)]
    )
    np.testing.assert_array_equal(
        leaf.weight.value, np.moveaxis(np.stack([lane + i for i, lane in enumerate(lanes)]), 0, axis)
    )


def test_state_axes_choose_for_each_state():
    tree = Tree(jnp.float32(1.0))
    tree.left.weight.value = jnp.arange(6.0).reshape(2, 3)
    axes = gs.StateAxes({PathContains("left"): 1, ...: None})

    def step(inputs):
        tree, x = inputs["tree"], inputs["x"]
        tree.left.weight.value = tree.left.weight.value * x
        return jnp.sum(tree.left.weight.value) + tree.right.weight.value

    result = gs.vmap(step, in_axes=({"tree": axes, "x": 0},))({"tree": tree, "x": LANES})
    np.testing.assert_array_equal(result, [10.0, 15.0, 24.0])
    np.testing.assert_array_equal(tree.left.weight.value, [[0.0, 1.0, 4.0], [0.0, 4.0, 10.0]])
    assert tree.right.weight.value == 10.0


def test_state_axes_must_name_every_state():
    with pytest.raises(
        AxisError, match=r"`StateAxes` needs an axis for every state, but `weight` \(ParamState\) is matched by none"
    ):
        gs.vmap(lambda leaf: leaf.weight.value, in_axes=gs.StateAxes({gs.BatchState: 0}))(stacked())


def test_state_axes_do_not_stand_for_arrays():
    with pytest.raises(
        AxisError, match=r"`StateAxes` chooses among the States of a Node, but in `in_axes` it stands for the array `x`"
    ):
        gs.vmap(lambda x: x, in_axes=gs.StateAxes({...: 0}))(LANES)
    with pytest.raises(AxisError, match=r"`StateAxes` chooses .* but in `out_axes` it stands for an array"):
        gs.vmap(lambda x: x, out_axes=gs.StateAxes({...: 0}))(LANES)


def test_array_attributes_are_mapped_and_written():
    class Buffer(gs.Node):
        def __init__(self, buffer):
            self.buffer = buffer

        def add(self, x):
            self.buffer = self.buffer + x
            return 2 * self.buffer

    buffer = Buffer(jnp.array([10.0, 20.0, 30.0]))
    np.testing.assert_array_equal(gs.vmap(Buffer.add)(buffer, LANES), [20.0, 42.0, 64.0])
    np.testing.assert_array_equal(buffer.buffer, [10.0, 21.0, 32.0])

    unmapped = Buffer(jnp.float32(1.0))
    with pytest.raises(BatchAxisError, match=r"`self.buffer`.* is not mapped, but a value that depends on the lane"):
        gs.vmap(Buffer.add, in_axes=(None, 0))(unmapped, LANES)
    assert unmapped.buffer == 1.0


def test_a_pytree_in_a_state_is_mapped_leaf_by_leaf():
    state = gs.State({"a": LANES, "b": (jnp.arange(6.0).reshape(3, 2),)})

    def step(state, x):
        state.value = {"a": state.value["a"] * x, "b": (state.value["b"][0] + x,)}

    gs.vmap(step)(state, LANES)
    np.testing.assert_array_equal(state.value["a"], [0.0, 1.0, 4.0])
    np.testing.assert_array_equal(state.value["b"][0], [[0.0, 1.0], [3.0, 4.0], [6.0, 7.0]])


def test_a_mapped_state_may_change_its_structure():
    state = gs.State(LANES)

    def step(state, x):
        state.value = (state.value, {"x": jnp.ones(2)})

    gs.vmap(step)(state, LANES)
    np.testing.assert_array_equal(state.value[0], LANES)
    np.testing.assert_array_equal(state.value[1]["x"], np.ones((3, 2)))


def test_a_mapped_state_that_loses_its_axis_is_an_error():
    state = gs.State(jnp.arange(6.0).reshape(2, 3))

    def step(state):
        state.value = jnp.sum(state.value)

    with pytest.raises(
        AxisError,
        match=r"puts the lanes of `state` .* at axis 1, but with them its shape is \(3,\), lanes first. Choose an axis",
    ):
        gs.vmap(step, in_axes=1)(state)
    assert state.value.shape == (2, 3)


# A State has one axis


def test_one_state_with_two_axes_is_an_error():
    leaf = stacked()
    with pytest.raises(
        AliasError,
        match=r"`a.weight` and `b.weight` are the same State, and the first is mapped at axis 0, the second "
        r"unmapped \(None\). Give both",
    ):
        gs.vmap(lambda a, b: a.weight.value, in_axes=(0, None))(leaf, leaf)


def test_one_state_with_two_axes_within_one_argument_is_an_error():
    leaf = stacked()
    leaf.other = leaf.weight
    axes = gs.StateAxes({PathContains("other"): 0, ...: None})
    assert gs.vmap(lambda leaf: leaf.weight.value, in_axes=gs.StateAxes({...: 0}))(leaf).shape == (3,)
    with pytest.raises(AliasError, match=r"`leaf.other` and `leaf.weight` are the same State"):
        gs.vmap(lambda leaf: leaf.weight.value, in_axes=axes)(leaf)


def test_negative_and_positive_axes_of_one_state_do_not_pass_unseen():
    leaf = Leaf(np.ones((3, 3)))
    with pytest.raises(AliasError, match="are the same State"):
        gs.vmap(lambda a, b: 1.0, in_axes=(0, 1))(leaf, leaf)


def test_a_state_with_an_axis_as_argument_and_another_in_state_in_axes_is_an_error():
    leaf = stacked()
    mapped = gs.vmap(lambda x: leaf.weight.value, in_axes=None, axis_size=3, state_in_axes=gs.State)
    with pytest.raises(
        AliasError, match=r"`x.weight` is unmapped \(None\) as an argument and mapped at axis 0 by `state_in_axes`"
    ):
        mapped(leaf)
    both = gs.vmap(lambda x: leaf.weight.value, in_axes=1, state_in_axes=gs.State)
    leaf.weight.value = jnp.ones((3, 3))
    with pytest.raises(AliasError, match=r"`x.weight` is mapped at axis 1 as an argument and mapped at axis 0"):
        both(leaf)


def test_a_mapped_argument_is_not_read_from_the_closure_too():
    leaf = stacked()

    def step(argument):
        argument.weight.value = argument.weight.value + 1
        return leaf.weight.value

    with pytest.raises(
        AliasError,
        match=r"`argument.weight` is mapped as an argument, so that each lane has its slice, and .* from its "
        r"closure too",
    ):
        gs.vmap(step)(leaf)
    np.testing.assert_array_equal(leaf.weight.value, LANES)


def test_an_unmapped_argument_is_one_state_with_that_of_the_closure():
    leaf = Leaf(1.0)

    def step(argument, x):
        argument.weight.value = argument.weight.value + 1
        return leaf.weight.value * x

    np.testing.assert_array_equal(gs.vmap(step, in_axes=(None, 0))(leaf, LANES), 2 * LANES)
    assert leaf.weight.value == 2.0


# Closed-over States


def test_state_in_axes_map_closed_over_states():
    leaf, offset = Leaf(np.arange(6.0).reshape(2, 3)), gs.State(jnp.float32(5.0))

    def step(x):
        leaf.weight.value = leaf.weight.value * x
        return jnp.sum(leaf.weight.value) + offset.value

    np.testing.assert_array_equal(gs.vmap(step, state_in_axes={gs.ParamState: -1})(LANES), [5.0, 10.0, 19.0])
    np.testing.assert_array_equal(leaf.weight.value, [[0.0, 1.0, 4.0], [0.0, 4.0, 10.0]])


def test_one_filter_means_axis_zero():
    leaf = stacked()
    np.testing.assert_array_equal(
        gs.vmap(lambda x: leaf.weight.value * x, state_in_axes=gs.ParamState)(LANES), [0.0, 1.0, 4.0]
    )


def test_states_that_the_closure_does_not_show_are_mapped_too():
    hidden = types.ModuleType("hidden")  # no closure is looked for in a module
    hidden.state = gs.HiddenState(LANES)

    def step(x):
        hidden.state.value = hidden.state.value + x
        return hidden.state.value

    mapped = gs.vmap(step, state_in_axes=gs.HiddenState)
    np.testing.assert_array_equal(mapped(LANES), [0.0, 2.0, 4.0])
    np.testing.assert_array_equal(hidden.state.value, [0.0, 2.0, 4.0])
    with pytest.raises(
        AxisError, match=r"is mapped at axis 0 by `state_in_axes`, where it has 3 lanes, but the map has 2"
    ):
        mapped(jnp.ones(2))


def test_a_filter_sees_the_value_outside():
    stacked, single = gs.State(jnp.zeros(3)), gs.State(jnp.float32(0.0))

    def step(x):
        single.value = single.value + 1
        stacked.value = stacked.value + single.value
        stacked.value = single.value

    axes = {(lambda path, record: record.value.ndim == 1): 0}
    gs.vmap(step, state_in_axes=axes)(LANES)
    gs.jit(gs.vmap(step, state_in_axes=axes))(LANES)
    np.testing.assert_array_equal(stacked.value, [2.0, 2.0, 2.0])
    assert single.value == 2.0


def test_state_out_axes_stack_what_is_only_written():
    last = gs.State(jnp.float32(0.0))

    def step(x):
        last.value = jnp.stack([x, 2 * x])

    gs.vmap(step, state_out_axes={gs.State: 1})(LANES)
    np.testing.assert_array_equal(last.value, [[0.0, 1.0, 2.0], [0.0, 2.0, 4.0]])


def test_a_state_that_is_read_and_grows_is_an_error():
    total = gs.State(jnp.float32(0.0))

    def step(x):
        total.value = total.value + x

    with pytest.raises(
        BatchAxisError,
        match=r"`total` .* is mapped by `state_out_axes` only, but it was also read: each call would give it a",
    ):
        gs.vmap(step, state_out_axes=gs.State)(LANES)
    assert total.value == 0.0


def test_an_axis_is_never_guessed_from_a_size():
    buffer = gs.State(LANES)

    def step(x):
        return buffer.value * x

    assert gs.vmap(step)(LANES).shape == (3, 3)
    assert buffer.value.shape == (3,)


# Numbers of lanes


def test_no_arguments_are_needed_where_the_size_is_known():
    assert gs.vmap(lambda: 2.0, axis_size=4)().tolist() == [2.0] * 4


def test_an_axis_of_size_zero():
    leaf = Leaf(np.ones((0, 2)))

    def step(leaf):
        leaf.weight.value = 2 * leaf.weight.value
        return jnp.sum(leaf.weight.value)

    assert gs.vmap(step)(leaf).shape == (0,)
    assert leaf.weight.value.shape == (0, 2)


def test_sizes_that_differ_are_an_error():
    with pytest.raises(
        AxisError,
        match=r"(?s)maps over one number of lanes, but it was given 2 different ones:.*2 in `b` at axis 0.*3 "
        r"in `a.weight` at",
    ):
        gs.vmap(lambda a, b: b)(stacked(), jnp.ones(2))
    with pytest.raises(AxisError, match=r"(?s)3 in `x` at axis 0.*7 as `axis_size`"):
        gs.vmap(lambda x: x, axis_size=7)(LANES)
    leaf = stacked()
    with pytest.raises(AxisError, match=r"(?s)2 in `x` at axis 0.*3 in `leaf.weight` at axis 0"):
        gs.vmap(lambda x: leaf.weight.value, state_in_axes=gs.State)(jnp.ones(2))


def test_a_long_list_of_sizes_is_cut():
    arrays = [jnp.ones(size) for size in range(1, 9)]
    with pytest.raises(AxisError, match="and 2 more") as caught:
        gs.vmap(lambda arrays: arrays[0])(arrays)
    assert str(caught.value).count("\n") < 10


def test_leaves_of_one_state_that_differ_in_size_are_an_error():
    with pytest.raises(
        AxisError, match=r"`state` is mapped at axis 0, but its arrays have different sizes there: \[2, 3\]"
    ):
        gs.vmap(lambda state: 1.0)(gs.State((jnp.ones(2), jnp.ones(3))))


def test_nothing_to_map_over_is_an_error():
    with pytest.raises(
        AxisError, match=r"`vmap` needs something to map over, but no argument and no State has an axis. Give `in_axes`"
    ):
        gs.vmap(lambda x: x, in_axes=None)(LANES)
    with pytest.raises(AxisError, match="or say how many lanes with `axis_size`"):
        gs.vmap(lambda: 1.0)()


# Axes that do not fit


def test_a_value_without_the_axis_is_an_error():
    tree = gs.vmap(Tree)(LANES)
    with pytest.raises(
        AxisError, match=r"`x` is mapped at axis 2, but its shape is \(3,\). Choose another axis, or leave it unmapped"
    ):
        gs.vmap(lambda x: x, in_axes=2)(LANES)
    with pytest.raises(AxisError, match=r"`tree.left.weight` is mapped at axis -2, but its shape is \(3,\)"):
        gs.vmap(lambda tree: 1.0, in_axes=-2)(tree)
    scalar = gs.State(jnp.float32(0))
    with pytest.raises(AxisError, match=r"`scalar` is mapped at axis 0, but its shape is \(\)"):
        gs.vmap(lambda x: scalar.value, state_in_axes=gs.State)(LANES)


def test_in_axes_of_another_length_are_an_error():
    with pytest.raises(
        AxisError,
        match=r"`in_axes` must have an entry for each of the 2 positional arguments of .*, but it has 1: "
        r"\(0,\). Keyword",
    ):
        gs.vmap(lambda a, b: a, in_axes=(0,))(LANES, LANES)
    assert gs.vmap(lambda a, *, b: a + b, in_axes=(0,))(LANES, b=LANES).tolist() == [0.0, 2.0, 4.0]


def test_axes_that_are_no_prefix_are_an_error():
    with pytest.raises(
        AxisError,
        match=r"`in_axes` must be a prefix of the arguments .* but it is \(\{'y': 0\},\), and they are "
        r"\(\{'x': '\*'\},\). A Node is",
    ):
        gs.vmap(lambda a: a["x"], in_axes=({"y": 0},))({"x": LANES})
    with pytest.raises(
        AxisError, match=r"`out_axes` must be a prefix of the result .* but it is \(0,\), and they are \('\*', '\*'\)"
    ):
        gs.vmap(lambda a: (a, a), out_axes=(0,))(LANES)


@pytest.mark.parametrize("axis", [1.5, True, "a"])
def test_an_axis_that_is_no_int_is_an_error(axis):
    with pytest.raises(
        AxisError,
        match=rf"`in_axes` holds ints, None and StateAxes, but one of its leaves is {axis!r} of type",
    ):
        gs.vmap(lambda x: x, in_axes=(axis,))(LANES)
    with pytest.raises(AxisError, match=r"`out_axes` holds ints, None and StateAxes"):
        gs.vmap(lambda x: x, out_axes=axis)(LANES)


def test_a_result_without_the_axis_is_an_error():
    with pytest.raises(
        AxisError,
        match=r"`out_axes` puts the lanes of a result at axis 3, but with them its shape is \(3,\), lanes "
        r"first. Choose an axis from -1 to 0",
    ):
        gs.vmap(lambda x: x, out_axes=3)(LANES)


def test_one_result_for_all_lanes_must_not_depend_on_the_lane():
    assert gs.vmap(lambda x: 3.0, out_axes=None)(LANES) == 3.0
    with pytest.raises(
        AxisError,
        match=r"`out_axes` is None for a result that depends on the lane: .*Give it an axis, or reduce it first",
    ):
        gs.vmap(lambda x: x, out_axes=None)(LANES)


# Constructors: Nodes that come out of the lanes


def test_a_constructor_gives_a_stacked_node():
    tree = gs.vmap(Tree)(LANES)
    assert isinstance(tree, Tree)
    np.testing.assert_array_equal(tree.right.weight.value, [0.0, 10.0, 20.0])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_new_states_are_stacked_at_out_axes(axis):
    leaf = gs.vmap(lambda x: Leaf(jnp.stack([x, x + 1])), out_axes=axis)(LANES)
    np.testing.assert_array_equal(leaf.weight.value, np.stack([[x, x + 1] for x in range(3)], axis=axis))


def test_sharing_inside_of_a_lane_is_kept():
    def build(x):
        leaf = Leaf(x)
        return {"a": leaf, "list": [leaf, leaf.weight]}

    result = gs.vmap(build)(LANES)
    assert result["list"][0] is result["a"]
    assert result["list"][1] is result["a"].weight


def test_an_outer_state_in_a_mapped_result_is_an_error():
    trunk = Leaf(1.0)

    class Head(gs.Node):
        def __init__(self, x):
            self.trunk = trunk
            self.head = Leaf(x)

    with pytest.raises(
        AliasError,
        match=r"(?s)The result has `trunk/weight` mapped at axis 0, but that is `.*trunk.weight` "
        r"\(ParamState, created at test_vmap.py:\d+\), "
        r"which was made outside.*`out_axes=StateAxes\(\{filter: None, ...: 0\}\)`; then it stays "
        r"the same object",
    ):
        gs.vmap(Head)(LANES)


def test_an_outer_state_stays_the_same_object_where_it_is_not_mapped():
    trunk = Leaf(1.0)

    class Head(gs.Node):
        def __init__(self, x):
            self.trunk = trunk
            self.head = Leaf(x)

    axes = gs.StateAxes({PathContains("trunk"): None, ...: 0})
    heads = gs.vmap(Head, out_axes=axes)(LANES)
    assert heads.trunk is trunk
    assert heads.head.weight.value.shape == (3,)
    result = gs.vmap(lambda head: head.trunk.weight.value * head.head.weight.value, in_axes=axes)(heads)
    np.testing.assert_array_equal(result, LANES)


def test_a_state_that_is_the_same_in_all_lanes_may_come_out_unmapped():
    axes = gs.StateAxes({PathContains("left"): None, ...: 0})

    def build(x):
        tree = Tree(x)
        tree.left = Leaf(7.0)
        return tree

    tree = gs.vmap(build, out_axes=axes)(LANES)
    assert tree.left.weight.value == 7.0
    assert tree.right.weight.value.shape == (3,)
    assert gs.vmap(lambda x: Leaf(7.0), out_axes=None)(LANES).weight.value == 7.0
    with pytest.raises(
        BatchAxisError,
        match=r"A value that depends on the lane went into the new State `left/weight` of a Node that is not mapped",
    ):
        gs.vmap(Tree, out_axes=axes)(LANES)


def test_a_new_state_with_two_axes_is_an_error():
    def build(x):
        leaf = Leaf(jnp.stack([x, x]))
        return leaf, {"again": leaf}

    with pytest.raises(
        AliasError,
        match=r"A State has one axis, but a new one comes out of the lanes with 2: weight mapped at axis 0, "
        r"weight mapped at axis 1",
    ):
        gs.vmap(build, out_axes=(0, 1))(LANES)


def test_an_outer_array_in_a_mapped_result_is_an_error():
    outer = Leaf(1.0)
    outer.array = jnp.ones(2)
    axes = gs.StateAxes({gs.State: None, ...: 0})
    with pytest.raises(AliasError, match=r"has `array` mapped at axis 0, but that is an array, which was made outside"):
        gs.vmap(lambda x: outer, out_axes=axes)(LANES)


# Nodes that go in and come out


def test_a_returned_argument_is_the_same_object():
    tree = gs.vmap(Tree)(LANES)
    result = gs.vmap(lambda tree, x: (tree, tree.left, tree.right.weight))(tree, LANES)
    assert result[0] is tree
    assert result[1] is tree.left
    assert result[2] is tree.right.weight


def test_a_returned_argument_keeps_its_axes():
    tree = Tree(jnp.float32(1.0))
    mapped = gs.vmap(lambda tree, x: tree, in_axes=(None, 0))
    with pytest.raises(
        AxisError,
        match=r"The argument `tree` is returned as it came in, .* but `in_axes` gives it None and `out_axes` "
        r"0. Give it the same",
    ):
        mapped(tree, LANES)
    assert gs.vmap(lambda tree, x: tree, in_axes=(None, 0), out_axes=None)(tree, LANES) is tree


@pytest.mark.parametrize("part", [lambda tree: tree.left, lambda tree: tree.left.weight, lambda tree: [tree.right]])
def test_a_returned_part_of_an_argument_keeps_its_axes(part):
    tree = Tree(jnp.float32(1.0))
    with pytest.raises((AxisError, AliasError), match="out_axes"):
        gs.vmap(lambda tree, x: part(tree), in_axes=(None, 0))(tree, LANES)
    result = gs.vmap(lambda tree, x: part(tree), in_axes=(None, 0), out_axes=None)(tree, LANES)
    assert jax.tree.leaves(result)[0] is jax.tree.leaves(part(tree))[0]


def test_an_unmapped_state_cannot_become_part_of_a_mapped_node():
    shared, tree = Leaf(7.0), gs.vmap(Tree)(LANES)

    def attach(tree, shared):
        tree.shared = shared

    with pytest.raises(
        (AxisError, AliasError), match=r"shared.weight.* keeps its axis, but `in_axes` gives it None and `out_axes` 0"
    ):
        gs.vmap(attach, in_axes=(0, None))(tree, shared)
    assert not hasattr(tree, "shared")


def test_structural_changes_come_out():
    tree = gs.vmap(Tree)(LANES)
    tree.items, left = [], tree.left
    items = tree.items

    def change(tree, x):
        tree.items.append(gs.State(jnp.stack([x, x])))
        tree.swapped = tree.left
        tree.left = Leaf(x)
        tree.flag = "changed"
        tree.buffer = 2 * x
        del tree.right

    gs.vmap(change)(tree, LANES)
    assert tree.items is items
    np.testing.assert_array_equal(tree.items[0].value, [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    assert tree.swapped is left
    np.testing.assert_array_equal(tree.left.weight.value, LANES)
    np.testing.assert_array_equal(tree.buffer, 2 * LANES)
    assert tree.flag == "changed"
    assert not hasattr(tree, "right")


def test_a_new_lane_dependent_state_on_an_unmapped_node_is_an_error():
    leaf = Leaf(1.0)

    def change(leaf, x):
        leaf.extra = gs.State(x)

    with pytest.raises(
        BatchAxisError,
        match=r"went into the new State `extra` of a Node that is not mapped: one State cannot hold the "
        r"values of 3 lanes",
    ):
        gs.vmap(change, in_axes=(None, 0))(leaf, LANES)
    assert not hasattr(leaf, "extra")


def test_new_states_follow_the_state_axes_of_their_node():
    tree = gs.vmap(Tree)(LANES)
    tree.right = Leaf(1.0)
    axes = gs.StateAxes({PathContains("left"): 0, ...: None})

    def change(tree, x):
        tree.left.extra = gs.State(x)
        tree.right.extra = gs.State(jnp.float32(4.0))

    gs.vmap(change, in_axes=(axes, 0))(tree, LANES)
    assert tree.left.extra.value.shape == (3,)
    assert tree.right.extra.value == 4.0


# Randomness in lanes


def test_lane_i_draws_from_the_key_and_i_only():
    rng = random.RandomState(0)
    key = rng.value
    five = gs.vmap(lambda: rng.normal(size=2), axis_size=5)()
    after = rng.value
    rng.value = key
    three = gs.vmap(lambda: rng.normal(size=2), axis_size=3)()
    np.testing.assert_array_equal(five[:3], three)
    new, base = jax.random.split(key)
    assert rng.value == after == new
    for lane in range(5):
        expected = random.RandomState(jax.random.fold_in(base, lane)).normal(size=2)
        np.testing.assert_allclose(five[lane], expected, rtol=1e-6)


def test_a_map_advances_the_stream_once():
    rng = random.RandomState(0)
    expected, _ = jax.random.split(rng.value)
    gs.vmap(lambda x: (rng.normal(), rng.uniform(), rng.split_key(), rng.normal()))(LANES)
    assert rng.value == expected


READS = {
    "draw": lambda rng: rng.normal(),
    "value": lambda rng: jax.random.normal(rng.value),
    "split": lambda rng: jax.random.normal(rng.split_key()),
    "clone": lambda rng: rng.clone().normal(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("where", ["argument", "closure", "node"])
def test_whatever_a_lane_reads_of_a_stream_is_its_own(read, where):
    rng = random.RandomState(0)
    before = rng.value
    if where == "argument":
        drawn = gs.vmap(lambda rng, x: read(rng), in_axes=(None, 0))(rng, LANES)
    elif where == "closure":
        drawn = gs.vmap(lambda x: read(rng))(LANES)
    else:
        node = Leaf(1.0)
        node.rng = rng
        drawn = gs.vmap(lambda node, x: read(node.rng), in_axes=(gs.StateAxes({random.RandomState: 0, ...: None}), 0))(
            node, LANES
        )
    assert len(set(drawn.tolist())) == 3
    assert rng.value == jax.random.split(before)[0]


def test_a_stream_that_nobody_draws_from_stays_as_it_is():
    leaf = Leaf(1.0)
    leaf.rng = random.RandomState(0)
    key = leaf.rng.value

    def loss(leaf, x):
        return leaf.weight.value * x

    gs.vmap(lambda leaf, x: leaf.weight.value * x, in_axes=(None, 0), rng="error")(leaf, LANES)
    assert leaf.rng.value == key
    gs.vmap(lambda leaf, x: gs.grad(loss)(leaf, x), in_axes=(None, 0), rng="error")(leaf, LANES)
    gs.vmap(lambda leaf, x: gs.jit(loss)(leaf, x), in_axes=(None, 0))(leaf, LANES)
    gs.vmap(lambda leaf, x: gs.eval_shape(loss, leaf, x).size, in_axes=(None, 0), rng="error")(leaf, LANES)
    gs.vmap(lambda leaf, x: gs.scan(lambda c, y: (c, loss(c, y)), leaf, x[None])[1], (None, 0), rng="error")(
        leaf, LANES
    )
    assert leaf.rng.value == key


@pytest.mark.parametrize(
    "call",
    [
        lambda model, x: gs.jit(lambda model, x: model.weight.value * x)(model, x),
        lambda model, x: gs.grad(lambda model: model.weight.value * x)(model)["weight"],
        lambda model, x: gs.checkpoint(lambda model, x: model.weight.value * x)(model, x),
        lambda model, x: gs.cond(x > 1, lambda model: model.weight.value * x, lambda model: x, model),
        lambda model, x: gs.scan(lambda model, x: (model, model.weight.value * x), model, x[None])[1],
    ],
    ids=["jit", "grad", "checkpoint", "cond", "scan"],
)
@pytest.mark.parametrize("is_closed_over", [True, False], ids=["closed over", "argument"])
def test_a_model_that_draws_nothing_may_be_passed_on_in_a_lane(call, is_closed_over):
    model = Leaf(2.0)
    model.rng = random.RandomState(0)
    before = jax.random.key_data(model.rng.value)
    if is_closed_over:
        gs.vmap(lambda x: call(model, x))(LANES)
    else:
        gs.vmap(call, in_axes=(None, 0))(model, LANES)
    np.testing.assert_array_equal(jax.random.key_data(model.rng.value), before)


def test_a_seed_in_the_lane_gives_what_the_loop_gives():
    key = random.DEFAULT.value

    def draw(seed):
        random.seed(seed)
        return random.normal(size=2)

    drawn = gs.vmap(draw)(jnp.arange(3))
    assert random.DEFAULT.value == key
    with random.seed_context(0):
        for seed in range(3):
            np.testing.assert_allclose(drawn[seed], draw(seed), rtol=1e-6)


def test_stacked_keys_are_mapped():
    class Draws(gs.Node):
        def __init__(self, seed):
            self.rng = random.RandomState(seed)

        def __call__(self):
            return self.rng.normal()

    stack, members = gs.vmap(Draws)(jnp.arange(3)), [Draws(seed) for seed in range(3)]
    for _ in range(2):
        np.testing.assert_allclose(gs.vmap(lambda draws: draws())(stack), [member() for member in members], rtol=1e-6)
    assert stack.rng.value.shape == (3,)


def test_same_draws_alike_in_all_lanes():
    rng = random.RandomState(0)
    other = random.RandomState(0)
    drawn = gs.vmap(lambda x: rng.normal() + x * 0, rng="same")(LANES)
    assert drawn.tolist() == [other.normal()] * 3
    assert rng.value == other.value


@pytest.mark.parametrize("where", ["argument", "closure"])
def test_error_refuses_draws(where):
    rng = random.RandomState(0)
    key = rng.value
    mapped = gs.vmap(lambda argument, x: (argument if where == "argument" else rng).normal(), (None, 0), rng="error")
    argument, name = (rng, "argument") if where == "argument" else (jnp.float32(0.0), "rng")
    with pytest.raises(
        TraceContextError,
        match=rf'`{name}` \(RandomState, created at .*\) was drawn from inside of a map with rng="error". Seed it',
    ):
        mapped(argument, LANES)
    assert rng.value == key


def test_another_word_for_rng_is_an_error():
    with pytest.raises(AxisError, match="`rng` is one of 'split', 'same', 'error', but it is 'no'"):
        gs.vmap(lambda x: x, rng="no")


def test_draws_of_nested_maps_all_differ():
    rng = random.RandomState(0)
    before = rng.value
    drawn = gs.vmap(lambda x: gs.vmap(lambda y: rng.normal())(jnp.ones(2)))(LANES)
    assert len(set(np.ravel(drawn).tolist())) == 6
    assert rng.value == jax.random.split(before)[0]


def test_a_lane_may_be_given_a_stream_of_its_own_only_where_it_is_mapped():
    leaf = Leaf(1.0)
    leaf.rng = random.RandomState(0)

    def change(leaf, seed):
        leaf.rng = random.RandomState(seed)
        return leaf.rng.normal()

    with pytest.raises(BatchAxisError, match=r"the new State `rng` of a Node that is not mapped"):
        gs.vmap(change, in_axes=(None, 0))(leaf, jnp.arange(3))
    member = stacked()
    gs.vmap(change)(member, jnp.arange(3))
    assert member.rng.value.shape == (3,)


def test_the_key_of_a_lane_is_lane_dependent():
    rng, other = random.RandomState(0), gs.State(jax.random.key(0))

    def copy(x):
        other.value = rng.value

    with pytest.raises(BatchAxisError, match="`other`"):
        gs.vmap(copy)(LANES)


# StatefulMapping and decorators


def test_stateful_mapping_takes_any_function_of_the_form_of_vmap():
    calls = []

    def mapping(function, **axes):
        calls.append(sorted(axes))
        return jax.vmap(function, **axes)

    hidden = gs.HiddenState(jnp.zeros(3))

    def step(x):
        hidden.value = hidden.value + x
        return hidden.value

    mapped = gs.StatefulMapping(step, state_in_axes={gs.HiddenState: 0}, mapping_fn=mapping)
    np.testing.assert_array_equal(mapped(LANES), LANES)
    np.testing.assert_array_equal(mapped(LANES), 2 * LANES)
    assert calls == [["axis_name", "axis_size", "in_axes", "out_axes"]] * 2


def test_a_mapping_that_compiles_leaves_no_tracer_behind():
    counter = gs.State(jnp.float32(0.0))

    def step(x):
        counter.value = counter.value + 1
        return 2 * x

    def mapping(function, **axes):
        return jax.jit(jax.vmap(function, **axes))

    np.testing.assert_array_equal(gs.StatefulMapping(step, mapping_fn=mapping)(LANES), 2 * LANES)
    assert counter.value == 1.0


# JAX wraps what these return in tracers of the map, whether it depends on the lane or not.
WRAPPED = {
    "custom_jvp": jax.nn.relu,
    "the gradient of a checkpoint": lambda x: jax.grad(jax.checkpoint(lambda x: x * jnp.sin(x)))(x),
}


@pytest.mark.parametrize("operation", WRAPPED.values(), ids=WRAPPED)
def test_what_all_lanes_share_leaves_no_tracer_behind(operation):
    closed, given = gs.State(jnp.float32(2.0)), gs.State(jnp.float32(3.0))

    def step(given, x):
        closed.value = operation(closed.value)
        given.value = operation(given.value)
        return x, operation(x.size + closed.value), gs.State(operation(given.value))

    out_axes = (0, None, None)
    _, result, fresh = gs.vmap(step, in_axes=(None, 0), out_axes=out_axes)(given, LANES)
    values = [closed.value, given.value, result, fresh.value]
    first, second = operation(jnp.float32(2.0)), operation(jnp.float32(3.0))
    np.testing.assert_allclose(np.stack(values), [first, second, operation(1 + first), operation(second)], rtol=1e-6)


def test_mapping_kwargs_reach_the_function():
    def mapping(function, factor, **axes):
        return lambda inputs: [factor * part for part in jax.vmap(function, **axes)(inputs)]

    mapped = gs.StatefulMapping(lambda x: x, mapping_fn=mapping, mapping_kwargs={"factor": 10.0})
    np.testing.assert_array_equal(mapped(LANES), 10 * LANES)


def test_vmap_returns_a_stateful_mapping_that_wraps():
    def named(x):
        """Says something."""
        return x

    mapped = gs.vmap(named)
    assert isinstance(mapped, gs.StatefulMapping)
    assert (mapped.__name__, mapped.__doc__, mapped.__wrapped__) == ("named", "Says something.", named)


def test_methods_can_be_decorated_with_parameters_first():
    class Scale(gs.Node):
        def __init__(self):
            self.factor = gs.State(jnp.float32(2.0))

        @gs.vmap(in_axes=(None, 0))
        def __call__(self, x):
            return self.factor.value * x

    scale = Scale()
    np.testing.assert_array_equal(scale(LANES), 2 * LANES)
    np.testing.assert_array_equal(gs.vmap(Scale.__call__.function, (None, 0))(scale, LANES), 2 * LANES)


def test_a_node_can_be_the_function():
    leaf = Leaf(2.0)

    class Scale(gs.Node):
        def __init__(self):
            self.leaf = leaf
            self.calls = gs.State(jnp.int32(0))

        def __call__(self, x):
            self.calls.value = self.calls.value + 1
            return self.leaf.weight.value * x

    scale = Scale()
    np.testing.assert_array_equal(gs.vmap(scale)(LANES), 2 * LANES)
    assert scale.calls.value == 1


def test_a_partial_can_be_the_function():
    leaf = Leaf(2.0)
    mapped = gs.vmap(functools.partial(lambda leaf, x, power: leaf.weight.value * x**power, leaf, power=2))
    np.testing.assert_array_equal(mapped(LANES), [0.0, 2.0, 8.0])


def test_an_argument_that_is_no_array_is_an_error():
    with pytest.raises(
        StateTypeError,
        match=r"`vmap` takes .* but argument `mode` of .* is 'text' of type str. Bind it with "
        r"`functools.partial`, or read it from the closure\.$",
    ):
        gs.vmap(lambda x, *, mode: x)(LANES, mode="text")


def test_a_result_that_is_no_array_is_an_error():
    with pytest.raises(
        StateTypeError,
        match=r"A function transformed by `vmap` returns .* but its result at \['note'\] is 'text' of type str",
    ):
        gs.vmap(lambda x: {"note": "text"})(LANES)


def test_only_functions_are_mapped():
    with pytest.raises(
        StateTypeError,
        match=r"`vmap` transforms a function, but it was given '0' of type int. .*`@graphstate.vmap\(...\)`",
    ):
        gs.vmap(0)


# Failures


def test_a_failing_call_changes_nothing():
    leaf, key = stacked(), random.DEFAULT.value
    weight, value = leaf.weight, leaf.weight.value

    def fail(leaf, x):
        leaf.weight.value = leaf.weight.value + x
        leaf.scale = 5.0
        random.normal()
        raise KeyError("user")

    with pytest.raises(KeyError, match="user"):
        gs.vmap(fail)(leaf, LANES)
    assert leaf.weight is weight
    assert leaf.weight.value is value
    assert leaf.scale == 1.0
    assert random.DEFAULT.value == key


@pytest.mark.parametrize("options", [{"out_axes": 5}, {"out_axes": None}, {"out_axes": (0, 0, 0)}])
def test_bad_axes_change_nothing(options):
    leaf, key, total = stacked(), random.DEFAULT.value, gs.State(jnp.float32(0.0))
    value = leaf.weight.value

    def step(leaf, x):
        leaf.weight.value = leaf.weight.value + x
        leaf.extra = gs.State(x)
        total.value = total.value + 1
        return x + random.normal()

    with pytest.raises(AxisError, match="out_axes"):
        gs.vmap(step, **options)(leaf, LANES)
    assert leaf.weight.value is value
    assert not hasattr(leaf, "extra")
    assert total.value == 0.0
    assert random.DEFAULT.value == key


def test_a_dict_of_the_caller_is_not_changed_in_place():
    state = gs.State({"a": jnp.float32(1.0)})

    def step(x):
        state.value["a"] = x

    with pytest.raises(TraceContextError, match=r"changed in place: .*Write a new value instead"):
        gs.vmap(step)(LANES)
    assert state.value["a"] == 1.0


def test_a_map_within_a_lane_that_draws_nothing_leaves_the_stream_where_it_was():
    """The inner map asks its filters about everything that it could reach, also about the key of the lane."""

    class Noisy(gs.Node):
        def __init__(self):
            self.rng = gs.random.RandomState(0)
            self.count = gs.State(jnp.int32(0))

    node = Noisy()
    before = node.rng.value

    def outer(node, _):
        def inner(_):
            node.count.value = node.count.value + 1

        gs.vmap(inner, out_axes=None)(LANES)

    for call in (gs.vmap(outer, in_axes=(None, 0), out_axes=None), gs.jit(gs.vmap(outer, (None, 0), None))):
        call(node, LANES)
        assert node.rng.value == before
    assert node.count.value == 2


def test_state_axes_may_look_at_values():
    node = gs.Node()
    node.mapped, node.shared = gs.State(LANES), gs.State(jnp.float32(2.0))
    axes = gs.StateAxes({lambda path, record: record.value.ndim == 1: 0, ...: None})
    out = gs.vmap(lambda node: node.mapped.value * node.shared.value, in_axes=axes)(node)
    assert out.tolist() == (2 * LANES).tolist()


def test_values_that_are_left_out_in_a_lane_are_not_read():
    model = Leaf(2.0)
    model.rng = random.RandomState(0)
    before = model.rng.value
    gs.vmap(lambda model, x: gs.state(model, gs.ParamState)["weight"] * x, in_axes=(None, 0))(model, LANES)
    assert model.rng.value == before
