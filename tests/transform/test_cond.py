"""`cond` against `if`, and `switch` against a list of functions: results, States, draws, objects."""

import copy
import functools
import operator
import pickle
import threading

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate import environ
from graphstate.errors import BatchAxisError, BranchError, StateTypeError, StructureError, TraceContextError


class Leaf(gs.Node):
    def __init__(self, weight=1.0):
        self.weight = gs.ParamState(jnp.asarray(weight, jnp.float32))

    def __call__(self, x):
        return self.weight.value * x

    def double(self, x):
        self.weight.value = 2 * self.weight.value
        return self(x)

    def halve(self, x):
        self.weight.value = self.weight.value / 2
        return self(x)


class Pair(gs.Node):
    def __init__(self):
        self.first, self.second = Leaf(1.0), Leaf(2.0)


class Buffer(gs.Node):
    def __init__(self, array):
        self.array = array


def state(value=0.0):
    return gs.State(jnp.asarray(value, jnp.float32))


def nothing():
    pass


def add(cell, number=1.0):
    """A branch that adds to a State."""

    def branch(*_):
        cell.value = cell.value + number

    return branch


def eagerly(function):
    return function


surroundings = pytest.mark.parametrize("around", [eagerly, gs.jit])


# Values


@pytest.mark.parametrize(
    "pred", [True, False, np.bool_(True), np.array(False), jnp.bool_(True), 1, 0, 2.5, 0.0, jnp.int32(3), np.float32(0)]
)
def test_a_predicate_is_true_where_jax_says_so(pred):
    expected = jax.lax.cond(pred, jnp.sin, jnp.cos, 1.0)
    assert gs.cond(pred, jnp.sin, jnp.cos, 1.0) == expected
    assert gs.jit(lambda x: gs.cond(pred, jnp.sin, jnp.cos, x))(1.0) == expected
    assert gs.jit(lambda pred, x: gs.cond(pred, jnp.sin, jnp.cos, x))(pred, 1.0) == expected


@pytest.mark.parametrize("index", [0, 1, 2, 7, -3, np.int32(1), np.uint8(2), jnp.int8(1), jnp.array(2)])
def test_an_index_out_of_range_is_moved_into_it_as_in_jax(index):
    branches = [jnp.sin, jnp.cos, jnp.tanh]
    expected = jax.lax.switch(index, branches, 1.0)
    assert gs.switch(index, branches, 1.0) == expected
    assert gs.jit(lambda index: gs.switch(index, branches, 1.0))(index) == expected


