"""What makes a compiled function trace again, and what does not: each test counts the runs of user code."""

import functools
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate import environ
from graphstate._lift.watch._watch import Watch

pytestmark = pytest.mark.no_leak_check("counts traces")


class Leaf(gs.Node):
    def __init__(self, weight=2.0, scale=1.0):
        self.weight = gs.ParamState(jnp.asarray(weight, jnp.float32))
        self.scale = scale

    def __call__(self, x):
        return self.weight.value * self.scale * x


class Counted:
    """A compiled function that counts the runs of `function`."""

    def __init__(self, function, **options):
        self.runs = 0

        @functools.wraps(function)
        def counted(*args, **kwargs):
            self.runs += 1
            return function(*args, **kwargs)

        self.call = gs.jit(counted, **options)

    def __call__(self, *args, **kwargs):
        return self.call(*args, **kwargs)


# One trace


def test_new_values_do_not_retrace():
    leaf, call = Leaf(), Counted(lambda leaf, x: leaf(x))
    for number in range(4):
        leaf.weight.value = jnp.float32(number)
        assert call(leaf, number * 1.0) == number**2
    assert call.runs == 1


def test_equal_structures_share_a_program():
    call = Counted(lambda leaf, x: leaf(x))
    assert [call(Leaf(number), 1.0) for number in range(4)] == [0.0, 1.0, 2.0, 3.0]
    assert call.runs == 1


def test_equal_structures_share_a_program_that_restructures():
    def change(leaf):
        leaf.extra = gs.State(2 * leaf.weight.value)
        leaf.scale = "changed"
        return leaf

    call = Counted(change)
    leaves = [Leaf(number) for number in range(3)]
    assert all(call(leaf) is leaf for leaf in leaves)
    assert [leaf.extra.value for leaf in leaves] == [0.0, 2.0, 4.0]
    assert {leaf.scale for leaf in leaves} == {"changed"}
    assert call.runs == 1


def test_closures_over_equal_structures_share_a_program_or_are_traced_once_each():
    leaf = None
    call = Counted(lambda x: leaf(x))
    leaves = [Leaf(number) for number in range(3)]
    for _ in range(3):
        for number, leaf in enumerate(leaves):  # noqa: B007, the closure reads it
            assert call(1.0) == number
    assert call.runs <= 3


def test_numbers_rebound_to_equal_ones_do_not_retrace():
    factor = 1000
    call = Counted(lambda x: factor * x)
    for _ in range(3):
        factor = int("1000")
        assert call(1) == 1000
    assert call.runs == 1


def test_values_that_come_back_find_their_program():
    factor, leaf = 2.0, Leaf()
    call = Counted(lambda x: factor * leaf.scale * x)
    for factor, leaf.scale in [(2.0, 1.0), (3.0, 1.0), (3.0, 2.0)] * 3:
        assert call(1.0) == factor * leaf.scale
    assert call.runs == 3


def test_a_static_attribute_counted_up_finds_its_programs_again():
    def step(leaf):
        leaf.count += 1

    leaf, call = Leaf(), Counted(step)
    leaf.count = 0
    for _ in range(2):
        leaf.count = 0
        for expected in (1, 2, 3):
            call(leaf)
            assert leaf.count == expected
    assert call.runs == 3


def test_a_python_number_that_becomes_an_array_does_not_retrace():
    count = gs.State(3)

    def step():
        count.value = count.value + 1

    call = Counted(step)
    for _ in range(3):
        call()
    assert count.value == 6
    assert call.runs == 1


def test_new_shapes_and_dtypes_retrace():
    call = Counted(lambda leaf, x: leaf(x))
    leaf = Leaf(jnp.ones(2))
    call(leaf, jnp.ones(2))
    call(leaf, jnp.ones(2))
    assert call.runs == 1
    call(leaf, jnp.ones((2, 2))[0])
    assert call.runs == 1
    call(leaf, 1.0)
    assert call.runs == 2
    leaf.weight.value = jnp.ones(3)
    call(leaf, 1.0)
    assert call.runs == 3
    leaf.weight.value = jnp.ones(2)
    call(leaf, jnp.ones(2))
    assert call.runs == 3


