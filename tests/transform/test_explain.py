"""`explain`: what a compiled function is bound to."""

import jax.numpy as jnp

import graphstate as gs

TABLE = jnp.arange(4.0)


class Hidden:
    array = jnp.ones(7)


def test_it_lists_what_is_looked_at_on_each_call():
    layer, scale = gs.nn.Linear(2, 2), 2.0
    explained = gs.explain(gs.jit(lambda x: scale * layer(x)))
    assert explained.name == "jit(test_it_lists_what_is_looked_at_on_each_call.<locals>.<lambda>)"
    assert set(explained.references) == {"layer: Linear", "scale = 2.0"}
    assert [line.split(" (")[0] for line in explained.states] == ["layer.bias", "layer.weight"]
    assert explained.programs == ()


def test_it_lists_what_programs_take_read_and_write():
    total = gs.State(jnp.float32(0))

    @gs.jit(static_argnames="mode")
    def step(pair, x, mode):
        if gs.environ.get("fit") and mode == "add":
            total.value += x * gs.environ.get("rate", default=1.0)
        return total.value

    step(gs.nn.Linear(1, 1), 1.0, mode="add")
    with gs.environ.context(fit=True, rate=jnp.float32(2)):
        step(gs.nn.Linear(1, 1), 1.0, mode="add")
    first, second = gs.explain(step).programs
    assert first.arguments == ("pair: Linear", "x: array")
    assert first.statics == ("'add'",)
    assert first.settings == ("fit = False",)
    assert first.captured == ("total",)
    assert first.written == ()
    assert second.settings == ("fit = True", "rate (an array)")
    assert second.written == ("total",)
    assert set(second.captured) == {"total", "the setting rate"}


def test_it_lists_arrays_that_became_constants():
    add = gs.jit(lambda x: x + TABLE.sum() + Hidden.array.sum())
    add(1.0)
    explained = gs.explain(add)
    assert set(explained.programs[0].constants) == {"float32[4]", "float32[7]"}
    assert "arrays that are constants of a program: float32[" in str(explained)


def test_it_lists_what_the_function_changes_itself():
    calls = []

    @gs.jit
    def count(x):
        calls.append(x.shape)
        return x

    count(1.0)
    assert gs.explain(count).ignored == ("calls",)


def test_it_counts_programs():
    double = gs.jit(lambda x: 2 * x)
    double(jnp.ones(1))
    double(jnp.ones(2))
    (program,) = gs.explain(double).programs
    assert program.programs == 2
    assert "called with (x: array), 2 programs" in str(gs.explain(double))


def test_with_arguments_it_traces_first_and_changes_nothing():
    total = gs.State(jnp.float32(0))

    def add(x):
        total.value += x

    explained = gs.explain(add, 1.0)
    assert explained.programs[0].written == ("total",)
    assert total.value == 0.0


def test_decorated_methods_can_be_explained():
    class Scaled(gs.Node):
        def __init__(self):
            self.rate = gs.ParamState(jnp.float32(2))

        @gs.jit
        def apply(self, x):
            return self.rate.value * x

    node = Scaled()
    assert gs.explain(node.apply).programs == ()
    assert gs.explain(node.apply, 1.0).programs[0].arguments == ("self: Scaled", "x: array")


def test_a_captured_state_that_has_no_name_is_told_by_its_place():
    class Holder:
        state = gs.State(jnp.float32(1))

    (program,) = gs.explain(gs.jit(lambda x: x + Holder.state.value), 1.0).programs
    assert program.captured[0].startswith("a State, created at test_explain.py:")


def test_it_is_a_text_when_printed():
    scale = 3.0
    lines = str(gs.explain(lambda x: scale * x)).splitlines()
    assert lines[1] == "looked at on each call: scale = 3.0"
    many = [gs.State(jnp.float32(number)) for number in range(20)]
    assert "and 12 more" in str(gs.explain(lambda: sum(state.value for state in many)))
