"""`fori_loop` against `for index in range(lower, upper)`: bounds, carries, States, draws, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import CarryError, StateTypeError, StructureError, TraceContextError


class Leaf(gs.Node):
    def __init__(self, weight=1.0):
        self.weight = gs.ParamState(jnp.asarray(weight, jnp.float32))

    def __call__(self, index, x):
        return x * self.weight.value + jnp.asarray(index, jnp.float32)


def state(value=0.0):
    return gs.State(jnp.asarray(value, jnp.float32))


def eagerly(function):
    return function


surroundings = pytest.mark.parametrize("around", [eagerly, gs.jit])
BOUNDS = pytest.mark.parametrize("bound", [int, np.int32, np.uint8, np.array, jnp.int32, jnp.uint8, jnp.array])


def known(body, lower, upper, init, **options):
    return gs.fori_loop(lower, upper, body, init, **options)


def traced(body, lower, upper, init):
    return gs.jit(lambda lower, upper, init: gs.fori_loop(lower, upper, body, init))(lower, upper, init)


def arrays(body, lower, upper, init):
    return gs.fori_loop(jnp.array(lower), jnp.array(upper), body, init)


LOOPS = pytest.mark.parametrize("loop", [known, arrays, traced])


# Bounds


@BOUNDS
@pytest.mark.parametrize(("lower", "upper"), [(0, 3), (2, 3), (3, 3), (5, 2), (250, 255)])
def test_the_index_is_that_of_jax(bound, lower, upper):
    def outcome(fori_loop, around=eagerly):
        types = []

        def body(index, carry):
            types.append(jax.typeof(index))
            return carry * 2 + jnp.astype(index, jnp.int32)

        result = around(lambda: fori_loop(bound(lower), bound(upper), body, 1))()
        return result.item(), jax.typeof(result), types[-1]

    expected = outcome(jax.lax.fori_loop)
    assert outcome(gs.fori_loop) == expected
    assert outcome(gs.fori_loop, gs.jit) == outcome(jax.lax.fori_loop, jax.jit)
    value = 1
    for index in range(lower, upper):
        value = value * 2 + index
    assert expected[0] == value


@pytest.mark.parametrize("bound", [int, np.int64, jnp.int32])
def test_negative_bounds(bound):
    for lower, upper in [(-3, 2), (-3, -5), (-3, -1)]:
        for loop in (known, traced):
            assert loop(lambda index, total: total * 10 + index, bound(lower), bound(upper), 0) == sum(
                index * 10 ** (upper - 1 - index) for index in range(lower, upper)
            )


def test_traced_bounds_have_one_type_and_lose_no_digits():
    def loop(lower, upper):
        return gs.fori_loop(lower, upper, lambda index, count: count + 1, 0)

    assert gs.jit(lambda upper: loop(1, upper))(jnp.uint8(5)) == 4
    assert gs.jit(lambda lower: loop(lower, 200))(jnp.uint8(5)) == 195
    assert gs.jit(loop)(0, jnp.int32(4)) == 4
    match = "`lower` and `upper` of `fori_loop` are integers of one type, but they are {}. Convert one of them"
    with pytest.raises(StateTypeError, match=match.format(r"uint8\[\] and 300")):
        gs.jit(lambda lower: loop(lower, 300))(jnp.uint8(5))
    with pytest.raises(StateTypeError, match=match.format(r"-1 and uint8\[\]")):
        gs.jit(lambda upper: loop(-1, upper))(jnp.uint8(5))
    with pytest.raises(StateTypeError, match=match.format(r"uint8\[\] and int32\[\]")):
        gs.jit(loop)(jnp.uint8(5), jnp.int32(300))
    with pytest.raises(StateTypeError, match=match.format(r"uint8\[\] and int32\[\]")):
        gs.jit(loop)(jnp.uint8(5), 300)


@surroundings
def test_what_is_no_bound_is_an_error(around):
    match = "`{}` of `fori_loop` is an integer, but it is {}. Convert it"
    for bound, told in [
        (2.0, "'2.0' of type float"),
        (True, "'True' of type bool"),
        (np.float32(2), "'2.0' of type float32"),
        (jnp.float32(2), "'2.0' of type ArrayImpl"),
        (jnp.array([2]), r"'\[2\]' of type ArrayImpl"),
        (None, "'None' of type NoneType"),
        (gs.State(3), r"'State\(3\)' of type State"),
    ]:
        with pytest.raises(StateTypeError, match=match.format("upper", told)):
            around(lambda: gs.fori_loop(0, bound, lambda index, x: x, 0))()  # noqa: B023, called at once
        with pytest.raises(StateTypeError, match=match.format("lower", told)):
            around(lambda: gs.fori_loop(bound, 3, lambda index, x: x, 0))()  # noqa: B023, called at once


def test_unroll_needs_bounds_that_are_known():
    def body(index, x):
        return x * 2 + index

    for unroll in (1, 2, True, False):
        assert known(body, 0, 5, 1, unroll=unroll) == jax.lax.fori_loop(0, 5, body, 1, unroll=unroll)
    match = "`unroll` of `fori_loop` needs bounds that are known when the loop is traced, .*or pass ints"
    with pytest.raises(StateTypeError, match=match):
        gs.jit(lambda upper: gs.fori_loop(0, upper, body, 1, unroll=2))(5)
    with pytest.raises(StateTypeError, match=match):
        gs.fori_loop(0, jnp.int32(5), body, 1, unroll=2)


# Values and States


@LOOPS
def test_a_carry_is_that_of_jax(loop):
    def body(index, carry):
        return {"a": carry["a"] * 2 + jnp.astype(index, jnp.int8), "b": (None, carry["b"][1] + carry["a"])}

    init = {"a": jnp.int8(1), "b": (None, jnp.ones(2, jnp.int8))}
    result, expected = loop(body, 1, 4, init), jax.lax.fori_loop(1, 4, body, init)
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, result, expected)
    assert jax.tree.map(jax.typeof, result) == jax.tree.map(jax.typeof, expected)


@LOOPS
def test_a_weakly_typed_carry_takes_the_type_of_the_step(loop):
    def body(index, carry):
        return carry + jnp.float32(0.5)

    with jax.numpy_dtype_promotion("standard"):
        result, expected = loop(body, 0, 3, 1), jax.lax.fori_loop(0, 3, body, 1)
    assert (result, result.dtype) == (expected, expected.dtype)


@LOOPS
def test_states_and_nodes_are_carried(loop):
    leaf, total, last, never = Leaf(2.0), state(), state(), state(7.0)

    def body(index, carry):
        carry["leaf"].weight.value = carry["leaf"].weight.value + 1
        total.value = total.value + leaf.weight.value * index + 0 * never.value
        last.value = jnp.float32(1) * index
        return {"leaf": carry["leaf"], "x": carry["x"] + leaf.weight.value}

    for repeat in range(2):
        total.value, leaf.weight.value = jnp.float32(0), jnp.float32(2.0 + repeat)
        result = loop(body, 1, 4, {"leaf": leaf, "x": 0.0})
        assert result["leaf"] is leaf
        assert result["x"] == 12.0 + 3 * repeat
        assert total.value == sum((2.0 + repeat + index) * index for index in range(1, 4))
        assert (last.value, leaf.weight.value, never.value) == (3.0, 5.0 + repeat, 7.0)


@LOOPS
def test_no_steps_change_nothing(loop):
    leaf, cell, rng = Leaf(2.0), state(1.0), gs.random.RandomState(0)

    def body(index, leaf):
        leaf.weight.value = leaf.weight.value + rng.normal()
        cell.value = cell.value + 1
        return leaf

    assert loop(body, 3, 3, leaf) is leaf
    assert loop(body, 3, 1, leaf) is leaf
    assert (leaf.weight.value, cell.value) == (2.0, 1.0)
    assert rng.value == gs.random.RandomState(0).value


@LOOPS
def test_every_step_draws_afresh(loop):
    rng, expected = gs.random.RandomState(0), gs.random.RandomState(0)

    def body(index, draws):
        return draws.at[index].set(rng.normal())

    np.testing.assert_allclose(loop(body, 0, 3, jnp.zeros(3)), [expected.normal() for _ in range(3)], rtol=1e-6)
    assert rng.value == expected.value


@LOOPS
def test_a_node_is_the_body(loop):
    leaf = Leaf(2.0)
    for weight in (2.0, 3.0):
        leaf.weight.value = jnp.float32(weight)
        assert loop(leaf, 0, 3, 1.0) == ((weight + 0) * weight + 1) * weight + 2


# In other transforms


@pytest.mark.parametrize("upper", [3, np.int64(3), jnp.int32(3)])
def test_gradients_flow_through_a_loop_whose_bounds_are_known(upper):
    leaf = Leaf(2.0)

    def loss(leaf, x):
        return gs.fori_loop(0, upper, leaf, x)

    def expected(weight, x):
        return jax.lax.fori_loop(0, 3, lambda index, x: x * weight + index, x)

    for around in (eagerly, gs.jit):
        grads = around(gs.grad(loss, argnums=(0, 1)))(leaf, 1.5)
        np.testing.assert_allclose([grads[0]["weight"], grads[1]], jax.grad(expected, (0, 1))(2.0, 1.5), rtol=1e-6)


def test_a_state_that_two_steps_share_has_one_gradient():
    class Tied(gs.Node):
        def __init__(self):
            self.first = Leaf(2.0)
            self.second = Leaf(0.0)
            self.second.weight = self.first.weight

        def __call__(self, index, x):
            return self.second(index, self.first(index, x))

    tied = Tied()
    grads = gs.grad(lambda tied, x: gs.fori_loop(0, 2, tied, x))(tied, 1.0)

    def expected(weight):
        x = 1.0
        for index in range(2):
            x = (x * weight + index) * weight + index
        return x

    (grad,) = jax.tree.leaves(grads)
    np.testing.assert_allclose(grad, jax.grad(expected)(2.0), rtol=1e-6)


def test_lanes_have_their_own_bounds():
    leaves = gs.vmap(Leaf)(jnp.arange(1.0, 4.0))
    result = gs.vmap(lambda leaf, upper: gs.fori_loop(0, upper, leaf, 1.0))(leaves, jnp.array([0, 2, 3]))
    assert result.tolist() == [leaf_result(1.0, 0), leaf_result(2.0, 2), leaf_result(3.0, 3)]


def leaf_result(weight, upper):
    x = 1.0
    for index in range(upper):
        x = x * weight + index
    return x


def test_without_compilation_the_result_is_the_same():
    leaf, total = Leaf(2.0), state()

    def body(index, x):
        total.value = total.value + index
        return leaf(index, x)

    with jax.disable_jit():
        assert gs.fori_loop(0, 3, body, 1.0) == leaf_result(2.0, 3)
        assert gs.fori_loop(0, jnp.int32(3), body, 1.0) == leaf_result(2.0, 3)
    assert total.value == 6.0


# Failures


@LOOPS
def test_a_carry_that_changes_is_an_error(loop):
    leaf, cell = Leaf(), state()

    def grow(index, carry):
        carry["leaf"].weight.value = jnp.ones(2)
        return carry

    def write(index, carry):
        cell.value = jnp.ones(2)
        return carry

    with pytest.raises(CarryError, match="The carry of `fori_loop` keeps its structure from step to step, but it was"):
        loop(lambda index, x: (x, x), 0, 3, 1.0)
    with pytest.raises(
        CarryError, match=r"Leaf 0 of the carry is carried by `fori_loop` .* float32\[\] and is int32\[\]"
    ):
        loop(lambda index, x: jnp.int32(1), 0, 3, jnp.float32(1))
    with pytest.raises(CarryError, match=r"`carry\[0\]\['leaf'\].weight` is carried by `fori_loop` and must keep"):
        loop(grow, 0, 3, {"leaf": leaf})
    with pytest.raises(CarryError, match=r"`?cell`?.* is carried by `fori_loop` and must keep .* is float32\[2\]"):
        loop(write, 0, 3, 1.0)
    with pytest.raises(CarryError, match="A Node in the carry of `fori_loop` comes back as the same Node"):
        loop(lambda index, leaf: Leaf(), 0, 3, leaf)
    assert (leaf.weight.value, cell.value) == (1.0, 0.0)


@LOOPS
def test_a_structural_change_is_an_error(loop):
    leaf = Leaf()

    def set_flag(index, carry):
        carry["leaf"].flag = 1
        return carry

    def set_outside(index, carry):
        leaf.flag = 1
        return carry

    with pytest.raises(
        StructureError, match=r"inside of `fori_loop` by `.*set_flag`:\n  carry\[0\]\['leaf'\].flag: missing -> 1"
    ):
        loop(set_flag, 0, 3, {"leaf": leaf})
    with pytest.raises(TraceContextError, match="Attribute 'flag' of a Leaf was changed inside"):
        loop(set_outside, 0, 3, 1.0)
    assert not hasattr(leaf, "flag")


@LOOPS
def test_a_failing_step_changes_nothing(loop):
    leaf, cell, key = Leaf(), state(), gs.random.DEFAULT.value
    values = leaf.weight.value, cell.value

    def fail(index, leaf):
        leaf.weight.value = leaf.weight.value + 1
        cell.value = cell.value + 1
        gs.random.normal()
        raise KeyError("user")

    with pytest.raises(KeyError, match="user"):
        loop(fail, 0, 3, leaf)
    assert leaf.weight.value is values[0]
    assert cell.value is values[1]
    assert gs.random.DEFAULT.value == key


def test_what_is_no_array_is_an_error():
    with pytest.raises(
        StateTypeError, match=r"`fori_loop` takes Nodes, States and pytrees of arrays, .* 'text' of type str"
    ):
        gs.fori_loop(0, 3, lambda index, x: x, "text")
    with pytest.raises(StateTypeError, match="`fori_loop` transforms a function, but it was given '3' of type int"):
        gs.fori_loop(0, 3, 3, 1.0)


# Again


@pytest.mark.no_leak_check("counts traces")
def test_bounds_that_are_arrays_do_not_retrace():
    runs = []

    def body(index, x):
        runs.append(index)
        return x + index

    for upper in (3, 4, 5):
        assert gs.fori_loop(0, jnp.int32(upper), body, 0) == sum(range(upper))
    assert len(runs) == 1
    for upper in (3, 4, 3, 4):
        assert gs.fori_loop(0, upper, body, 0) == sum(range(upper))
    assert len(runs) == 3
    compiled = gs.jit(lambda upper: gs.fori_loop(0, upper, body, 0))
    assert [compiled(upper) for upper in (3, 4)] == [3, 6]
    assert len(runs) == 4