def test_a_warm_call_looks_no_longer_at_what_it_depends_on_after_many_shapes(monkeypatch):
    looked = []
    is_current = Watch.is_current
    monkeypatch.setattr(Watch, "is_current", lambda watch: looked.append(watch) or is_current(watch))
    counts = []
    for shapes in (1, 8):
        call, leaf = gs.jit(lambda leaf, x: leaf(x)), Leaf()
        for size in range(shapes):
            call(leaf, jnp.ones(size))
        looked.clear()
        call(leaf, jnp.ones(0))
        counts.append(len(looked))
    assert counts[0] == counts[1]


def test_new_shapes_of_captured_states_retrace():
    hidden = types.ModuleType("hidden")  # no closure is looked for in a module
    hidden.state = gs.State(jnp.ones(2))
    call = Counted(lambda: 2 * hidden.state.value)
    assert call().shape == (2,)
    hidden.state.value = jnp.ones((3, 1))
    assert call().shape == (3, 1)
    hidden.state.value = {"a": jnp.ones(1)}
    with pytest.raises(TypeError):
        call()
    hidden.state.value = jnp.ones(2)
    assert call().shape == (2,)
    assert call.runs == 3


def test_other_shapes_that_read_other_states_keep_their_programs():
    hidden = types.ModuleType("hidden")  # no closure is looked for in a module
    hidden.one, hidden.two = gs.State(jnp.float32(1.0)), gs.State(jnp.float32(2.0))
    call = Counted(lambda x: x * (hidden.one if x.size == 1 else hidden.two).value)
    for _ in range(3):
        assert call(jnp.ones(1)).tolist() == [1.0]
        assert call(jnp.ones(2)).tolist() == [2.0, 2.0]
    assert call.runs == 2


def test_a_weakly_typed_state_retraces_once():
    total = gs.State(0.0)

    def step(x):
        total.value = total.value + x

    call = Counted(step)
    for _ in range(4):
        call(jnp.float32(1.0))
    assert total.value == 4.0
    assert call.runs == 2


def test_a_failing_trace_is_tried_again():
    fails = [True]

    def step(x):
        if fails[0]:
            raise ValueError("not yet")
        return x

    call = Counted(step)
    with pytest.raises(ValueError, match="not yet"):
        call(1.0)
    fails[0] = False
    assert [call(1.0), call(1.0)] == [1.0, 1.0]
    assert call.runs == 2


def test_an_inner_program_is_found_by_the_outer_one_and_eagerly():
    leaf = Leaf()
    inner = Counted(lambda x: leaf(x))
    outer = Counted(lambda x: inner.call(x) + inner.call(2 * x))
    assert [outer(1.0), outer(1.0)] == [6.0, 6.0]
    assert inner.runs == 1
    assert [inner(1.0), inner(1.0)] == [2.0, 2.0]
    assert (inner.runs, outer.runs) == (1, 1)


def test_methods_of_equal_instances_share_a_program():
    runs = []

    class Model(gs.Node):
        def __init__(self, weight):
            self.weight = gs.State(jnp.float32(weight))

        @gs.jit
        def __call__(self, x):
            runs.append(x)
            return self.weight.value * x

    assert [Model(number)(2.0) for number in range(3)] == [0.0, 2.0, 4.0]
    assert len(runs) == 1


class Trainer:
    """What a training loop looks like: the host counts and logs beside the compiled step."""

    def __init__(self):
        self.model, self.count, self.losses, self.rate, self.runs = Leaf(), 0, [], 0.5, 0
        self.compiled = gs.jit(self.step)

    def loss(self, x):
        return self.rate * self.model(x)

    def step(self, x):
        self.runs += 1
        return self.loss(x)

    def fit(self, steps):
        for _ in range(steps):
            self.losses.append(float(self.compiled(1.0)))
            self.count += 1


def test_what_the_function_does_not_name_may_change():
    trainer = Trainer()
    trainer.fit(4)
    assert trainer.losses == [1.0] * 4
    assert trainer.runs == 1
    trainer.rate = 1.0
    trainer.fit(2)
    assert trainer.losses[4:] == [2.0] * 2
    assert trainer.runs == 2


class Config:
    """A plain object, as a Node's static attribute."""

    def __init__(self):
        self.factor = 2.0


@pytest.mark.parametrize("kind", ["attribute", "partial", "function"])
def test_a_plain_object_of_a_node_is_met_twice(kind):
    """Through the graph, and through the closure of the class that put it there."""
    config = Config()
    holders = {"attribute": config, "partial": functools.partial(Leaf, config), "function": lambda: config}

    class Model(gs.Node):
        def __init__(self):
            self.holder, self.config = holders[kind], config

    model, runs = Model(), []

    @gs.jit
    def call(model, x):
        runs.append(x)
        if len(runs) > 5:
            raise AssertionError("traced again and again")
        return model.config.factor * x

    assert [call(model, 1.0), call(model, 1.0)] == [2.0, 2.0]
    assert len(runs) == 1
    config.factor = 5.0
    assert [call(model, 1.0), call(model, 1.0)] == [5.0, 5.0]
    assert len(runs) == 2


