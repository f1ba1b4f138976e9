"""`while_loop` against a Python loop: carries, States of body and condition, draws, types."""

import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate import environ
from graphstate.errors import BatchAxisError, CarryError, StateTypeError, StructureError, TraceContextError


class Leaf(gs.Node):
    def __init__(self, weight=1.0):
        self.weight = gs.ParamState(jnp.asarray(weight, jnp.float32))

    def grow(self, x):
        self.weight.value = 2 * self.weight.value
        return x + self.weight.value

    def is_small(self, x):
        return self.weight.value < 10

    def __call__(self, x):
        return x * self.weight.value


class Buffer(gs.Node):
    def __init__(self, array):
        self.array = array


def state(value=0.0):
    return gs.State(jnp.asarray(value, jnp.float32))


def counted(cell):
    """A step that counts in a State."""

    def step(x):
        cell.value = cell.value + 1
        return x + 1

    return step


def below(limit):
    return lambda x: x < limit


def eagerly(function):
    return function


surroundings = pytest.mark.parametrize("around", [eagerly, gs.jit])


# Values


@surroundings
def test_a_pure_function_equals_jax(around):
    def step(carry):
        return {"a": carry["a"] * 2, "b": (carry["b"][0] + carry["a"], None), "key": jax.random.split(carry["key"])[0]}

    init = {"a": jnp.int8(1), "b": (jnp.ones(2, jnp.int8), None), "key": jax.random.key(0)}
    expected = jax.lax.while_loop(lambda carry: carry["a"] < 50, step, init)
    result = around(lambda init: gs.while_loop(lambda carry: carry["a"] < 50, step, init))(init)
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    for leaf, other in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        assert jax.typeof(leaf) == jax.typeof(other)
        assert jnp.all(leaf == other)


@pytest.mark.parametrize("init", [0, 0.5, np.float32(1), jnp.int8(2), np.int64(3)])
@pytest.mark.parametrize("dtype", [jnp.int8, jnp.int32, jnp.float16, jnp.float32])
def test_a_weakly_typed_carry_takes_the_type_of_the_step_where_it_does_in_jax(init, dtype):
    def outcome(while_loop):
        try:
            with jax.numpy_dtype_promotion("standard"):
                result = while_loop(lambda x: x < 10, lambda x: jnp.astype(x + 4, dtype), init)
            return result.item(), result.dtype, result.weak_type
        except TypeError:
            return TypeError

    assert outcome(gs.while_loop) == outcome(jax.lax.while_loop)


@surroundings
def test_the_condition_may_be_a_constant(around):
    for false in (False, np.bool_(False), jnp.bool_(False)):
        assert around(lambda x: gs.while_loop(lambda x: false, lambda x: x + 1, x))(1.0) == 1.0  # noqa: B023, at once


# States


@surroundings
def test_states_of_the_closure_are_carried_and_the_condition_sees_them(around):
    total, count, limit = state(1.0), state(), state(20.0)

    def step(x):
        total.value = total.value * x
        count.value = count.value + 1
        return x + 1

    loop = around(lambda x: gs.while_loop(lambda x: total.value < limit.value, step, x))
    assert loop(2.0) == 5.0
    assert (total.value, count.value, limit.value) == (24.0, 3.0, 20.0)
    limit.value = jnp.float32(100)
    assert loop(5.0) == 6.0
    assert (total.value, count.value) == (120.0, 4.0)
    assert loop(5.0) == 5.0
    assert (total.value, count.value) == (120.0, 4.0)


@surroundings
def test_no_step_writes_nothing_and_draws_nothing(around):
    leaf, cell, rng, key = Leaf(3.0), state(2.0), gs.random.RandomState(0), gs.random.DEFAULT.value

    def step(carry):
        carry["leaf"].weight.value = rng.normal()
        cell.value = gs.random.normal()
        return carry

    result = around(lambda leaf: gs.while_loop(lambda carry: carry["x"] > 0, step, {"leaf": leaf, "x": 0.0}))(leaf)
    assert result["leaf"] is leaf
    assert (leaf.weight.value, cell.value) == (3.0, 2.0)
    assert rng.value == gs.random.RandomState(0).value
    assert gs.random.DEFAULT.value == key


