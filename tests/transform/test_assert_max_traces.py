"""`assert_max_traces`: what counts as a trace, and what is said to have changed."""

import gc
import weakref

import jax
import jax.numpy as jnp
import pytest

import graphstate as gs
from graphstate.errors import StateTypeError, TraceCountError

pytestmark = pytest.mark.no_leak_check  # which traces more often than a user's program does


def double(x):
    return 2 * x


def test_calls_that_are_not_traced_do_not_count():
    counted = gs.assert_max_traces(double, 0)
    assert counted(2.0) == counted(2.0) == 4.0
    assert counted.count == 0


@pytest.mark.parametrize("compiled", [gs.jit, jax.jit], ids=["graphstate", "plain JAX"])
def test_traces_count_under_graphstate_and_plain_jax(compiled):
    counted = gs.assert_max_traces(double, 1)
    run = compiled(counted)
    run(jnp.ones(3))
    run(jnp.zeros(3))
    assert counted.count == 1
    with pytest.raises(
        TraceCountError, match=r"`double` may be traced once, .*\n  x: float32\[3\] became float32\[4\]"
    ):
        run(jnp.ones(4))
    assert counted.count == 1


def test_it_is_a_decorator_with_a_parameter():
    @gs.jit
    @gs.assert_max_traces(n=2)
    def half(x):
        """Halves."""
        return x / 2

    assert (half.__name__, half.__doc__) == ("half", "Halves.")
    half(jnp.ones(1))
    half(jnp.ones(2))
    with pytest.raises(TraceCountError, match=r"`.*half` may be traced 2 times"):
        half(jnp.ones(3))


def differences(run, first, second):
    run(*first)
    with pytest.raises(TraceCountError) as raised:
        run(*second)
    assert len(str(raised.value).splitlines()) <= 10
    return raised.value.differences


def test_it_tells_dtypes_and_weak_types():
    run = gs.jit(gs.assert_max_traces(double, 1))
    assert differences(run, (1.0,), (jnp.float32(1),)) == ("x: float32[]* became float32[]",)


def test_it_tells_structure_static_attributes_and_states():
    run = gs.jit(gs.assert_max_traces(lambda layer, x: layer(x), 1))
    found = differences(run, (gs.nn.Linear(2, 2), jnp.ones(2)), (gs.nn.Linear(2, 3), jnp.ones(2)))
    assert found == (
        "layer: out_features: 2 -> 3",
        "layer.bias: float32[2] became float32[3]",
        "layer.weight: float32[2,2] became float32[2,3]",
    )


def test_it_tells_static_arguments():
    run = gs.jit(gs.assert_max_traces(lambda x, k: x * k, 1), static_argnames="k")
    assert differences(run, (1.0, 2), (1.0, 3)) == ("k: 2 (int) became 3 (int)",)


def test_it_tells_what_the_function_refers_to():
    settings = {"scales": [1.0, 2.0]}
    factor = 3.0
    run = gs.jit(gs.assert_max_traces(lambda x: x * settings["scales"][1] * factor, 1))
    run(1.0)
    settings["scales"][1] = 5.0
    factor = 4.0
    with pytest.raises(TraceCountError) as raised:
        run(1.0)
    assert set(raised.value.differences) == {"factor: 3.0 became 4.0", "settings['scales'][1]: 2.0 became 5.0"}


def test_it_tells_what_changed_in_a_closed_over_node():
    layer = gs.nn.Linear(2, 2)
    run = gs.jit(gs.assert_max_traces(lambda x: layer(x), 1))
    run(jnp.ones(2))
    layer.bias.value = jnp.ones((1, 2))
    layer.note = "new"
    with pytest.raises(TraceCountError) as raised:
        run(jnp.ones((1, 2)))
    assert raised.value.differences == (
        "layer: note: missing -> 'new'",
        "x: float32[2] became float32[1,2]",
        "layer.bias: float32[2] became float32[1,2]",
    )


def test_it_tells_functions_that_were_replaced():
    def activation(x):
        return x

    run = gs.jit(gs.assert_max_traces(lambda x: activation(x), 1))
    run(1.0)

    def activation(x):  # noqa: F811, that is the point
        return -x

    with pytest.raises(TraceCountError) as raised:
        run(1.0)
    assert raised.value.differences == ("activation: became another function",)


def test_it_tells_settings():
    run = gs.jit(gs.assert_max_traces(lambda x: x if gs.environ.get("fit") else -x, 1))
    run(1.0)
    with gs.environ.context(fit=True), pytest.raises(TraceCountError, match=r"the setting fit: False .* became True"):
        run(1.0)


def test_it_tells_nothing_of_how_rules_are_traced():
    ruled = gs.custom_vjp(double)
    counted = gs.assert_max_traces(lambda x: (ruled(x), None), 1)
    ruled.defvjp(counted, lambda _, cotangent: (2 * cotangent,))
    gs.jit(gs.grad(ruled))(jnp.float32(1.0))
    with pytest.raises(TraceCountError, match="like those of the trace before") as raised:
        gs.jit(gs.grad(lambda x: ruled(x)))(jnp.float32(1.0))
    assert raised.value.differences == ()


def test_without_a_change_it_names_the_usual_causes():
    counted = gs.assert_max_traces(double, 1)
    gs.jit(counted)(1.0)
    with pytest.raises(TraceCountError, match="Transform it once, not on each call"):
        gs.jit(counted)(1.0)


def test_none_at_all_may_be_asked_for():
    with pytest.raises(TraceCountError, match=r"`double` must not be traced, but it is. Call it outside"):
        gs.jit(gs.assert_max_traces(double, 0))(1.0)


@pytest.mark.parametrize("n", [None, 1.0, True, -1])
def test_the_limit_is_an_int(n):
    with pytest.raises(StateTypeError, match=r"as an int, but `n` is .*Write `assert_max_traces\(function, 1\)`"):
        gs.assert_max_traces(double, n)


def test_what_the_function_refers_to_is_still_found():
    count, scale = gs.State(jnp.float32(0)), 2.0

    def step(x):
        count.value += scale * x

    run = gs.jit(gs.assert_max_traces(step, 2))
    run(1.0)
    run(1.0)
    scale = 3.0
    run(1.0)
    assert count.value == 7.0


def test_methods_and_nodes_can_be_counted():
    class Counter(gs.Node):
        def __init__(self):
            self.total = gs.State(jnp.float32(0))
            self.rate = 1.0

        @gs.jit
        @gs.assert_max_traces(n=1)
        def add(self, x):
            self.total.value += self.rate * x

    counter = Counter()
    counter.add(1.0)
    counter.add(2.0)
    assert counter.total.value == 3.0
    counter.rate = 2.0
    with pytest.raises(TraceCountError, match=r"self: rate: 1.0 -> 2.0"):
        counter.add(1.0)
    layer = gs.nn.Linear(2, 2)
    assert gs.jit(gs.assert_max_traces(layer, 1))(jnp.ones(2)).shape == (2,)


def test_it_keeps_no_arrays_and_no_nodes_alive():
    layer, x = gs.nn.Linear(2, 2), jnp.ones(2)
    counted = gs.assert_max_traces(lambda layer, x: layer(x), 1)
    gs.jit(counted)(layer, x)
    refs = [weakref.ref(layer), weakref.ref(layer.weight.value), weakref.ref(x)]
    del layer, x
    gc.collect()
    assert [ref() for ref in refs] == [None, None, None]
