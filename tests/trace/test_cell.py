"""What a State holds, outside of traces and across their ends."""

import gc
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import StateTypeError, TraceContextError


class Leaf(gs.Node):
    def __init__(self, weight):
        self.weight = gs.ParamState(weight)


# Values


@pytest.mark.parametrize(
    "value", [3, 2.5, True, 1j, np.float32(2), np.arange(3), jnp.arange(3), None, (1, jnp.ones(2))]
)
def test_arrays_numbers_and_tuples_stand_for_themselves(value):
    state = gs.State(value)
    assert state.value is value
    state.value = 7
    state.value = value
    assert state.value is value


def test_a_pytree_is_kept_as_it_was_written():
    value = {"a": [jnp.ones(2), {"b": 3}], "c": None}
    state = gs.State(value)
    assert state.value is value
    state.value = (value,)
    assert state.value[0] is value


def test_a_struct_may_stand_for_an_array():
    struct = jax.ShapeDtypeStruct((2,), "float32")
    assert gs.State(struct).value is struct


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", r"but the value is 'text' of type str. Keep static values as plain attributes"),
        ({"a": [1.0, "text"]}, r"but its part \['a'\]\[1\] is 'text' of type str"),
        (object(), r"but the value is '<object object"),
        (
            {"a": gs.State(1)},
            r"but its part \['a'\] is a State. Take its `.value`, or keep the State itself as an attribute",
        ),
        (gs.State(1), r"but the value is a State"),
    ],
)
def test_what_a_state_cannot_hold_is_an_error(value, message):
    with pytest.raises(StateTypeError, match=message):
        gs.State(value)
    state = gs.State(1.0)
    with pytest.raises(TypeError, match=message):
        state.value = value
    assert state.value == 1.0
    with pytest.raises(StateTypeError, match=message):
        gs.jit(lambda: setattr(state, "value", value))()
    assert state.value == 1.0


# In-place changes


def replaced(value):
    value["a"] = jnp.zeros(2)


def added(value):
    value["new"] = 1.0


def removed(value):
    del value["a"]


def nested(value):
    value["b"][0].append(1.0)


CHANGES = [replaced, added, removed, nested]


def state_of_containers():
    return gs.State({"a": jnp.ones(2), "b": ([1.0],)})


@pytest.mark.parametrize("change", CHANGES)
def test_a_container_changed_in_place_raises_at_the_next_use(change):
    state = state_of_containers()
    change(state.value)
    match = r"changed in place: a dict or list read from `.value` is not the State.*Write a new value instead"
    with pytest.raises(TraceContextError, match=match):
        state.value  # noqa: B018
    with pytest.raises(TraceContextError, match=match):
        gs.jit(lambda state: 1.0)(state)
    with pytest.raises(TraceContextError, match=match):
        gs.vmap(lambda x: state.value["b"])(jnp.ones(2))
    state.value = {"a": jnp.ones(2)}
    assert state.value["a"].shape == (2,)