@surroundings
def test_a_node_in_the_carry_comes_back_as_the_same_node(around):
    leaf = Leaf(1.0)

    def step(carry):
        carry["leaf"].weight.value = carry["leaf"].weight.value * 2
        return carry

    loop = around(lambda leaf: gs.while_loop(lambda carry: carry["leaf"].weight.value < 10, step, {"leaf": leaf}))
    assert loop(leaf)["leaf"] is leaf
    assert leaf.weight.value == 16.0


@surroundings
def test_a_carried_node_shares_states_with_the_closure(around):
    leaf, other = Leaf(1.0), Leaf(0.0)
    other.weight = leaf.weight

    def step(carry):
        first, second, x = carry
        first.weight.value = first.weight.value + 1
        leaf.weight.value = leaf.weight.value * 2
        second.weight.value = second.weight.value + 1
        return first, second, x + leaf.weight.value

    def run():
        return gs.while_loop(lambda carry: other.weight.value < 20, step, (leaf, other, 0.0))

    first, second, x = around(run)()
    weight, total = 1.0, 0.0
    while weight < 20:
        weight = (weight + 1) * 2 + 1
        total += weight
    assert first is leaf
    assert second is other
    assert (leaf.weight.value, x) == (weight, total)


@surroundings
def test_states_are_written_but_not_read(around):
    last = state()

    def step(x):
        last.value = x
        return x + 1

    around(lambda x: gs.while_loop(below(3), step, x))(0.0)
    assert last.value == 2.0


@surroundings
def test_states_hold_pytrees_and_nothing(around):
    cell, empty = gs.State({"a": jnp.float32(0), "b": (jnp.zeros(2), None)}), gs.State(None)

    def step(x):
        cell.value = {"a": cell.value["a"] + x, "b": (cell.value["b"][0] - 1, None)}
        empty.value = None
        return x + 1

    around(lambda x: gs.while_loop(below(3), step, x))(0.0)
    assert cell.value["a"] == 3.0
    assert cell.value["b"][0].tolist() == [-3.0, -3.0]
    assert empty.value is None


@surroundings
def test_arrays_of_nodes_in_the_carry_are_replaced(around):
    buffer = Buffer(jnp.arange(2.0))

    def step(buffer):
        buffer.array = buffer.array * 3
        return buffer

    assert around(lambda buffer: gs.while_loop(lambda buffer: buffer.array[1] < 10, step, buffer))(buffer) is buffer
    assert buffer.array.tolist() == [0.0, 27.0]


@surroundings
def test_a_weakly_typed_state_takes_the_type_of_the_step(around):
    """The condition, too, is traced with the type that the step gives."""
    with jax.numpy_dtype_promotion("standard"):
        cell, operand = gs.State(7), Buffer(gs.State(7))

        def step(carry):
            node, count = carry
            cell.value = cell.value // 2 + jnp.float32(0.5)
            node.array.value = node.array.value // 2 + jnp.float32(0.5)
            return node, count + 1

        def condition(carry):
            return (cell.value / 2 + carry[0].array.value / 2 + 0 * carry[1]) > 1.4

        around(lambda operand: gs.while_loop(condition, step, (operand, 0)))(operand)
        value = 7.0
        while value > 1.4:
            value = value // 2 + 0.5
        assert cell.value == operand.array.value == value
        assert cell.value.dtype == operand.array.value.dtype == jnp.float32


@surroundings
def test_methods_nodes_and_compiled_functions(around):
    leaf, other = Leaf(1.0), Leaf(2.0)
    assert around(lambda x: gs.while_loop(leaf.is_small, leaf.grow, x))(0.0) == 30.0
    assert leaf.weight.value == 16.0
    assert around(lambda x: gs.while_loop(below(10.0), other, x))(1.0) == 16.0
    assert around(lambda x: gs.while_loop(gs.jit(below(20.0)), gs.jit(other), x))(1.0) == 32.0
    assert around(lambda x: gs.while_loop(below(20.0), functools.partial(jnp.multiply, 3.0), x))(1.0) == 27.0


def test_states_that_changed_between_two_calls_are_read_anew():
    leaf, limit, factor = Leaf(2.0), state(10.0), [1.0]

    def step(x):
        return x * leaf.weight.value * factor[0]

    def condition(x):
        return x < limit.value * environ.get("scale")

    compiled = gs.jit(lambda x: gs.while_loop(condition, step, x))
    for weight, limit.value, factor[0], scale in [
        (2.0, jnp.float32(10.0), 1.0, 1.0),
        (3.0, jnp.float32(10.0), 1.0, 1.0),
        (3.0, jnp.float32(50.0), 1.0, 1.0),
        (3.0, jnp.float32(50.0), 2.0, 1.0),
        (3.0, jnp.float32(50.0), 2.0, 10.0),
        (3.0, jnp.float32(50.0), 2.0, jnp.float32(0.1)),
    ]:
        leaf.weight.value = jnp.float32(weight)
        expected = 1.0
        while expected < limit.value * scale:
            expected *= weight * factor[0]
        with environ.context(scale=scale):
            assert gs.while_loop(condition, step, 1.0) == compiled(1.0) == expected


