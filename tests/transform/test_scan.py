"""`scan` and `for_loop` against a Python loop: carries, slices, outputs, found States, draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import AliasError, AxisError, CarryError, StateTypeError, StructureError, TraceContextError

STEPS = jnp.arange(1.0, 5.0)


class Leaf(gs.Node):
    def __init__(self, weight=1.0):
        self.weight = gs.ParamState(jnp.asarray(weight, jnp.float32))


class Buffer(gs.Node):
    def __init__(self, array):
        self.array = array


@pytest.mark.parametrize(
    "options", [{}, {"reverse": True}, {"unroll": 3}, {"reverse": True, "unroll": True}, {"length": 4}]
)
def test_a_pure_function_equals_jax_scan(options):
    def function(carry, x):
        return {"a": 2 * carry["a"] + x[0], "b": carry["a"]}, (carry["b"], x[1])

    init, xs = {"a": jnp.float32(1.0), "b": jnp.float32(0.0)}, (STEPS, jnp.ones((4, 2)))
    expected = jax.lax.scan(function, init, xs, **options)
    result = gs.scan(function, init, xs, **options)
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, result, expected)


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"unroll": 2}])
def test_for_loop_equals_the_python_loop(options):
    total = gs.State(jnp.float32(1.0))

    def step(x, y):
        total.value = total.value * 2 + x
        return {"total": total.value, "product": x * y}

    result = gs.for_loop(step, STEPS, 10 * STEPS, **options)
    value, expected = 1.0, [0.0] * 4
    for i in reversed(range(4)) if options.get("reverse") else range(4):
        expected[i] = value = value * 2 + i + 1
    np.testing.assert_array_equal(result["total"], expected)
    np.testing.assert_array_equal(result["product"], 10 * STEPS**2)
    assert total.value == value


def test_nothing_is_scanned_where_the_length_is_given():
    total = gs.State(jnp.float32(1.0))

    def step():
        total.value = total.value * 2
        return total.value

    assert gs.for_loop(step, length=3).tolist() == [2.0, 4.0, 8.0]
    carry, outputs = gs.scan(lambda carry, x: (carry + 1, None), 0, length=3)
    assert (carry, outputs) == (3, None)


def test_no_steps_change_nothing():
    total, leaf = gs.State(jnp.float32(1.0)), Leaf(np.ones((0, 2)))

    def step(x, leaf):
        total.value = total.value + x
        leaf.weight.value = 2 * leaf.weight.value
        return total.value

    assert gs.for_loop(step, jnp.ones(0), leaf).shape == (0,)
    assert total.value == 1.0
    assert leaf.weight.value.shape == (0, 2)
    assert gs.for_loop(lambda: 1.0, length=0).shape == (0,)


# States


def test_states_that_are_only_read_are_not_carried():
    leaf = Leaf(3.0)
    value = leaf.weight.value
    assert gs.for_loop(lambda x: leaf.weight.value * x, STEPS).tolist() == [3.0, 6.0, 9.0, 12.0]
    assert leaf.weight.value is value


def test_a_state_that_is_only_written_holds_the_last_value():
    last = gs.State(jnp.float32(0.0))

    def step(x):
        last.value = x

    gs.for_loop(step, STEPS)
    assert last.value == 4.0


def test_a_state_with_a_pytree_is_carried():
    state = gs.State({"a": jnp.float32(0.0), "b": (jnp.zeros(2),)})

    def step(x):
        state.value = {"a": state.value["a"] + x, "b": (state.value["b"][0] + state.value["a"],)}

    gs.for_loop(step, STEPS)
    assert state.value["a"] == 10.0
    np.testing.assert_array_equal(state.value["b"][0], [10.0, 10.0])


def test_a_node_in_the_carry_comes_back_as_the_same_node():
    leaf = Leaf(1.0)

    def step(carry, x):
        carry["leaf"].weight.value = carry["leaf"].weight.value + x
        return carry, carry["leaf"].weight.value

    carry, outputs = gs.scan(step, {"leaf": leaf}, STEPS)
    assert carry["leaf"] is leaf
    assert outputs.tolist() == [2.0, 4.0, 7.0, 11.0]
    assert leaf.weight.value == 11.0


def test_a_node_may_be_in_the_carry_twice():
    leaf = Leaf(1.0)

    def step(carry, x):
        carry[0].weight.value = carry[0].weight.value + x
        return carry, carry[1].weight.value

    (first, second), outputs = gs.scan(step, (leaf, leaf), STEPS)
    assert first is second is leaf
    assert outputs.tolist() == [2.0, 4.0, 7.0, 11.0]


def test_a_node_in_the_carry_may_be_read_from_the_closure():
    leaf = Leaf(1.0)

    def step(carry, x):
        carry.weight.value = carry.weight.value + x
        return carry, leaf.weight.value

    assert gs.scan(step, leaf, STEPS)[1].tolist() == [2.0, 4.0, 7.0, 11.0]
    assert gs.jit(lambda: gs.scan(step, leaf, STEPS)[1])().tolist() == [12.0, 14.0, 17.0, 21.0]


def test_an_array_attribute_in_the_carry():
    buffer = Buffer(jnp.float32(1.0))

    def step(carry, _):
        carry.array = 2 * carry.array
        return carry, carry.array

    carry, outputs = gs.scan(step, buffer, length=3)
    assert carry is buffer
    assert outputs.tolist() == [2.0, 4.0, 8.0]
    assert buffer.array == 8.0


def test_a_node_in_xs_is_sliced_and_its_writes_are_stacked():
    layers = gs.vmap(Leaf)(STEPS)
    weight = layers.weight

    def step(x, layer):
        layer.weight.value = 10 * layer.weight.value
        return x + layer.weight.value, layer.weight.value / 10

    last, outputs = gs.scan(step, 0.0, layers)
    assert last == 100.0
    assert outputs.tolist() == STEPS.tolist()
    assert layers.weight is weight
    assert weight.value.tolist() == (10 * STEPS).tolist()


def test_array_attributes_in_xs_are_sliced_and_stacked():
    buffer = Buffer(STEPS)

    def step(slice_, x):
        slice_.array = slice_.array * x
        return slice_.array

    assert gs.for_loop(step, buffer, STEPS).tolist() == (STEPS**2).tolist()
    assert buffer.array.tolist() == (STEPS**2).tolist()


def test_layers_in_reverse():
    layers = gs.vmap(Leaf)(STEPS)

    def step(x, layer):
        layer.weight.value = layer.weight.value + x
        return 2 * x, None

    gs.scan(step, 1.0, layers, reverse=True)
    assert layers.weight.value.tolist() == [9.0, 6.0, 5.0, 5.0]


def test_two_stacks_that_share_states_are_sliced_together():
    layers = gs.vmap(Leaf)(STEPS)

    def step(a, b):
        a.weight.value = a.weight.value + 1
        return b.weight.value

    assert gs.for_loop(step, layers, layers).tolist() == (STEPS + 1).tolist()
    assert layers.weight.value.tolist() == (STEPS + 1).tolist()


def test_a_stack_that_is_scanned_and_read_from_the_closure_has_one_meaning():
    """Eagerly and inside of `jit` alike: the slice of this step, or an error."""

    def outcome(run):
        layers = gs.vmap(Leaf)(STEPS)

        def step(layer):
            layer.weight.value = layer.weight.value + 1
            return layers.weight.value

        try:
            return run(step, layers).tolist()
        except AliasError:
            return "error"

    eager = outcome(gs.for_loop)
    assert eager in ("error", (STEPS + 1).tolist())
    assert outcome(lambda step, layers: gs.jit(lambda: gs.for_loop(step, layers))()) == eager
    assert outcome(lambda step, layers: gs.jit(lambda layers: gs.for_loop(step, layers))(layers)) == eager


def test_new_nodes_come_out_stacked():
    leaves = gs.for_loop(lambda x: {"leaf": Leaf(x), "x": 2 * x}, STEPS)
    assert isinstance(leaves["leaf"], Leaf)
    assert leaves["leaf"].weight.value.tolist() == STEPS.tolist()
    _, outputs = gs.scan(lambda carry, x: (carry, Leaf(x * carry.weight.value)), Leaf(2.0), STEPS)
    assert outputs.weight.value.tolist() == (2 * STEPS).tolist()


def test_new_nodes_keep_their_sharing():
    def step(x):
        leaf = Leaf(x)
        return {"a": leaf, "b": [leaf.weight]}

    result = gs.for_loop(step, STEPS)
    assert result["b"][0] is result["a"].weight


# Randomness


def test_every_step_draws_afresh():
    rng, expected = gs.random.RandomState(0), gs.random.RandomState(0)
    drawn = gs.for_loop(lambda: rng.normal(), length=4)
    np.testing.assert_allclose(drawn, [expected.normal() for _ in range(4)], rtol=1e-6)
    assert rng.value == expected.value


def test_stacked_keys_are_sliced_and_scalar_keys_are_not():
    class Draws(gs.Node):
        def __init__(self, seed):
            self.rng = gs.random.RandomState(seed)
            self.weight = gs.State(jnp.float32(0.0))

    stack, members = gs.vmap(Draws)(jnp.arange(3)), [Draws(seed) for seed in range(3)]
    np.testing.assert_allclose(
        gs.for_loop(lambda d: d.rng.normal(), stack), [d.rng.normal() for d in members], rtol=1e-6
    )
    assert stack.rng.value.shape == (3,)
    stack.rng = gs.random.RandomState(7)
    alone = gs.random.RandomState(7)
    np.testing.assert_allclose(
        gs.for_loop(lambda d: d.rng.normal(), stack), [alone.normal() for _ in range(3)], rtol=1e-6
    )
    assert stack.rng.value == alone.value


# Types of carries


def test_a_weakly_typed_state_takes_the_type_of_the_step():
    """As in `jax.lax.scan`, the step is then traced with the new type: nothing computed for an int runs on a float."""
    with jax.numpy_dtype_promotion("standard"):

        def halve(value, x):
            return value // 2 + x

        def step(x):
            state.value = halve(state.value, x)
            return state.value

        def carried(carry, x):
            carry.value = halve(carry.value, x)
            return carry, carry.value

        xs = jnp.array([0.5, 0.5], jnp.float32)
        expected = jax.lax.scan(lambda carry, x: (halve(carry, x),) * 2, 7, xs)[1].tolist()
        assert expected == [3.5, 1.5]
        state = gs.State(7)
        assert gs.for_loop(step, xs).tolist() == expected
        assert state.value == 1.5
        state = gs.State(7)
        assert gs.jit(lambda: gs.for_loop(step, xs))().tolist() == expected
        assert gs.scan(carried, gs.State(7), xs)[1].tolist() == expected


def test_a_python_number_is_carried():
    count = gs.State(0)

    def step(x):
        count.value = count.value + 1
        return x

    gs.for_loop(step, STEPS)
    assert count.value == 4


def test_a_state_that_changes_its_type_is_an_error():
    state = gs.State(jnp.float32(0.0))

    def grow(x):
        state.value = jnp.stack([x, x])

    def cast(x):
        state.value = jnp.int32(3)

    def nest(x):
        state.value = {"a": x}

    with pytest.raises(
        CarryError,
        match=r"`state`.* is carried by `for_loop` and must keep its shape and dtype, but it was float32\[\] "
        r"and is float32\[2\]",
    ):
        gs.for_loop(grow, STEPS)
    with pytest.raises(
        CarryError,
        match=r"it was float32\[\] and is int32\[\] after a step. Write a value of the same type, or return "
        r"it as an output",
    ):
        gs.for_loop(cast, STEPS)
    with pytest.raises(
        CarryError,
        match=r"`state`.* must keep its structure, but it was PyTreeDef\(\*\) and is PyTreeDef\(\{'a': \*\}\) "
        r"after a step",
    ):
        gs.for_loop(nest, STEPS)
    assert state.value == 0.0


def test_a_state_of_the_carry_that_changes_its_type_is_named_by_its_path():
    leaf = Leaf(1.0)

    def step(carry, x):
        carry.weight.value = jnp.stack([x, x])
        return carry, None

    with pytest.raises(CarryError, match=r"carry.weight.* is carried by `scan`"):
        gs.scan(step, leaf, STEPS)
    assert leaf.weight.value == 1.0


def test_a_carry_that_changes_is_an_error():
    with pytest.raises(
        CarryError,
        match=r"The carry of `scan` keeps its structure .* it was PyTreeDef\(\*\) and .* returned "
        r"PyTreeDef\(\(\*, \*\)\)",
    ):
        gs.scan(lambda carry, x: ((carry, carry), x), 0.0, STEPS)
    with pytest.raises(
        CarryError,
        match=r"carry .*is carried by `scan` and must keep its shape and dtype, but it was float32\[\] and is "
        r"int32\[\]",
    ):
        gs.scan(lambda carry, x: (jnp.int32(1), x), jnp.float32(0.0), STEPS)


def test_a_function_that_returns_no_pair_is_an_error():
    with pytest.raises(
        CarryError, match=r"The function of `scan` returns the pair \(carry, output\), but .* returned an array"
    ):
        gs.scan(lambda carry, x: carry, 0.0, STEPS)
    with pytest.raises(CarryError, match=r"returned a list. Return \(carry, None\) where there is no output"):
        gs.scan(lambda carry, x: [carry, x], 0.0, STEPS)


# Structure


def test_a_structural_change_is_an_error():
    leaf, layers = Leaf(), gs.vmap(Leaf)(STEPS)
    leaf.items = []

    def set_attribute(carry, x):
        carry.flag = True
        return carry, x

    def change_list(carry, x):
        carry.items.append(gs.State(x))
        return carry, x

    def change_slice(layer):
        layer.flag = True

    def change_static(carry, x):
        carry.scale = 2.0
        del carry.weight
        return carry, x

    leaf.scale = 1.0
    told = {
        set_attribute: "carry.flag: missing",
        change_list: "carry.items: 0 elements -> 1",
        change_static: "carry.weight: ParamState -> missing\n  carry.scale: 1.0 -> 2.0",
    }
    for change, line in told.items():
        text = rf"(?s)changed inside of `scan` by `.*{change.__name__}`:\n  {line}.*Change it before or after the call"
        with pytest.raises(StructureError, match=text) as raised:
            gs.scan(change, leaf, STEPS)
        assert len(raised.value.differences) == (2 if change is change_static else 1)
    with pytest.raises(StructureError, match=r"(?s)inside of `for_loop`.*\n  x\[0\].flag: missing -> True\n"):
        gs.for_loop(change_slice, layers)
    assert leaf.scale == 1.0
    assert leaf.items == []
    assert not hasattr(leaf, "flag")
    assert not hasattr(layers, "flag")


def test_a_structural_change_of_a_closed_over_node_is_an_error():
    leaf = Leaf()
    leaf.items = []

    def set_attribute(x):
        leaf.flag = True

    def change_list(x):
        leaf.items.append(x)

    with pytest.raises(TraceContextError, match=r"Attribute 'flag' of a Leaf was changed inside"):
        gs.for_loop(set_attribute, STEPS)
    with pytest.raises(TraceContextError, match=r"`leaf.items`, part of a Node .* was changed in place"):
        gs.for_loop(change_list, STEPS)
    assert leaf.items == []


def test_a_node_that_is_called_in_each_step_keeps_its_structure():
    class Counter(gs.Node):
        def __call__(self, x):
            self.count = 1
            return x

    counter = Counter()
    with pytest.raises(TraceContextError, match=r"Attribute 'count' of a Counter was changed inside"):
        gs.for_loop(counter, STEPS)
    assert not hasattr(counter, "count")


def test_another_node_in_the_carry_is_an_error():
    with pytest.raises(
        CarryError,
        match=r"A Node in the carry of `scan` comes back as the same Node: write to its States in place. .* leaf 0",
    ):
        gs.scan(lambda carry, x: (Leaf(), x), Leaf(), STEPS)
    with pytest.raises(CarryError, match=r"returned another one at leaf 0 of the carry"):
        gs.scan(lambda carry, x: ((carry[1], carry[0]), x), (Leaf(), Leaf()), STEPS)
    with pytest.raises(CarryError, match=r"returned another one at leaf 0 of the carry"):
        gs.scan(lambda carry, x: (Leaf(), x), 1.0, STEPS)


def test_an_outer_node_among_the_outputs_is_an_error():
    leaf = Leaf()
    match = (
        r"A Node that was made outside of `(scan|for_loop)` is among its outputs, which are stacked .*Return its values"
    )
    with pytest.raises(AliasError, match=match):
        gs.scan(lambda carry, x: (carry, carry), leaf, STEPS)
    with pytest.raises(AliasError, match=match):
        gs.for_loop(lambda x: leaf, STEPS)


def test_part_of_a_carried_node_among_the_outputs_is_an_error():
    leaf = Leaf()
    with pytest.raises(AliasError, match="among its outputs"):
        gs.scan(lambda carry, x: (carry, carry.weight), leaf, STEPS)


def test_a_state_in_carry_and_xs_is_an_error():
    layers = gs.vmap(Leaf)(STEPS)
    with pytest.raises(
        AliasError,
        match=r"weight.* \(ParamState.*\) is reached from the carry of `scan` and from what it scans: .*Clone "
        r"one of the two",
    ):
        gs.scan(lambda carry, x: (carry, 1.0), layers, layers)


# Lengths


def test_lengths_that_do_not_fit_are_an_error():
    with pytest.raises(AxisError, match=r"`for_loop` needs something to scan, or `length`; it was given neither"):
        gs.for_loop(lambda: 1.0)
    with pytest.raises(AxisError, match=r"`scan` needs something to scan, or `length`"):
        gs.scan(lambda carry, x: (carry, x), 0.0)
    with pytest.raises(AxisError, match=r"`length` of `for_loop` is a number of steps, but it is -1"):
        gs.for_loop(lambda: 1.0, length=-1)
    with pytest.raises(AxisError, match=r"(?s)`for_loop` .*given 2 different ones:.*4 in .* at axis 0.*5 as `length`"):
        gs.for_loop(lambda x: x, STEPS, length=5)
    with pytest.raises(AxisError, match=r"(?s)given 2 different ones:.*3 in .*4 in "):
        gs.for_loop(lambda x, leaf: x, STEPS, Leaf(np.ones(3)))
    with pytest.raises(AxisError, match=r"is mapped at axis 0, but its shape is \(\)"):
        gs.for_loop(lambda x: x, jnp.float32(1.0))
    with pytest.raises(AxisError, match=r"weight.* is mapped at axis 0, but its shape is \(\)"):
        gs.for_loop(lambda leaf: 1.0, Leaf())


def test_what_is_no_array_is_an_error():
    with pytest.raises(
        StateTypeError,
        match=r"`for_loop` takes Nodes, States and pytrees of arrays, but argument `.*x.*` of .* is 'text' of type str",
    ):
        gs.for_loop(lambda x: x, "text")
    with pytest.raises(StateTypeError, match=r"A function transformed by `for_loop` returns .*is 'text' of type str"):
        gs.for_loop(lambda x: "text", STEPS)
    with pytest.raises(StateTypeError, match=r"transforms a function, but it was given '3' of type int"):
        gs.scan(3, 0.0, STEPS)


# Failures


def test_a_failing_loop_changes_nothing():
    leaf, layers, total, key = Leaf(), gs.vmap(Leaf)(STEPS), gs.State(jnp.float32(0.0)), gs.random.DEFAULT.value
    values = leaf.weight.value, layers.weight.value

    def fail(carry, layer):
        carry.weight.value = carry.weight.value + 1
        layer.weight.value = layer.weight.value + 1
        total.value = total.value + 1
        gs.random.normal()
        raise KeyError("user")

    with pytest.raises(KeyError, match="user"):
        gs.scan(fail, leaf, layers)
    assert (leaf.weight.value, layers.weight.value) == values
    assert leaf.weight.value is values[0]
    assert layers.weight.value is values[1]
    assert total.value == 0.0
    assert gs.random.DEFAULT.value == key


# The same function again


@pytest.mark.no_leak_check("counts traces")
def test_an_eager_loop_called_again_is_not_traced_again():
    runs, leaf, total = [], Leaf(2.0), gs.State(jnp.float32(0.0))

    def step(x):
        runs.append(x)
        total.value = total.value + leaf.weight.value * x

    for factor in range(3):
        leaf.weight.value = jnp.float32(factor)
        gs.for_loop(step, STEPS)
    assert total.value == 30.0
    assert len(runs) == 1
    gs.for_loop(step, jnp.ones(2))
    assert len(runs) == 2


@pytest.mark.no_leak_check("counts traces")
def test_an_eager_loop_is_unrolled_as_it_is_told_though_one_equals_true():
    runs = []

    def step(total, x):
        runs.append(x)
        return total + x, None

    for unroll in (1, True, 1, True):
        gs.scan(step, jnp.float32(0.0), STEPS, unroll=unroll)
    assert len(runs) == 2


@pytest.mark.no_leak_check("counts traces")
def test_equal_nodes_that_are_looped_over_share_a_program():
    runs = []

    class Cell(gs.Node):
        def __init__(self):
            self.hidden = gs.HiddenState(jnp.float32(0.0))

        def __call__(self, x):
            runs.append(x)
            self.hidden.value = self.hidden.value + x
            return self.hidden.value

    first, second = Cell(), Cell()
    assert gs.for_loop(first, STEPS).tolist() == [1.0, 3.0, 6.0, 10.0]
    assert gs.for_loop(second, STEPS).tolist() == [1.0, 3.0, 6.0, 10.0]
    assert gs.for_loop(first, STEPS).tolist() == [11.0, 13.0, 16.0, 20.0]
    assert gs.for_loop(second.__call__, STEPS).tolist() == [11.0, 13.0, 16.0, 20.0]
    assert len(runs) == 1


def test_a_wrapper_is_another_function():
    def step(carry, x):
        return carry + x, x

    gs.scan(step, 0.0, STEPS)

    @functools.wraps(step)
    def wrapper(carry, x):
        carry, x = step(carry, x)
        return carry, 10 * x

    assert gs.scan(wrapper, 0.0, STEPS)[1].tolist() == (10 * STEPS).tolist()
    assert gs.scan(step, 0.0, STEPS)[1].tolist() == STEPS.tolist()


@pytest.mark.parametrize("transform", [gs.vmap, gs.jit, gs.StatefulMapping])
def test_a_transformed_function_is_another_function(transform):
    xs = jnp.arange(6.0).reshape(2, 3)

    def step(x):
        return jnp.sum(x)

    assert gs.for_loop(step, xs).shape == (2,)
    expected = jnp.stack([transform(step)(x) for x in xs])
    np.testing.assert_array_equal(gs.for_loop(transform(step), xs), expected)
    assert gs.for_loop(step, xs).shape == (2,)


def test_options_belong_to_the_program():
    def step(carry, x):
        return carry + x, carry * x

    for options in ({}, {"reverse": True}, {"unroll": 2}, {"length": 4}, {}):
        expected = jax.lax.scan(step, 1.0, STEPS, **options)[1]
        assert gs.scan(step, 1.0, STEPS, **options)[1].tolist() == expected.tolist()


def test_a_loop_sees_changes_between_two_calls():
    class Cell(gs.Node):
        def __init__(self):
            self.scale = 2.0
            self.layers = [Leaf(1.0)]

        def __call__(self, x):
            for layer in self.layers:
                x = x * layer.weight.value
            return x * self.scale

    cell = Cell()

    def step(x):
        return cell(x)

    for function in (step, cell, cell.__call__):
        cell.scale, cell.layers = 2.0, [Leaf(1.0)]
        assert gs.for_loop(function, jnp.ones(1)) == 2.0
        cell.scale = 3.0
        assert gs.for_loop(function, jnp.ones(1)) == 3.0
        cell.layers.append(Leaf(5.0))
        assert gs.for_loop(function, jnp.ones(1)) == 15.0
        replaced = cell.layers[0]
        cell.layers[0] = Leaf(7.0)
        assert gs.for_loop(function, jnp.ones(1)) == 105.0
        assert replaced.weight.value == 1.0