TRANSFORMS = {
    "jit": lambda f: gs.jit(f)(1.0),
    "vmap": lambda f: gs.vmap(f)(jnp.ones(2)),
    "grad": lambda f: gs.grad(lambda x: (f(x), x)[1])(1.0),
    "for_loop": lambda f: gs.for_loop(f, jnp.ones(2)),
    "eval_shape": lambda f: gs.eval_shape(f, 1.0),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_container_changed_in_place_inside_raises_and_the_state_stays(transform, change):
    state = state_of_containers()

    def function(x):
        change(state.value)

    with pytest.raises(TraceContextError, match="changed in place"):
        TRANSFORMS[transform](function)
    np.testing.assert_array_equal(state.value["a"], jnp.ones(2))
    assert state.value["b"] == ([1.0],)


@pytest.mark.parametrize("transform", ["jit", "vmap", "grad"])
def test_a_container_of_an_argument_changed_in_place_raises_and_the_state_stays(transform):
    state = state_of_containers()
    call = {
        "jit": lambda f: gs.jit(f)(state),
        "vmap": lambda f: gs.vmap(f, in_axes=None, axis_size=2)(state),
        "grad": lambda f: gs.grad(lambda x, state: (f(state), x)[1])(1.0, state),
    }[transform]
    with pytest.raises(TraceContextError, match="changed in place"):
        call(lambda state: replaced(state.value))
    np.testing.assert_array_equal(state.value["a"], jnp.ones(2))


def test_a_container_written_inside_and_then_changed_raises():
    state = gs.State(jnp.float32(0.0))

    def function():
        state.value = {"a": jnp.ones(2)}
        state.value["a"] = jnp.zeros(2)

    with pytest.raises(TraceContextError, match="changed in place"):
        gs.jit(function)()
    assert state.value == 0.0


# Plain JAX


PLAIN = {
    "jit": lambda f: jax.jit(f)(1.0),
    "vmap": lambda f: jax.vmap(f)(jnp.ones(2)),
    "grad": lambda f: jax.grad(lambda x: (f(x), x)[1])(1.0),
    "scan": lambda f: jax.lax.scan(lambda c, x: (c, f(x)), 0.0, jnp.ones(2)),
    "cond": lambda f: jax.lax.cond(True, f, f, 1.0),
    "eval_shape": lambda f: jax.eval_shape(f, 1.0),
}


@pytest.mark.parametrize("value", ["traced", "constant"])
@pytest.mark.parametrize("transform", PLAIN)
def test_a_write_under_plain_jax_raises_and_changes_nothing(transform, value):
    state = gs.State(jnp.float32(5.0))

    def function(x):
        state.value = x if value == "traced" else jnp.float32(3.0)
        return x

    match = (
        r"a State, created at test_cell.py:\d+,? was written inside of a transform of plain JAX, .* Nothing was changed"
    )
    with pytest.raises(TraceContextError, match=match):
        PLAIN[transform](function)
    assert state.value == 5.0
    with pytest.raises(TraceContextError, match=r"`state` .* was written inside of a transform of plain JAX"):
        gs.jit(lambda: PLAIN[transform](function))()
    assert state.value == 5.0


def test_a_state_of_an_argument_is_named_by_its_path():
    leaf = Leaf(jnp.float32(1.0))

    def function(leaf):
        jax.vmap(lambda x: setattr(leaf.weight, "value", x))(jnp.ones(2))

    with pytest.raises(
        TraceContextError,
        match=r"`leaf.weight` \(ParamState, created at test_cell.py:\d+\) was written inside of a transform of plain",
    ):
        gs.jit(function)(leaf)
    assert leaf.weight.value == 1.0


def test_a_state_that_plain_jax_made_may_be_written_there():
    @jax.jit
    def function(x):
        state = gs.State(x)
        state.value = state.value + 1
        leaf = Leaf(state.value)
        leaf.note = "set inside"
        return state.value * leaf.weight.value

    assert function(1.0) == 4.0
    assert jax.vmap(function)(jnp.arange(2.0)).tolist() == [1.0, 4.0]


@pytest.mark.parametrize("transform", PLAIN)
def test_a_node_is_not_restructured_under_plain_jax(transform):
    leaf = Leaf(jnp.float32(1.0))

    def function(x):
        leaf.extra = x
        return x

    with pytest.raises(
        TraceContextError,
        match=r"Attribute 'extra' of a Leaf was changed inside of a transform, .* Use the transform of the same name",
    ):
        PLAIN[transform](function)
    assert not hasattr(leaf, "extra")


# After the end of a trace


ENDED = {
    **TRANSFORMS,
    "plain jit": lambda f: jax.jit(f)(1.0),
    "plain vmap": lambda f: jax.vmap(f)(jnp.ones(2)),
    "vmap in jit": lambda f: gs.jit(lambda: gs.vmap(f)(jnp.ones(2)))(),
}


@pytest.mark.no_leak_check("leaks on purpose")
class TestAfterTheEndOfATrace:
    @pytest.fixture(params=ENDED)
    def escaped(self, request):
        """A State that was made in a trace that has ended."""
        kept = []

        def function(x):
            kept.append(gs.State(x))

        ENDED[request.param](function)
        return kept[0]

    def test_it_raises_when_it_is_read(self, escaped):
        match = r"a State, created at test_cell.py:\d+,? was read after the trace that it was created in had ended"
        with pytest.raises(TraceContextError, match=match):
            escaped.value  # noqa: B018
        with pytest.raises(TraceContextError, match="had ended"):
            gs.jit(lambda: escaped.value)()
        with pytest.raises(TraceContextError, match="had ended"):
            gs.jit(lambda state: state.value)(escaped)
        with pytest.raises(TraceContextError, match="had ended"):
            gs.vmap(lambda x: escaped.value)(jnp.ones(2))
        assert "its trace has ended" in repr(escaped)

    def test_it_lives_again_once_a_value_is_written(self, escaped):
        escaped.value = jnp.float32(3.0)
        assert escaped.value == 3.0
        gs.jit(lambda: setattr(escaped, "value", escaped.value + 1))()
        assert escaped.value == 4.0

    def test_it_lives_again_once_it_is_written_inside_of_a_transform(self, escaped):
        gs.jit(lambda x: setattr(escaped, "value", x))(5.0)
        assert escaped.value == 5.0

    def test_it_may_live_in_another_trace_for_a_while(self, escaped):
        def function(x):
            escaped.value = x
            return 2 * escaped.value

        assert gs.vmap(function, state_out_axes=gs.State)(jnp.arange(2.0)).tolist() == [0.0, 2.0]
        assert escaped.value.tolist() == [0.0, 1.0]

    def test_a_tracer_of_an_ended_trace_cannot_be_written(self):
        kept, state = [], gs.State(jnp.float32(1.0))
        jax.jit(kept.append)(1.0)
        with pytest.raises(
            TraceContextError,
            match=r"was given a tracer of a trace that has ended. Return the value from the transformed function",
        ):
            state.value = kept[0]
        with pytest.raises(TraceContextError, match="was given a tracer of a trace that has ended"):
            state.value = {"a": kept[0]}
        assert state.value == 1.0

    def test_a_node_made_in_a_trace_may_be_changed_afterwards(self):
        kept = []
        gs.jit(lambda x: kept.append(Leaf(x)))(1.0)
        leaf = kept[0]
        leaf.note = "outside"
        leaf.weight.value = jnp.float32(2.0)
        assert gs.jit(lambda leaf: leaf.weight.value)(leaf) == 2.0


# Threads


def test_other_threads_see_plain_values_while_a_thread_traces():
    state, leaf = gs.State(jnp.float32(1.0)), Leaf(jnp.float32(1.0))
    leaf.items, seen, stop, started = [], set(), threading.Event(), threading.Event()

    def watch():
        while not stop.is_set():
            seen.add((type(state.value), type(leaf.weight.value), len(leaf.items), hasattr(leaf, "extra")))
            started.set()

    def step(leaf, x):
        for _ in range(20):
            state.value = state.value + x
            leaf.weight.value = leaf.weight.value + state.value
        leaf.items.append(x)
        leaf.extra = x
        raise KeyError("never finished")

    thread = threading.Thread(target=watch)
    thread.start()
    started.wait()
    try:
        for call in (
            lambda: gs.jit(step)(leaf, 1.0),
            lambda: gs.vmap(step, in_axes=(None, 0))(leaf, jnp.ones(2)),
            lambda: gs.grad(step)(leaf, 1.0),
            lambda: gs.scan(step, leaf, jnp.ones(2)),
            lambda: gs.eval_shape(step, leaf, 1.0),
        ):
            with pytest.raises(KeyError):
                call()
    finally:
        stop.set()
        thread.join()
    assert seen == {(type(jnp.float32(1.0)), type(jnp.float32(1.0)), 0, False)}


def test_two_threads_trace_the_same_states_at_once():
    state, results = gs.State(jnp.float32(2.0)), {}
    barrier = threading.Barrier(2)

    def work(factor):
        def step(x):
            barrier.wait(timeout=30)
            value = state.value
            barrier.wait(timeout=30)
            state.value = value * factor
            barrier.wait(timeout=30)
            return state.value * x

        results[factor] = float(gs.jit(step)(1.0))

    threads = [threading.Thread(target=work, args=(factor,)) for factor in (3.0, 5.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {3.0: 6.0, 5.0: 10.0}
    assert float(state.value) in (6.0, 10.0)


def test_nothing_of_a_trace_is_kept_alive():
    import weakref

    class Marked(gs.State):
        pass

    gone, state = [], gs.State(jnp.float32(1.0))

    def function(x):
        made = Marked(x)
        gone.append(weakref.ref(made))
        state.value = made.value
        raise KeyError("user")

    with pytest.raises(KeyError):
        gs.jit(function)(1.0)
    gc.collect()
    assert gone[0]() is None