# Draws


@surroundings
def test_every_step_draws_afresh_and_as_often_as_there_are_steps(around):
    rng, expected = gs.random.RandomState(1), gs.random.RandomState(1)
    node, other = Buffer(gs.random.RandomState(2)), gs.random.RandomState(2)

    def step(carry):
        node, x, draws = carry
        drawn = jnp.stack([rng.normal(), node.array.normal()])
        return node, x + 1, draws.at[x].set(drawn)

    loop = around(lambda node, count: gs.while_loop(lambda carry: carry[1] < count, step, (node, 0, jnp.zeros((4, 2)))))
    for count in (3, 0, 2):
        draws = loop(node, count)[2]
        wanted = np.zeros((4, 2))
        for row in wanted[:count]:
            row[:] = expected.normal(), other.normal()
        np.testing.assert_allclose(draws, wanted, rtol=1e-6)
        assert rng.value == expected.value
        assert node.array.value == other.value


# In other transforms


def test_lanes_loop_for_themselves():
    leaves, rng, other = gs.vmap(Leaf)(jnp.arange(1.0, 4.0)), gs.random.RandomState(0), gs.random.RandomState(0)

    def run(leaf, x):
        return gs.while_loop(leaf.is_small, lambda x: leaf.grow(x) + 0 * rng.normal(), x)

    result = gs.vmap(run)(leaves, jnp.zeros(3))
    assert leaves.weight.value.tolist() == [16.0, 16.0, 12.0]
    np.testing.assert_allclose(result, [30.0, 28.0, 18.0])
    gs.vmap(other.normal, axis_size=3)()
    assert rng.value == other.value


def test_a_lane_dependent_number_of_steps_cannot_be_counted_in_one_state():
    count = state()
    with pytest.raises(BatchAxisError, match=r"`count` .* is not mapped, but a value that depends on the lane"):
        gs.vmap(lambda x: gs.while_loop(below(3.0), counted(count), x))(jnp.arange(3.0))
    assert count.value == 0.0
    gs.vmap(lambda x: gs.while_loop(below(3.0), counted(count), 0.0) + x)(jnp.arange(3.0))
    assert count.value == 3.0


def test_forward_derivatives_flow_through_the_loop():
    leaf = Leaf(2.0)

    def function(x):
        return gs.while_loop(below(20.0), leaf, x)

    assert jax.jvp(function, (1.5,), (1.0,)) == (24.0, 16.0)
    with pytest.raises(ValueError, match=r"Reverse-mode differentiation does not work for lax.while_loop"):
        gs.grad(function)(1.5)


def test_loops_in_loops():
    inner, outer = state(), state()

    def step(x):
        gs.while_loop(below(2.0), counted(inner), 0.0)
        gs.for_loop(lambda: counted(outer)(0.0), length=3)
        return x + 1

    for around in (eagerly, gs.jit):
        inner.value = outer.value = jnp.float32(0)
        assert around(lambda x: gs.while_loop(below(4.0), step, x))(0.0) == 4.0
        assert (inner.value, outer.value) == (8.0, 12.0)
    gs.for_loop(lambda: gs.while_loop(below(4.0), step, 0.0), length=2)
    assert (inner.value, outer.value) == (24.0, 36.0)


def test_without_compilation_the_result_is_the_same():
    leaf, rng, expected = Leaf(1.0), gs.random.RandomState(0), gs.random.RandomState(0)
    with jax.disable_jit():
        assert gs.while_loop(leaf.is_small, leaf.grow, 0.0) == 30.0
        assert gs.while_loop(lambda x: x[1] < 2, lambda x: (rng.normal(), x[1] + 1), (jnp.float32(0), 0))[1] == 2
    assert leaf.weight.value == 16.0
    expected.normal()
    expected.normal()
    assert rng.value == expected.value


# Failures