# Aliasing


def test_one_object_twice_is_another_program_than_two_objects():
    def step(a, b):
        a.weight.value = a.weight.value + 1
        return b.weight.value

    call = Counted(step)
    a, b = Leaf(1.0), Leaf(5.0)
    assert [call(a, b), call(a, a), call(a, b), call(b, b)] == [5.0, 3.0, 5.0, 6.0]
    assert call.runs == 2


@pytest.mark.parametrize("writes", [False, True])
def test_an_argument_that_is_also_closed_over_is_found_in_every_program(writes):
    """Whatever shapes were traced before, with whichever objects."""
    closed, other = Leaf(3.0), Leaf(5.0)

    def step(leaf, x):
        if x.shape[0] == 2:
            if writes:
                leaf.weight.value = leaf.weight.value + 1
            return x[0] * closed.weight.value
        return x[0] * leaf.weight.value

    call = Counted(step)
    one, two = jnp.ones(1), jnp.ones(2)
    assert call(other, one) == 5.0
    assert call(closed, one) == 3.0
    assert call(closed, two) == (4.0 if writes else 3.0)
    assert call(other, two) == (4.0 if writes else 3.0)
    assert call(closed, two) == (5.0 if writes else 3.0)
    assert other.weight.value == (6.0 if writes else 5.0)
    assert call(other, one) == other.weight.value


def test_a_state_captured_from_nowhere_may_become_an_argument():
    hidden = types.ModuleType("hidden")  # no closure is looked for in a module
    hidden.leaf = Leaf(3.0)

    def step(leaf, x):
        leaf.weight.value = leaf.weight.value + 1
        return hidden.leaf.weight.value * x

    call = Counted(step)
    other = Leaf(10.0)
    assert [call(other, 1.0), call(hidden.leaf, 1.0), call(other, 1.0), call(hidden.leaf, 1.0)] == [
        3.0,
        4.0,
        4.0,
        5.0,
    ]
    assert (other.weight.value, hidden.leaf.weight.value) == (12.0, 5.0)
    assert call.runs == 2


def test_a_captured_state_that_was_dropped_is_looked_for_again():
    hidden = types.ModuleType("hidden")  # no closure is looked for in a module
    call = Counted(lambda x: hidden.state.value * x)
    for number in range(3):
        hidden.state = None
        hidden.state = gs.State(jnp.float32(number))
        assert call(1.0) == number


# Settings of the environment


def test_a_setting_that_was_read_retraces_when_it_changes():
    call = Counted(lambda x: x * (2.0 if environ.get("fit") else 3.0))
    assert call(1.0) == 3.0
    with environ.context(fit=True):
        assert [call(1.0), call(1.0)] == [2.0, 2.0]
    assert call(1.0) == 3.0
    with environ.context(fit=1):
        assert call(1.0) == 2.0
    with environ.context(unread=1):
        assert call(1.0) == 3.0
    assert call.runs == 3


def test_an_absent_setting_is_a_setting():
    call = Counted(lambda x: x * environ.get("factor", default=1.0))
    assert call(1.0) == 1.0
    with environ.context(factor=2.0):
        assert call(1.0) == 2.0
    with environ.context(factor=2):
        assert call(1.0) == 2.0
    assert call(1.0) == 1.0
    assert call.runs == 3


def test_settings_read_by_an_inner_program_are_the_outer_ones_too():
    inner = Counted(lambda x: x * (2.0 if environ.get("fit") else 3.0))
    outer = Counted(lambda x: inner.call(x))
    assert [inner(1.0), outer(1.0)] == [3.0, 3.0]
    with environ.context(fit=True):
        assert outer(1.0) == 2.0
    assert outer(1.0) == 3.0


def test_settings_read_inside_of_loops_and_maps_count():
    def step(x):
        return x * (2.0 if environ.get("fit") else 3.0)

    for call in (
        lambda x: gs.for_loop(step, x),
        gs.jit(lambda x: gs.for_loop(step, x)),
        gs.jit(lambda x: gs.vmap(step)(x)),
    ):
        assert call(jnp.ones(2)).tolist() == [3.0, 3.0]
        with environ.context(fit=True):
            assert call(jnp.ones(2)).tolist() == [2.0, 2.0]


