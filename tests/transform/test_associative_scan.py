"""`associative_scan` against `jax.lax.associative_scan` and a Python loop: arrays, Nodes, reads, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate import environ
from graphstate.errors import AxisError, CarryError, StateTypeError, StructureError, TraceContextError

STEPS = jnp.arange(1.0, 6.0)


class Affine(gs.Node):
    """The map x -> slope * x + offset."""

    def __init__(self, slope, offset, name="affine"):
        self.slope = gs.ParamState(slope)
        self.offset = gs.State(offset)
        self.name = name

    def then(self, other):
        return Affine(self.slope.value * other.slope.value, self.offset.value * other.slope.value + other.offset.value)


class Buffer(gs.Node):
    def __init__(self, array):
        self.array = array


def affine():
    return Affine(STEPS, 10 * STEPS)


def prefixes(reverse=False):
    slope, offset, found = 1.0, 0.0, []
    for step in STEPS[::-1] if reverse else STEPS:
        slope, offset = slope * step, offset * step + 10 * step
        found.append((slope, offset))
    return np.array(found[::-1] if reverse else found).T


def eagerly(function):
    return function


surroundings = pytest.mark.parametrize("around", [eagerly, gs.jit])


@surroundings
@pytest.mark.parametrize(
    "options", [{}, {"reverse": True}, {"axis": 1}, {"axis": -1}, {"axis": -1, "reverse": True}, {"axis": -2}]
)
def test_arrays_equal_jax(around, options):
    def combine(first, second):
        return {"a": first["a"] + second["a"], "b": (first["b"][0] * second["b"][0], None)}

    elems = {"a": jnp.arange(12).reshape(3, 4), "b": (jnp.arange(1, 13, dtype=jnp.float32).reshape(3, 4), None)}
    counted = {**options, "axis": options.get("axis", 0) % 2}
    expected = jax.lax.associative_scan(combine, elems, **counted)
    result = around(lambda elems: gs.associative_scan(combine, elems, **options))(elems)
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, result, expected)
    assert jax.tree.map(jax.typeof, result) == jax.tree.map(jax.typeof, expected)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 8])
def test_any_length_will_do(length):
    xs = jnp.arange(length, dtype=jnp.float32)
    assert gs.associative_scan(jnp.add, xs).tolist() == np.cumsum(xs).tolist()


@surroundings
@pytest.mark.parametrize("reverse", [False, True])
def test_nodes_are_combined(around, reverse):
    elems = affine()
    values = elems.slope.value, elems.offset.value
    result = around(lambda elems: gs.associative_scan(Affine.then, elems, reverse=reverse))(elems)
    np.testing.assert_allclose([result.slope.value, result.offset.value], prefixes(reverse), rtol=1e-6)
    assert isinstance(result, Affine)
    assert type(result.slope) is gs.ParamState
    assert result is not elems
    assert (elems.slope.value is values[0], elems.offset.value is values[1]) == (True, True)


@surroundings
def test_states_of_the_closure_and_settings_are_read(around):
    factor = gs.State(jnp.float32(2))

    def combine(first, second):
        return first + second * factor.value * environ.get("scale", default=1.0)

    scan = around(lambda xs: gs.associative_scan(combine, xs))
    for factor.value, scale in [(jnp.float32(1), 1.0), (jnp.float32(3), 1.0), (jnp.float32(3), 2.0)]:
        with environ.context(scale=scale):
            expected = jax.lax.associative_scan(lambda a, b: a + b * factor.value * scale, STEPS)  # noqa: B023, at once
            assert scan(STEPS).tolist() == expected.tolist()


@surroundings
def test_states_are_elements(around):
    result = around(lambda cell: gs.associative_scan(lambda a, b: gs.State(a.value * b.value), cell))(gs.State(STEPS))
    assert result.value.tolist() == np.cumprod(STEPS).tolist()


@surroundings
def test_nodes_that_share_states_share_them_in_the_result(around):
    elems = affine()

    def combine(first, second):
        node = first["a"].then(second["b"][0])
        return {"a": node, "b": [node]}

    result = around(lambda elems: gs.associative_scan(combine, {"a": elems, "b": [elems]}))(elems)
    assert result["a"] is result["b"][0]
    np.testing.assert_allclose(result["a"].offset.value, prefixes()[1], rtol=1e-6)


@surroundings
def test_arrays_of_nodes_are_combined(around):
    buffer = Buffer(STEPS)
    result = around(lambda buffer: gs.associative_scan(lambda a, b: Buffer(a.array + b.array), buffer))(buffer)
    assert result.array.tolist() == np.cumsum(STEPS).tolist()
    assert buffer.array is STEPS


def test_a_node_is_the_operation():
    class Scaled(gs.Node):
        def __init__(self):
            self.factor = gs.ParamState(jnp.float32(2))

        def __call__(self, first, second):
            return first + self.factor.value * second

    scaled = Scaled()
    for factor in (2.0, 3.0):
        scaled.factor.value = jnp.float32(factor)
        expected = jax.lax.associative_scan(lambda a, b: a + factor * b, STEPS)  # noqa: B023, called at once
        assert gs.associative_scan(scaled, STEPS).tolist() == expected.tolist()
        assert gs.associative_scan(scaled.__call__, STEPS).tolist() == expected.tolist()


# In other transforms


def test_gradients_flow_through_the_scan():
    elems = affine()
    grads = gs.grad(lambda elems: jnp.sum(gs.associative_scan(Affine.then, elems).offset.value))(elems)

    def expected(slope):
        def combine(first, second):
            return first[0] * second[0], first[1] * second[0] + second[1]

        return jnp.sum(jax.lax.associative_scan(combine, (slope, 10 * STEPS))[1])

    np.testing.assert_allclose(grads["slope"], jax.grad(expected)(STEPS), rtol=1e-6)


def test_lanes_and_steps_scan_for_themselves():
    xs = jnp.arange(6.0).reshape(2, 3)
    expected = np.cumsum(xs, axis=1).tolist()
    assert gs.vmap(lambda x: gs.associative_scan(jnp.add, x))(xs).tolist() == expected
    assert gs.for_loop(lambda x: gs.associative_scan(jnp.add, x), xs).tolist() == expected


def test_without_compilation_the_result_is_the_same():
    with jax.disable_jit():
        np.testing.assert_allclose(gs.associative_scan(Affine.then, affine()).offset.value, prefixes()[1], rtol=1e-6)


# Refusals


@surroundings
def test_an_operation_that_writes_or_draws_is_an_error(around):
    cell, elems, key = gs.State(jnp.float32(0)), affine(), gs.random.DEFAULT.value

    def write(first, second):
        cell.value = cell.value + 1
        return first

    def write_element(first, second):
        second.offset.value = first.offset.value
        return second

    def draw(first, second):
        gs.random.normal()
        return first

    match = "combines elements in no fixed order, but `.*{}` wrote {}; drawing writes, too. Return a new value or Node"
    for function, told in [
        (write, match.format("write", "`cell` .State.*")),
        (write_element, match.format("write_element", "`first.offset of the second element` .State.*")),
        (draw, match.format("draw", "a RandomState, .*DEFAULT.*")),
    ]:
        with pytest.raises(TraceContextError, match=told):
            around(lambda elems: gs.associative_scan(function, elems))(elems)  # noqa: B023, called at once
    assert cell.value == 0.0
    assert elems.offset.value.tolist() == (10 * STEPS).tolist()
    assert gs.random.DEFAULT.value == key


def test_another_structure_or_type_is_an_error():
    elems = affine()
    match = r"The function of `associative_scan` returns what it takes, "
    with pytest.raises(CarryError, match=match + r"PyTreeDef\(\*\), but .* returned PyTreeDef\(\(\*, \*\)\)"):
        gs.associative_scan(lambda a, b: (a, b), STEPS)
    with pytest.raises(CarryError, match=match + r".* or arrays in place of Nodes"):
        gs.associative_scan(lambda a, b: a.slope.value, elems)
    with pytest.raises(CarryError, match=match + r"but `a` was float32\[2\] and .* returned int32\[2\]. Convert it"):
        gs.associative_scan(lambda a, b: jnp.int32(a), STEPS)
    with pytest.raises(CarryError, match=match + r"but `a` was float32\[2\] and .* returned float32\[\]"):
        gs.associative_scan(lambda a, b: jnp.sum(a), STEPS)
    with pytest.raises(CarryError, match=match + r"but `a.slope` was float32\[2\] and .* returned float32\[2, 1\]"):
        gs.associative_scan(lambda a, b: Affine(a.slope.value[:, None], b.offset.value), elems)
    with pytest.raises(
        StructureError,
        match=r"(?s)returns Nodes of the structure that it takes, but those of .* differ:\n.*name: 'affine'",
    ):
        gs.associative_scan(lambda a, b: Affine(a.slope.value, a.offset.value, "other"), elems)
    with pytest.raises(StateTypeError, match=r"transformed by `associative_scan` returns .* 'text' of type str"):
        gs.associative_scan(lambda a, b: "text", STEPS)


def test_a_structural_change_of_a_closed_over_node_is_an_error():
    elems = affine()

    def change(a, b):
        elems.name = "other"
        return a

    with pytest.raises(TraceContextError, match="Attribute 'name' of a Affine was changed inside"):
        gs.associative_scan(change, STEPS)
    assert elems.name == "affine"


def test_a_failing_operation_changes_nothing():
    cell = gs.State(jnp.float32(0))

    def fail(a, b):
        cell.value = cell.value + 1
        raise KeyError("user")

    with pytest.raises(KeyError, match="user"):
        gs.associative_scan(fail, STEPS)
    assert cell.value == 0.0


def test_sizes_and_axes_that_do_not_fit_are_an_error():
    def combine(a, b):
        return a

    with pytest.raises(
        AxisError, match=r"(?s)`associative_scan` .*given 2 different ones:\n  2 in `a\[0\]` .*\n  3 in"
    ):
        gs.associative_scan(combine, (jnp.ones(2), jnp.ones(3)))
    with pytest.raises(
        AxisError, match=r"`associative_scan` needs something to map over, but there is no array in what"
    ):
        gs.associative_scan(combine, ())
    with pytest.raises(AxisError, match=r"`a` is mapped at axis 0, but its shape is \(\)"):
        gs.associative_scan(combine, 1.0)
    with pytest.raises(AxisError, match=r"`a` is mapped at axis 1, but its shape is \(5,\)"):
        gs.associative_scan(combine, STEPS, axis=1)
    with pytest.raises(
        AxisError,
        match=r"(?s)`axis` of `associative_scan` is -1, which is not one axis of arrays .*\n  axis 0 of `a\[0\]`\n"
        r"  axis 1 of `a\[1\]`\nCount it from the front",
    ):
        gs.associative_scan(combine, (jnp.ones(3), jnp.ones((3, 3))), axis=-1)


def test_what_is_no_function_or_array_is_an_error():
    with pytest.raises(
        StateTypeError, match="`associative_scan` transforms a function, but it was given '3' of type int"
    ):
        gs.associative_scan(3, STEPS)
    with pytest.raises(StateTypeError, match=r"`associative_scan` takes Nodes, States .* is 'text' of type str"):
        gs.associative_scan(jnp.add, "text")


@pytest.mark.no_leak_check("counts traces")
def test_an_eager_scan_called_again_is_not_traced_again():
    runs, factor = [], gs.State(jnp.float32(1))

    def combine(first, second):
        runs.append(first)
        return first + factor.value * second

    gs.associative_scan(combine, STEPS)
    count = len(runs)
    for factor.value in (jnp.float32(2), jnp.float32(3)):
        gs.associative_scan(combine, 2 * STEPS)
    assert len(runs) == count
    gs.associative_scan(combine, STEPS, reverse=True)
    assert len(runs) == 2 * count