@surroundings
def test_a_failing_step_changes_nothing(around):
    leaf, cell, key = Leaf(), state(), gs.random.DEFAULT.value
    values = leaf.weight.value, cell.value

    def fail(leaf):
        leaf.weight.value = leaf.weight.value + 1
        cell.value = cell.value + 1
        gs.random.normal()
        raise KeyError("user")

    def step(leaf):
        cell.value = cell.value + 1
        leaf.weight.value = leaf.weight.value + 1
        return leaf

    with pytest.raises(KeyError, match="user"):
        around(lambda leaf: gs.while_loop(lambda leaf: True, fail, leaf))(leaf)
    with pytest.raises(KeyError, match="user"):
        around(lambda leaf: gs.while_loop(fail, step, leaf))(leaf)
    assert leaf.weight.value is values[0]
    assert cell.value is values[1]
    assert gs.random.DEFAULT.value == key


@surroundings
def test_a_condition_that_writes_or_draws_is_an_error(around):
    cell, leaf, key = state(), Leaf(), gs.random.DEFAULT.value

    def write(carry):
        cell.value = cell.value + 1
        return carry["x"] < 3

    def grow(carry):
        carry["leaf"].grow(1.0)
        return carry["x"] < 3

    match = r"The condition of `while_loop` only looks at States, but `.*{}` wrote {}: it runs once more than the body"
    for condition, told in [
        (write, match.format("write", "`cell`")),
        (grow, match.format("grow", r"`carry\['leaf'\].weight`")),
        (lambda carry: gs.random.normal() < carry["x"], match.format("lambda>", "a RandomState, .*DEFAULT.*")),
    ]:
        with pytest.raises(TraceContextError, match=told):
            around(lambda leaf: gs.while_loop(condition, lambda carry: carry, {"leaf": leaf, "x": 1.0}))(leaf)  # noqa: B023, at once
    assert (cell.value, leaf.weight.value) == (0.0, 1.0)
    assert gs.random.DEFAULT.value == key


@surroundings
@pytest.mark.parametrize(
    ("result", "told"),
    [
        (1.0, "a float"),
        (1, "a int"),
        (jnp.float32(1), r"float32\[\]"),
        (jnp.array([True]), r"bool\[1\]"),
        ((True,), "a tuple of 1"),
        (None, "a NoneType"),
        ("text", "a str"),
        (gs.State(True), "a State"),
    ],
)
def test_a_condition_that_is_no_boolean_scalar_is_an_error(around, result, told):
    with pytest.raises(
        StateTypeError,
        match=rf"The condition of `while_loop` returns a boolean scalar, but `.*lambda>` returned {told}. Compare, or",
    ):
        around(lambda x: gs.while_loop(lambda x: result, lambda x: x, x))(1.0)


@surroundings
def test_a_carry_that_changes_is_an_error(around):
    cell, leaf = state(), Leaf()

    def write(value):
        def step(x):
            cell.value = value
            return x

        return step

    def grow(carry):
        carry["leaf"].weight.value = jnp.ones(2)
        return carry

    def loop(step, init=1.0):
        return around(lambda init: gs.while_loop(lambda carry: True, step, init))(init)

    with pytest.raises(
        CarryError,
        match=r"The carry of `while_loop` keeps its structure from step to step, but it was PyTreeDef\(\*\) and .*"
        r"` returned PyTreeDef\(\(\*, \*\)\)",
    ):
        loop(lambda x: (x, x))
    with pytest.raises(
        CarryError,
        match=r"Leaf 1 of the carry is carried by `while_loop` and must keep its shape and dtype, but it was "
        r"float32\[\] and is int32\[\] after a step",
    ):
        loop(lambda carry: (carry[0], jnp.int32(1)), (1, jnp.float32(1)))
    with pytest.raises(
        CarryError, match=r"`cell` is carried by .* it was float32\[\] and is float32\[2\] after a step"
    ):
        loop(write(jnp.ones(2)))
    with pytest.raises(CarryError, match=r"`cell` is carried .* it was PyTreeDef\(\*\) and is PyTreeDef\(\(\*,\)\)"):
        loop(write((1.0,)))
    with pytest.raises(CarryError, match=r"`carry\['leaf'\].weight` is carried .* and is float32\[2\] after a step"):
        loop(grow, {"leaf": leaf})
    with (
        jax.numpy_dtype_promotion("standard"),
        pytest.raises(CarryError, match=r"Leaf 0 .* int32\[\] and is float32\[\]"),
    ):
        loop(lambda carry: (carry[1], carry[1] + jnp.float32(1)), (0, 0))
    assert (cell.value, leaf.weight.value) == (0.0, 1.0)