def test_array_settings_are_inputs():
    call = Counted(lambda x: x * environ.get("step"))
    for number in range(3):
        with environ.context(step=jnp.float32(number)):
            assert call(1.0) == number
    assert call.runs == 1
    with environ.context(step=2.0):
        assert call(1.0) == 2.0
    assert call.runs == 2


def test_a_traced_setting_is_seen_in_each_step():
    def read():
        return 2 * environ.get("step")

    def step(number):
        with environ.context(step=number):
            return read()

    assert gs.for_loop(step, jnp.arange(3)).tolist() == [0, 2, 4]
    assert gs.jit(lambda xs: gs.for_loop(step, xs))(jnp.arange(3)).tolist() == [0, 2, 4]
    assert gs.vmap(step)(jnp.arange(3)).tolist() == [0, 2, 4]


# Other traces and threads


def test_a_program_runs_inside_of_plain_transforms():
    leaf = Leaf(3.0)
    call = Counted(lambda x: leaf(x) ** 2)
    assert jax.grad(call)(1.0) == 18.0
    np.testing.assert_array_equal(jax.vmap(call)(jnp.arange(3.0)), 9 * jnp.arange(3.0) ** 2)
    leaf.weight.value = jnp.float32(1.0)
    assert jax.grad(call)(1.0) == 2.0


def test_many_threads_may_make_the_first_call():
    leaves, results = [Leaf(number) for number in range(8)], {}
    call = gs.jit(lambda leaf, x: leaf(x))
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        for size in (1, 2, 3):
            results[number, size] = call(leaves[number], jnp.ones(size)).tolist()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {(number, size): [float(number)] * size for number in range(8) for size in (1, 2, 3)}


def test_a_second_thread_does_not_take_a_half_known_program():
    """One thread is still tracing, and has not said yet on what its program depends, when another makes the call."""
    tracing, release, results = threading.Event(), threading.Event(), {}

    @gs.jit
    def step(x):
        if threading.current_thread().name == "first":
            tracing.set()
            release.wait(timeout=30)
        return x * (2.0 if environ.get("fit") else 3.0)

    def work(fit):
        with environ.context(fit=fit):
            results[fit] = float(step(1.0))

    first = threading.Thread(target=work, args=(False,), name="first")
    second = threading.Thread(target=work, args=(True,), name="second")
    first.start()
    tracing.wait(timeout=30)
    second.start()
    second.join(timeout=1)
    release.set()
    first.join()
    second.join()
    assert results == {False: 3.0, True: 2.0}
    for fit, expected in results.items():
        with environ.context(fit=fit):
            assert step(1.0) == expected


def test_threads_see_their_own_settings():
    call, results = gs.jit(lambda x: x * (2.0 if environ.get("fit") else 3.0)), {}

    def work(fit):
        with environ.context(fit=fit):
            results[fit] = [float(call(1.0)) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(fit,)) for fit in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {False: [3.0] * 20, True: [2.0] * 20}


# Arrays as attributes


def test_array_attributes_are_inputs():
    def step(leaf, x):
        leaf.buffer = leaf.buffer + x
        return jnp.sum(leaf.buffer)

    call, leaf = Counted(step), Leaf()
    leaf.buffer = jnp.zeros(2)
    assert [call(leaf, 1.0), call(leaf, 1.0)] == [2.0, 4.0]
    leaf.buffer = jnp.ones(2)
    assert call(leaf, 1.0) == 4.0
    assert call.runs == 1


def test_numpy_attributes_may_be_changed_in_place():
    call, leaf = Counted(lambda leaf: 2 * jnp.sum(leaf.buffer)), Leaf()
    leaf.buffer = np.ones(2, np.float32)
    assert call(leaf) == 4.0
    leaf.buffer[0] = 5.0
    assert call(leaf) == 12.0
    assert call.runs == 1


def test_the_sharing_of_containers_is_structure():
    def step(node):
        node.first.append(gs.State(jnp.float32(1.0)))
        return len(node.second)

    call, apart, shared = Counted(step), gs.Node(), gs.Node()
    apart.first, apart.second = [], []
    shared.first = shared.second = []
    assert call(apart) == 0
    assert call(shared) == 1
    assert shared.first is shared.second
    assert call.runs == 2
