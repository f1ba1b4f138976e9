"""Reading States in programs that plain JAX caches, and what frames leave behind."""

import warnings

import jax
import jax.numpy as jnp
import pytest

import graphstate as gs
from graphstate import environ
from graphstate._trace import current_frame
from graphstate.errors import StaleReadWarning, TraceContextError

CACHED = {
    "jit": lambda f: jax.jit(f)(1.0),
    "scan": lambda f: jax.lax.scan(lambda c, x: (c, f(x)), 0.0, jnp.ones(2)),
    "jit of vmap": lambda f: jax.jit(jax.vmap(f))(jnp.ones(2)),
    "vmap of jit": lambda f: jax.vmap(jax.jit(f))(jnp.ones(2)),
    "jit of gs.vmap": lambda f: jax.jit(gs.vmap(f))(jnp.ones(2)),
    "jit of gs.jit": lambda f: jax.jit(gs.jit(f))(1.0),
    "jit of gs.for_loop": lambda f: jax.jit(lambda xs: gs.for_loop(f, xs))(jnp.ones(2)),
    "gs.vmap of jit": lambda f: gs.vmap(jax.jit(f))(jnp.ones(2)),
    "gs.grad of jit": lambda f: gs.grad(jax.jit(f))(1.0),
}
UNCACHED = {
    "vmap": lambda f: jax.vmap(f)(jnp.ones(2)),
    "grad": lambda f: jax.grad(f)(1.0),
    "vmap of gs.grad": lambda f: jax.vmap(gs.grad(f))(jnp.ones(2)),
}


@pytest.mark.parametrize("transform", CACHED)
def test_reading_a_state_in_a_program_that_plain_jax_caches_warns(transform):
    state = gs.State(jnp.float32(2.0))

    def function(x):
        return state.value * x

    match = r"is tracing a program that it will cache, and .*State, created at test_frame.py.* was read in it"
    with pytest.warns(StaleReadWarning, match=match) as record:
        CACHED[transform](function)
    assert {warning.filename for warning in record} == {__file__}


@pytest.mark.parametrize("transform", UNCACHED)
def test_reading_a_state_elsewhere_does_not_warn(transform):
    state = gs.State(jnp.float32(2.0))
    UNCACHED[transform](lambda x: state.value * x)


@pytest.mark.parametrize("transform", CACHED)
def test_states_made_inside_and_graphstate_around_do_not_warn(transform):
    state = gs.ParamState(jnp.float32(2.0))

    def function(x):
        made = gs.State(x)
        made.value = made.value * x
        return made.value

    CACHED[transform](function)
    if not transform.startswith("gs."):
        gs.jit(lambda: CACHED[transform](lambda x: state.value * x))()


@pytest.mark.no_leak_check("JAX traces twice with it")
def test_it_warns_once_a_place():
    state = gs.State(jnp.float32(2.0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for number in range(3):
            jax.jit(lambda x, number=number: state.value * x + number)(1.0)
        jax.jit(lambda x: state.value - x)(1.0)
    assert len(caught) == 2
    assert len({warning.lineno for warning in caught}) == 2


def test_looking_at_a_state_does_not_warn():
    state = gs.State(jnp.float32(2.0))

    @jax.jit
    def function(x):
        repr(state)
        state.tags  # noqa: B018
        return x

    function(1.0)


@pytest.mark.parametrize("transform", ["jit", "scan", "jit of gs.vmap"])
def test_reading_the_environment_there_warns(transform):
    with environ.context(factor=2.0), pytest.warns(StaleReadWarning, match="factor"):
        CACHED[transform](lambda x: x * environ.get("factor"))


def test_drawing_under_a_plain_jit_raises():
    key = gs.random.DEFAULT.value
    with (
        pytest.warns(StaleReadWarning),
        pytest.raises(TraceContextError, match=r"RandomState.* was written inside of a transform of plain JAX"),
    ):
        jax.jit(lambda x: gs.random.normal() + x)(1.0)
    assert gs.random.DEFAULT.value == key


# The stack


def test_the_stack_is_empty_after_success_and_failure():
    def fail(x):
        raise KeyError("user")

    for call in (
        lambda f: gs.jit(f)(1.0),
        lambda f: gs.vmap(f)(jnp.ones(2)),
        lambda f: gs.grad(f)(1.0),
        lambda f: gs.for_loop(f, jnp.ones(2)),
        lambda f: gs.eval_shape(f, 1.0),
        lambda f: gs.jit(lambda x: gs.grad(lambda y: gs.for_loop(f, y[None])[0])(x))(jnp.float32(1.0)),
    ):
        call(lambda x: x)
        assert current_frame() is None
        with pytest.raises(KeyError, match="user"):
            call(fail)
        assert current_frame() is None


def test_an_error_caught_inside_leaves_the_outer_trace_as_it_was():
    state, other = gs.State(jnp.float32(1.0)), gs.State(jnp.float32(1.0))

    def fail(x):
        state.value = 100 * x
        raise KeyError("user")

    def step(x):
        other.value = other.value + x
        for call in (
            gs.jit(fail),
            gs.grad(fail),
            lambda x: gs.vmap(fail)(x[None]),
            lambda x: gs.for_loop(fail, x[None]),
        ):
            with pytest.raises(KeyError):
                call(x)
        state.value = state.value + x
        return state.value + other.value

    assert gs.jit(step)(jnp.float32(2.0)) == 6.0
    assert (state.value, other.value) == (3.0, 3.0)


def test_a_state_made_in_an_outer_trace_is_used_in_inner_ones():
    def step(x):
        made = gs.ParamState(x)

        def inner(y):
            made.value = made.value + y
            return made.value * y

        results = [
            gs.jit(inner)(x),
            gs.grad(inner)(x),
            gs.for_loop(inner, x[None])[0],
            gs.vmap(lambda y: made.value * y)(x[None])[0],
        ]
        return [*results, gs.grad(inner, states=made)(x), made.value]

    expected = [8.0, 8.0, 16.0, 16.0, 2.0, 10.0]
    assert [float(part) for part in gs.jit(step)(jnp.float32(2.0))] == expected
    assert [float(part) for part in gs.vmap(step)(jnp.float32([2.0, 3.0]))[5]] == [10.0, 15.0]
    assert [part[0] for part in gs.vmap(step)(jnp.float32([2.0, 3.0]))] == expected


def test_a_node_made_in_an_outer_trace_is_restructured_in_inner_ones_as_an_argument():
    def step(x):
        node = gs.Node()
        node.items = [gs.State(x)]

        def change(node, y):
            node.items.append(gs.State(2 * y))
            node.flag = True

        gs.jit(change)(node, x)
        gs.grad(lambda y, node: (change(node, y), y)[1])(x, node)
        assert node.flag
        return [state.value for state in node.items]

    assert gs.jit(step)(3.0) == [3.0, 6.0, 6.0]
    assert [part.tolist() for part in gs.vmap(step)(jnp.arange(2.0))] == [[0.0, 1.0], [0.0, 2.0], [0.0, 2.0]]