@surroundings
def test_another_node_in_the_carry_is_an_error(around):
    first, second = Leaf(), Leaf()
    match = (
        r"A Node in the carry of `while_loop` comes back as the same Node: write to its States in place. .* returned "
        r"another one at leaf 0 of the carry"
    )
    for step in (lambda carry: (carry[1], carry[0]), lambda carry: (Leaf(), carry[1]), lambda carry: (1.0, carry[1])):
        with pytest.raises(CarryError, match=match):
            around(lambda *init: gs.while_loop(lambda carry: True, step, init))(first, second)  # noqa: B023, at once
    with pytest.raises(CarryError, match=match):
        gs.while_loop(lambda carry: True, lambda carry: Leaf(), 1.0)


@surroundings
def test_a_structural_change_is_an_error_that_names_its_path(around):
    leaf = Leaf()
    leaf.items = []

    def set_flag(carry):
        carry["leaf"].flag = 1
        return carry

    def change_list(carry):
        leaf.items.append(1)
        return carry

    def ask(carry):
        carry["leaf"].flag = 1
        return True

    for condition, step in ((lambda carry: True, set_flag), (ask, lambda carry: carry)):
        with pytest.raises(
            StructureError,
            match=r"(?s)was changed inside of `while_loop` by .*(set_flag|ask)`:\n  carry\['leaf'\].flag: missing -> 1",
        ):
            around(lambda leaf: gs.while_loop(condition, step, {"leaf": leaf}))(leaf)  # noqa: B023, called at once
    with pytest.raises(TraceContextError, match=r"`leaf.items`, part of a Node .* was changed in place"):
        around(lambda x: gs.while_loop(lambda x: True, change_list, x))(1.0)
    assert not hasattr(leaf, "flag")
    assert leaf.items == []


def test_what_is_no_function_or_array_is_an_error():
    match = "`while_loop` transforms a function, but it was given '3' of type int. Give it a function"
    with pytest.raises(StateTypeError, match=match):
        gs.while_loop(3, lambda x: x, 1.0)
    with pytest.raises(StateTypeError, match=match):
        gs.while_loop(lambda x: True, 3, 1.0)
    with pytest.raises(
        StateTypeError, match=r"`while_loop` takes Nodes, States .* argument `x` of .* is 'text' of type str"
    ):
        gs.while_loop(lambda x: True, lambda x: x, "text")


# Again


@pytest.mark.no_leak_check("counts traces")
def test_condition_and_body_are_traced_once():
    for around in (eagerly, gs.jit):
        runs, leaf = [], Leaf(1.0)

        def condition(leaf):
            runs.append("condition")  # noqa: B023, called at once
            return leaf.weight.value < 10

        def body(leaf):
            runs.append("body")  # noqa: B023, called at once
            leaf.grow(1.0)
            return leaf

        loop = around(lambda leaf: gs.while_loop(condition, body, leaf))
        for each in (leaf, leaf, Leaf(3.0)):
            loop(each)
        assert leaf.weight.value == 16.0
        assert sorted(runs) == ["body", "condition"]


@pytest.mark.no_leak_check("counts traces")
def test_an_eager_loop_called_again_compiles_nothing(caplog):
    leaf, x, condition = Leaf(2.0), jnp.float32(1.0), below(20.0)

    def call():
        gs.while_loop(condition, leaf, x)
        gs.while_loop(leaf.is_small, leaf.grow, x)
        gs.fori_loop(0, 3, nothing, x)
        gs.fori_loop(0, count, nothing, x)

    def nothing(index, x):
        return x

    count = jnp.int32(3)
    call()
    weights = [jnp.float32(3.0), jnp.float32(4.0)]
    with jax.log_compiles():
        for leaf.weight.value in weights:
            call()
    assert not [record for record in caplog.records if "ompiling" in record.getMessage()]


def test_two_threads_loop_at_once():
    cells, errors, barrier = [state(), state()], [], threading.Barrier(2)

    def step(carry):
        cell, x = carry
        cell.value = cell.value + x
        return cell, x + 1

    def run(cell, limit):
        try:
            barrier.wait()
            for _ in range(10):
                gs.while_loop(lambda carry: carry[1] < limit, step, (cell, 0.0))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(cell, 3.0 + number)) for number, cell in enumerate(cells)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [cell.value.item() for cell in cells] == [30.0, 60.0]