@surroundings
@pytest.mark.parametrize("pred", [True, False])
def test_pytrees_and_types_are_those_of_jax(around, pred):
    def true(tree, x):
        return {"a": (tree["a"][0] + 1, None), "b": jnp.int8(x)}, x

    def false(tree, x):
        return {"a": (tree["a"][0] * 3, None), "b": jnp.int8(2)}, 2

    operands = {"a": (jnp.arange(3.0), None), "c": None}, 4
    expected = jax.lax.cond(pred, true, false, *operands)
    result = around(lambda *operands: gs.cond(pred, true, false, *operands))(*operands)
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, result, expected)
    types = [[(leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(each)] for each in (result, expected)]
    assert types[0] == types[1]


@pytest.mark.parametrize(
    ("true", "false", "dtype"),
    [
        (1, 2, jnp.int32),
        (1, 2.0, jnp.float32),
        (1, jnp.int8(2), jnp.int8),
        (jnp.float16(1), 2, jnp.float16),
        (jnp.float16(1), 2.5, jnp.float16),
        (1j, 2.0, jnp.complex64),
        (True, False, jnp.bool_),
    ],
)
def test_a_python_number_takes_the_type_of_the_other_branch(true, false, dtype):
    for pred in (True, False):
        result = gs.cond(pred, lambda: true, lambda: false)
        assert (result, result.dtype) == (true if pred else false, dtype)


def test_operands_are_given_by_name():
    leaf = Leaf(2.0)

    def times(x, *, leaf, factor=1.0):
        leaf.weight.value = leaf.weight.value + 1
        return leaf(x) * factor

    assert gs.cond(True, times, lambda x, *, leaf, factor: x, 1.0, leaf=leaf, factor=10.0) == 30.0
    assert gs.switch(0, [times], 1.0, leaf=leaf) == 4.0
    assert leaf.weight.value == 4.0


def test_operands_may_have_any_name():
    assert gs.cond(True, lambda pred, true_fun: pred - true_fun, lambda **_: 0.0, pred=5.0, true_fun=3.0) == 2.0
    assert gs.switch(0, [lambda index, branches: index + branches], index=5.0, branches=3.0) == 8.0


@surroundings
def test_branches_without_operands_and_results(around):
    assert around(lambda: gs.cond(True, nothing, nothing))() is None


@surroundings
def test_one_branch_is_always_taken(around):
    leaf = Leaf(3.0)
    assert around(lambda index: gs.switch(index, [leaf], 2.0))(5) == 6.0


def test_methods_nodes_partials_and_compiled_functions_are_branches():
    first, second = Leaf(2.0), Leaf(3.0)
    branches = [first, second.__call__, functools.partial(lambda leaf, x: leaf(x) + 1, first), gs.jit(second)]
    branches += [jax.jit(lambda x: -x), gs.vmap(first)]
    x = jnp.arange(2.0)
    for around in (eagerly, gs.jit):
        found = [around(lambda index: gs.switch(index, branches, x))(index).tolist() for index in range(6)]
        assert found == [[0.0, 2.0], [0.0, 3.0], [1.0, 3.0], [0.0, 3.0], [0.0, -1.0], [0.0, 2.0]]
    first.weight.value, second.weight.value = jnp.float32(20), jnp.float32(30)
    found = [gs.switch(index, branches, x)[1].item() for index in range(6)]
    assert found == [20.0, 30.0, 21.0, 30.0, -1.0, 20.0]


# States


@surroundings
def test_branches_write_different_states(around):
    first, second, third = state(1.0), state(2.0), state(3.0)
    choose = around(lambda index: gs.switch(index, [add(first), add(second), nothing]))
    for index, expected in [(0, (2, 2, 3)), (1, (2, 3, 3)), (2, (2, 3, 3)), (0, (3, 3, 3))]:
        choose(index)
        assert (first.value, second.value, third.value) == expected


@surroundings
def test_a_state_that_is_written_but_not_read(around):
    cell = state(1.0)

    def write(x):
        cell.value = x

    choose = around(lambda pred, x: gs.cond(pred, write, lambda x: None, x))
    choose(False, 5.0)
    assert cell.value == 1.0
    choose(True, 6.0)
    assert cell.value == 6.0


@surroundings
def test_a_branch_reads_what_the_other_one_writes(around):
    cell = state(1.0)

    def write():
        cell.value = cell.value * 2
        return cell.value + 0.5

    def read():
        return cell.value

    choose = around(lambda pred: gs.cond(pred, write, read))
    assert [choose(pred).item() for pred in (False, True, False, True)] == [1.0, 2.5, 2.0, 4.5]


@surroundings
def test_states_of_operands_are_written_in_one_branch_only(around):
    pair = Pair()

    def first(pair, x):
        pair.first.weight.value = pair.first.weight.value + x
        return pair.second.weight.value

    def second(pair, x):
        pair.second.weight.value = pair.second.weight.value * x
        return pair.first.weight.value

    choose = around(lambda pred, pair: gs.cond(pred, first, second, pair, 10.0))
    assert choose(True, pair) == 2.0
    assert (pair.first.weight.value, pair.second.weight.value) == (11.0, 2.0)
    assert choose(False, pair) == 11.0
    assert (pair.first.weight.value, pair.second.weight.value) == (11.0, 20.0)


@surroundings
def test_a_node_that_is_operand_twice_and_closed_over_is_one_node(around):
    leaf = Leaf(1.0)

    def true(first, second, cell):
        first.weight.value = first.weight.value + 1
        second.weight.value = second.weight.value * 10
        leaf.weight.value = leaf.weight.value + 3
        return cell.value

    choose = around(lambda pred: gs.cond(pred, true, lambda *_: leaf.weight.value, leaf, leaf, leaf.weight))
    assert choose(True) == 23.0
    assert choose(False) == 23.0
    assert leaf.weight.value == 23.0


@surroundings
def test_tied_operands_stay_tied(around):
    first, second = Leaf(1.0), Leaf(2.0)
    second.weight = first.weight

    def true(first, second):
        first.weight.value = first.weight.value + 1
        return second.weight.value

    assert around(lambda: gs.cond(True, true, lambda *_: 0.0, first, second))() == 2.0
    assert second.weight is first.weight


@surroundings
def test_states_hold_pytrees_and_nothing(around):
    cell, empty = gs.State({"a": jnp.float32(1), "b": (jnp.zeros(2), None)}), gs.State(None)

    def true(x):
        cell.value = {"a": cell.value["a"] + x, "b": (cell.value["b"][0] - 1, None)}
        empty.value = None

    around(lambda pred: gs.cond(pred, true, lambda x: None, 2.0))(True)
    assert cell.value["a"] == 3.0
    assert cell.value["b"][0].tolist() == [-1.0, -1.0]
    assert empty.value is None


@surroundings
def test_arrays_of_nodes_are_replaced_in_one_branch(around):
    buffer = Buffer(jnp.arange(2.0))

    def true(buffer):
        buffer.array = buffer.array + 1

    choose = around(lambda pred, buffer: gs.cond(pred, true, lambda buffer: None, buffer))
    choose(False, buffer)
    assert buffer.array.tolist() == [0.0, 1.0]
    choose(True, buffer)
    assert buffer.array.tolist() == [1.0, 2.0]


@surroundings
def test_a_weakly_typed_state_takes_the_type_that_a_branch_writes(around):
    cell = gs.State(1)

    def write(value):
        def branch():
            cell.value = value

        return branch

    around(lambda pred: gs.cond(pred, write(jnp.int8(3)), nothing))(False)
    assert (cell.value, cell.value.dtype) == (1, jnp.int8)


@surroundings
def test_the_same_function_in_both_branches(around):
    cell = state()
    branch = add(cell)
    choose = around(lambda pred: gs.cond(pred, branch, branch))
    choose(True)
    choose(False)
    assert cell.value == 2.0


@surroundings
def test_a_method_of_one_node_in_both_branches(around):
    leaf = Leaf(4.0)
    choose = around(lambda pred: gs.cond(pred, leaf.double, leaf.halve, 1.0))
    assert [choose(pred).item() for pred in (True, True, False)] == [8.0, 16.0, 8.0]
    assert leaf.weight.value == 8.0


@surroundings
def test_a_method_whose_node_is_an_operand_too(around):
    class Adder(Leaf):
        def add(self, other):
            other.weight.value = other.weight.value + self.weight.value
            return self, other

        def keep(self, other):
            return other, self

    adder = Adder(3.0)
    choose = around(lambda pred: gs.cond(pred, adder.add, adder.keep, adder))
    assert choose(True) == (adder, adder)
    assert choose(False) == (adder, adder)
    assert adder.weight.value == 6.0


@surroundings
def test_branches_stored_on_a_node(around):
    class Chooser(gs.Node):
        def __init__(self):
            self.branches = [Leaf(2.0), Leaf(3.0)]
            self.activation = jnp.sin

        def __call__(self, index, x):
            return gs.switch(index, [*self.branches, self.activation, self.write], x)

        def write(self, x):
            self.branches[0].weight.value = self.branches[0].weight.value + 1
            return x

    chooser = Chooser()
    call = around(chooser)
    assert [call(index, 1.0).item() for index in (0, 1, 3, 0)] == [2.0, 3.0, 1.0, 3.0]
    assert call(2, 0.0) == 0.0
    chooser.branches[1] = Leaf(7.0)
    assert call(1, 1.0) == 7.0


def test_states_that_changed_between_two_calls_are_read_anew():
    leaf, scale = Leaf(1.0), [2.0]

    def true(x):
        return leaf(x) * scale[0]

    def false(x):
        return x

    compiled = gs.jit(lambda x: gs.cond(x > 0, true, false, x))
    for weight, scale[0] in [(1.0, 2.0), (3.0, 2.0), (3.0, 5.0)]:
        leaf.weight.value = jnp.float32(weight)
        assert gs.cond(True, true, false, 1.0) == weight * scale[0]
        assert compiled(1.0) == weight * scale[0]
    leaf.weight = gs.ParamState(jnp.float32(9))
    assert gs.cond(True, true, false, 1.0) == compiled(1.0) == 45.0


def test_settings_that_changed_between_two_calls_are_read_anew():
    def true():
        return environ.get("scale") * (2.0 if environ.get("fit") else 1.0)

    compiled = gs.jit(lambda: gs.cond(True, true, lambda: 0.0))
    for scale, fit in [(1.0, False), (1.0, True), (3.0, True), (jnp.float32(4), False), (jnp.float32(5), False)]:
        with environ.context(scale=scale, fit=fit):
            assert gs.cond(True, true, lambda: 0.0) == compiled() == scale * (1 + fit)


def test_nested_choices_and_loops():
    total, count = state(), state()

    def inner(x):
        gs.cond(x % 2 == 0, add(total, 10.0), add(count))
        return x + 1

    def outer(x):
        return gs.while_loop(lambda x: x < 5, inner, x)

    def python(x):
        return gs.cond(x < 3, outer, lambda x: -x, x)

    for around in (eagerly, gs.jit):
        total.value = count.value = jnp.float32(0)
        assert around(python)(0) == 5
        assert (total.value, count.value) == (30.0, 2.0)
        assert around(python)(3) == -3
        assert (total.value, count.value) == (30.0, 2.0)


# Draws


@surroundings
def test_the_stream_advances_only_if_the_chosen_branch_draws(around):
    rng, expected = gs.random.RandomState(3), gs.random.RandomState(3)
    choose = around(lambda pred: gs.cond(pred, rng.normal, lambda: 0.0))
    for pred in (False, True, False, True, True):
        drawn = choose(pred)
        np.testing.assert_allclose(drawn, expected.normal() if pred else 0.0, rtol=1e-6)
        assert rng.value == expected.value


@surroundings
def test_the_default_stream_and_a_stream_in_an_operand_advance_by_the_branch(around):
    node = Buffer(gs.random.RandomState(5))
    expected, key = gs.random.RandomState(5), gs.random.DEFAULT.value

    def draw(node):
        return node.array.normal()

    choose = around(lambda index, node: gs.switch(index, [draw, lambda _: gs.random.normal(), lambda _: 0.0], node))
    assert choose(2, node) == 0.0
    assert (node.array.value, gs.random.DEFAULT.value) == (expected.value, key)
    np.testing.assert_allclose(choose(0, node), expected.normal(), rtol=1e-6)
    assert (node.array.value, gs.random.DEFAULT.value) == (expected.value, key)
    default = gs.random.RandomState(key)
    np.testing.assert_allclose(choose(1, node), default.normal(), rtol=1e-6)
    assert (node.array.value, gs.random.DEFAULT.value) == (expected.value, default.value)


def test_branches_draw_different_numbers_of_times():
    rng = gs.random.RandomState(0)

    def draws(count):
        return lambda: sum((rng.normal() for _ in range(count)), jnp.float32(0))

    for count in (2, 0, 3, 1):
        expected = gs.random.RandomState(rng.value)
        np.testing.assert_allclose(
            gs.switch(count, [draws(each) for each in range(4)]),
            sum((expected.normal() for _ in range(count)), jnp.float32(0)),
            rtol=1e-6,
        )
        assert rng.value == expected.value


# Objects


@surroundings
def test_a_node_that_is_returned_is_the_same_node(around):
    leaf, other = Leaf(), Pair()
    pick = around(lambda leaf, other: gs.cond(True, lambda *nodes: nodes[:2], lambda *nodes: nodes[:2], leaf, other))
    assert pick(leaf, other) == (leaf, other)
    assert around(lambda: gs.cond(True, lambda: leaf, lambda: leaf))() is leaf
    part = around(lambda node: gs.cond(True, lambda node: node.second, lambda node: node.second, node))
    assert part(other) is other.second
    assert around(lambda: gs.cond(True, lambda: other.second, lambda: other.second))() is other.second
    assert around(lambda: gs.cond(True, lambda: leaf.weight, lambda: leaf.weight))() is leaf.weight


@surroundings
def test_new_nodes_have_the_values_of_the_chosen_branch(around):
    outer = Leaf(7.0)

    def build(weight):
        def branch():
            pair = Pair()
            pair.first.weight.value = jnp.float32(weight)
            pair.second = pair.first
            pair.outer = outer
            return {"pair": pair, "leaf": pair.first}

        return branch

    choose = around(lambda pred: gs.cond(pred, build(3.0), build(4.0)))
    results = [choose(True), choose(False)]
    assert [result["leaf"].weight.value.item() for result in results] == [3.0, 4.0]
    assert all(result["pair"].first is result["pair"].second is result["leaf"] for result in results)
    assert all(result["pair"].outer is outer for result in results)
    assert results[0]["pair"] is not results[1]["pair"]


def test_a_state_that_is_created_in_a_branch_lives_on():
    created = gs.cond(True, lambda x: gs.State(x + 1), lambda x: gs.State(x), 1.0)
    assert created.value == 2.0
    created.value = created.value + 1
    assert gs.cond(False, nothing, add(created)) is None
    assert created.value == 4.0


@pytest.mark.no_leak_check("leaks a State")
def test_a_state_that_leaks_out_of_a_branch_raises():
    kept = []
    gs.cond(True, lambda: kept.append(gs.State(jnp.zeros(()) + 1)), lambda: None)
    with pytest.raises(TraceContextError, match="was read after the trace that it was created in had ended"):
        kept[0].value  # noqa: B018


# Failures


@surroundings
def test_a_failing_branch_changes_nothing(around):
    leaf, cell, key = Leaf(), state(1.0), gs.random.DEFAULT.value
    values = leaf.weight.value, cell.value

    def good(leaf):
        leaf.weight.value = leaf.weight.value + 1
        cell.value = cell.value + 1
        gs.random.normal()

    def bad(leaf):
        good(leaf)
        raise KeyError("user")

    for branches in ((good, bad), (bad, good)):
        for pred in (True, False):
            with pytest.raises(KeyError, match="user"):
                around(lambda leaf: gs.cond(pred, *branches, leaf))(leaf)  # noqa: B023, called at once
    assert leaf.weight.value is values[0]
    assert cell.value is values[1]
    assert gs.random.DEFAULT.value == key


def test_what_cannot_choose_is_an_error():
    match = r"`pred` of `cond` is a boolean or a number, a scalar, but it is {}"
    for pred, told in [
        (jnp.ones(2), r"float32\[2\]. Compare, convert or reduce it"),
        (None, r"'None' of type NoneType"),
        ("yes", r"'yes' of type str"),
        (jax.random.key(0), r"key<fry>\[\]"),
        (gs.State(True), r"'State\(True\)' of type State. Pass its `.value`"),
    ]:
        with pytest.raises(StateTypeError, match=match.format(told)):
            gs.cond(pred, nothing, nothing)
        with pytest.raises(StateTypeError, match=match.format(told)):
            gs.jit(lambda: gs.cond(pred, nothing, nothing))()  # noqa: B023, called at once
    with pytest.raises(StateTypeError, match=r"`index` of `switch` is an integer, a scalar, but it is bool\[\]"):
        gs.switch(True, [nothing])
    with pytest.raises(StateTypeError, match=r"`index` of `switch` is an integer, a scalar, but it is float32\[\]"):
        gs.switch(1.0, [nothing])


def test_branches_that_are_none_are_an_error():
    with pytest.raises(BranchError, match="`switch` chooses among functions, but `branches` is empty"):
        gs.switch(0, [])
    match = r"`cond` transforms a function, but it was given '3' of type int. Give it a function, a method, or a Node"
    with pytest.raises(StateTypeError, match=match):
        gs.cond(True, 3, nothing)
    with pytest.raises(StateTypeError, match=match):
        gs.cond(True, nothing, 3)


def test_operands_and_results_that_are_no_arrays_are_an_error():
    with pytest.raises(
        StateTypeError, match=r"`cond` takes Nodes, States and pytrees of arrays, but argument `x` of .* is 'a' of type"
    ):
        gs.cond(True, lambda x: x, lambda x: x, "a")
    with pytest.raises(StateTypeError, match=r"transformed by `cond` returns .*, but its result is 'a' of type str"):
        gs.cond(True, lambda: "a", lambda: "a")


@surroundings
def test_results_of_different_kinds_are_an_error(around):
    def choose(true, false):
        around(lambda: gs.cond(True, lambda: true, lambda: false))()

    with pytest.raises(
        BranchError,
        match=r"must return results of one structure, but .* returned PyTreeDef\(\{'a': \*\}\) and .* PyTreeDef\(\*\)",
    ):
        choose({"a": 1}, 1)
    with pytest.raises(BranchError, match=r"(?s)the result at `\['a'\]` is\n  int32\[\] in .*\n  float32\[\] in "):
        choose({"a": jnp.int32(1)}, {"a": jnp.float32(1)})
    with pytest.raises(
        BranchError, match=r"(?s)the result is\n  float32\[2\] in .*\n  float32\[\] in .*\nConvert it in the branch"
    ):
        choose(jnp.ones(2), jnp.float32(1))


@surroundings
def test_values_of_different_kinds_in_one_state_are_an_error(around):
    pair, cell = Pair(), state()

    def write(value):
        def branch(pair):
            pair.first.weight.value = value

        return branch

    def close(value):
        def branch():
            cell.value = value

        return branch

    with pytest.raises(
        BranchError, match=r"(?s)but `pair.first/weight` is\n  int32\[\] in .*\n  float32\[\] in .*lambda"
    ):
        around(lambda pair: gs.cond(True, write(jnp.int32(1)), lambda pair: None, pair))(pair)
    with pytest.raises(BranchError, match=r"(?s)but `cell` .* is\n  int32\[\] in .*\n  float32\[\] in .*nothing"):
        around(lambda: gs.cond(True, close(jnp.int32(1)), nothing))()
    with pytest.raises(BranchError, match=r"(?s)but `cell` .* is\n  float32\[2\] in .*\n  float32\[\] in .*nothing"):
        around(lambda: gs.cond(False, close(jnp.ones(2)), nothing))()
    with pytest.raises(BranchError, match=r"(?s)but `cell` .* is\n  PyTreeDef\(\(\*,\)\) in .*\n  PyTreeDef\(\*\) in "):
        around(lambda: gs.cond(True, close((jnp.int32(1),)), nothing))()
    assert (cell.value, pair.first.weight.value) == (0.0, 1.0)


@surroundings
def test_different_nodes_in_the_results_are_an_error(around):
    leaf, pair = Leaf(), Pair()
    match = "must return the same Node, or each a new one, but .* return different objects: .*Return their values"
    for true, false in [
        (lambda _: leaf, lambda _: pair.first),
        (lambda _: leaf, lambda _: Leaf()),
        (lambda pair: pair.first, lambda pair: pair.second),
        (lambda pair: pair, lambda pair: Pair()),
        (lambda pair: pair.first, lambda pair: Leaf()),
        (lambda pair: (pair.first, pair.second), lambda pair: (pair.second, pair.first)),
    ]:
        with pytest.raises(BranchError, match=match):
            around(lambda pair: gs.cond(True, true, false, pair))(pair)  # noqa: B023, called at once


def test_new_nodes_of_different_structures_are_an_error():
    leaf, other = Leaf(), Leaf()
    with pytest.raises(
        StructureError, match=r"(?s)must return Nodes of one structure, but those of .* differ:\n.*Leaf -> Pair"
    ):
        gs.cond(True, Leaf, Pair)
    with pytest.raises(StructureError, match="they share other objects of the caller"):
        gs.cond(True, lambda: Buffer(leaf), lambda: Buffer(other))
    with pytest.raises(BranchError, match=r"(?s)but a State of the result is\n  float32\[\] in .*\n  float32\[2\] in"):
        gs.cond(True, Leaf, lambda: Leaf([1.0, 2.0]))


@surroundings
def test_a_structural_change_is_an_error_that_names_its_path(around):
    pair = Pair()
    pair.items = [Leaf()]

    def set_flag(pair):
        pair.first.flag = 1

    def change_list(pair):
        pair.items.append(Leaf())

    with pytest.raises(
        StructureError,
        match=r"(?s)was changed inside of `cond` by `.*set_flag`:\n  pair.first/flag: missing -> 1\nIt is traced once "
        r"for all steps or branches.*before or after",
    ):
        around(lambda pair: gs.cond(True, lambda pair: None, set_flag, pair))(pair)
    with pytest.raises(StructureError, match=r"pair.items: 1 elements -> 2 elements"):
        around(lambda pair: gs.cond(False, change_list, lambda pair: None, pair))(pair)
    with pytest.raises(TraceContextError, match=r"Attribute 'flag' of a Leaf was changed inside"):
        around(lambda: gs.cond(True, lambda: set_flag(pair), nothing))()
    with pytest.raises(TraceContextError, match=r"`pair.items`, part of a Node .* was changed in place"):
        around(lambda: gs.cond(True, lambda: change_list(pair), nothing))()
    assert not hasattr(pair.first, "flag")
    assert len(pair.items) == 1


# In other transforms


def test_lanes_choose_for_themselves():
    leaves, cells = gs.vmap(Leaf)(jnp.arange(4.0)), [state(), state()]

    def choose(leaf, x):
        gs.cond(x > 1, leaf.double, leaf.halve, x)
        return gs.switch(jnp.int32(x), [lambda: x, lambda: leaf(10.0), lambda: cells[0].value])

    xs = jnp.array([0.0, 1.0, 2.0, 3.0])
    assert gs.vmap(choose)(leaves, xs).tolist() == [0.0, 5.0, 0.0, 0.0]
    assert leaves.weight.value.tolist() == [0.0, 0.5, 4.0, 6.0]


def test_a_lane_dependent_write_to_a_state_that_is_not_mapped_is_an_error():
    cell = state()

    def write(x):
        cell.value = jnp.float32(1)

    with pytest.raises(BatchAxisError, match=r"`cell` .* is not mapped, but a value that depends on the lane"):
        gs.vmap(lambda x: gs.cond(x > 0, write, lambda x: None, x))(jnp.array([1.0, -1.0]))
    assert cell.value == 0.0
    gs.vmap(lambda x: gs.cond(cell.value == 0, write, lambda x: None, x))(jnp.array([1.0, -1.0]))
    assert cell.value == 1.0


def test_lanes_draw_in_the_branch_that_they_choose():
    rng, other = gs.random.RandomState(0), gs.random.RandomState(0)
    xs = jnp.array([1.0, -1.0, 1.0])
    drawn = gs.vmap(lambda x: gs.cond(x > 0, rng.normal, lambda: x))(xs)
    expected = gs.vmap(other.normal, axis_size=3)()
    np.testing.assert_allclose(drawn, jnp.where(xs > 0, expected, xs), rtol=1e-6)
    assert rng.value == other.value
    key = rng.value
    gs.vmap(lambda x: gs.cond(x > 0, lambda x: x, lambda x: -x, x))(xs)
    assert rng.value == key


def test_gradients_flow_through_the_chosen_branch():
    tied = Pair()
    tied.first.weight.value = jnp.float32(3.0)
    tied.second.weight = tied.first.weight

    def loss(pair, x):
        first, second = pair.first, pair.second
        y = gs.cond(x > 0, lambda x: first(x) * second(x), lambda x: -first(x), x)
        return gs.cond(x > 0, lambda y: y + second(1.0), lambda y: y, y)

    for x in (2.0, -2.0):

        def expected(w, x=x):
            return w * w * x * x + w if x > 0 else -w * x

        for around in (eagerly, gs.jit):
            grads = around(gs.grad(loss))(tied, x)
            np.testing.assert_allclose(jax.tree.leaves(grads), [jax.grad(expected)(3.0)], rtol=1e-6)


def test_states_that_are_differentiated_and_written():
    leaf = Leaf(3.0)

    def loss(x):
        gs.cond(x > 0, leaf.double, leaf.halve, x)
        return leaf(x)

    grads = gs.grad(loss, states=leaf.weight)(2.0)
    assert grads == 4.0
    assert leaf.weight.value == 6.0


def test_a_choice_in_a_scan_and_a_scan_in_a_choice():
    evens, odds = state(), state()

    def step(x):
        gs.cond(x % 2 == 0, add(evens), add(odds))

    gs.for_loop(step, jnp.arange(5))
    assert (evens.value, odds.value) == (3.0, 2.0)
    gs.cond(True, lambda: gs.for_loop(step, jnp.arange(3)), lambda: None)
    assert (evens.value, odds.value) == (5.0, 3.0)
    gs.cond(False, lambda: gs.for_loop(step, jnp.arange(3)), lambda: None)
    assert (evens.value, odds.value) == (5.0, 3.0)


def test_without_compilation_the_result_is_the_same():
    leaf, rng, expected = Leaf(2.0), gs.random.RandomState(0), gs.random.RandomState(0)
    with jax.disable_jit():
        assert gs.cond(True, leaf.double, leaf.halve, 1.0) == 4.0
        assert gs.switch(1, [lambda: rng.normal(), lambda: 0.0]) == 0.0
        assert rng.value == expected.value
        assert gs.cond(True, rng.normal, lambda: 0.0) == expected.normal()
    assert leaf.weight.value == 4.0
    assert rng.value == expected.value


def test_a_write_under_plain_jax_raises_and_changes_nothing():
    cell = state()

    def write():
        cell.value = jnp.float32(1)

    with pytest.raises(TraceContextError, match="was written inside of a transform of plain JAX"):
        jax.jit(lambda: gs.cond(True, write, write))()
    assert cell.value == 0.0


# Again


@pytest.mark.no_leak_check("counts traces")
def test_each_branch_is_traced_once():
    for around in (eagerly, gs.jit):
        runs, leaf = [], Leaf(2.0)

        def true(leaf, x):
            runs.append("true")  # noqa: B023, called at once
            leaf.weight.value = leaf.weight.value + x

        def false(leaf, x):
            runs.append("false")  # noqa: B023, called at once

        choose = around(lambda pred, leaf, x: gs.cond(pred, true, false, leaf, x))
        for pred in (True, False, True):
            choose(pred, leaf, 1.0)
        assert leaf.weight.value == 4.0
        assert runs == ["true", "false"]
        choose(True, Leaf(5.0), 1.0)
        assert len(runs) == 2
        choose(True, Leaf([5.0]), 1.0)
        assert len(runs) == 4


@pytest.mark.no_leak_check("counts traces")
def test_an_eager_choice_called_again_compiles_nothing(caplog):
    leaf, x = Leaf(2.0), jnp.float32(1.0)
    branches = [leaf, lambda x: x + leaf.weight.value, functools.partial(jnp.add, 3.0)]
    methods = leaf.double, leaf.halve

    def call(index):
        gs.switch(index, branches, x)
        gs.cond(index > 1, branches[1], branches[2], x)
        gs.cond(index > 1, *methods, x)
        gs.cond(index > 1, leaf.double, leaf.halve, x)

    call(0)
    with jax.log_compiles():
        for index in range(3):
            call(index)
    assert not [record for record in caplog.records if "ompiling" in record.getMessage()]


@pytest.mark.no_leak_check("runs many eager operations")
def test_fresh_functions_do_not_pile_up():
    def true():
        return 1.0

    for number in range(70):
        assert gs.cond(False, true, lambda number=number: number * 1.0) == number
    (programs,) = vars(true).values()
    assert len(programs._table) <= 64


def test_functions_that_were_branches_are_copied_and_pickled():
    class Function:
        def __call__(self, x):
            return x + 1

    function, partial = Function(), functools.partial(operator.add, 1.0)
    node, local = Buffer(function), lambda x: x + 1
    for branch in (function, partial, node.array, local):
        assert gs.cond(True, branch, branch, 1.0) == 2.0
    for copied in (
        copy.deepcopy(function),
        copy.copy(partial),
        gs.clone(node).array,
        pickle.loads(pickle.dumps(partial)),
        *cloudpickle.loads(cloudpickle.dumps([function, local, node.array])),
    ):
        assert gs.cond(True, copied, copied, 1.0) == 2.0


def test_two_threads_choose_at_once():
    cells = [state(), state()]
    barrier, errors = threading.Barrier(2), []

    def run(cell, pred):
        try:
            barrier.wait()
            for _ in range(10):
                gs.cond(pred, true, false, cell)
        except Exception as error:
            errors.append(error)

    def true(cell):
        cell.value = cell.value + 1

    def false(cell):
        cell.value = cell.value - 1

    threads = [threading.Thread(target=run, args=(cell, cell is cells[0])) for cell in cells]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [cell.value.item() for cell in cells] == [10.0, -10.0]
