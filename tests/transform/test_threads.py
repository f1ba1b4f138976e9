"""Twelve threads at once: each with a model of its own, all with one model, and all writing one State."""

import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import graphstate as gs
from graphstate._trace import current_frame

pytestmark = pytest.mark.no_leak_check("leak checks of several threads see each other's tracers")

THREADS, STEPS = 12, 3
XS = jnp.linspace(-1.0, 1.0, 4)[:, None]
YS = jnp.sin(XS)


@pytest.fixture(autouse=True)
def frequent_switches():
    """Threads take turns far more often than they would."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(interval)


def together(work):
    """What `work(number)` returns in each of twelve threads that begin at once."""
    results, errors, barrier = [None] * THREADS, [], threading.Barrier(THREADS)

    def run(number):
        try:
            barrier.wait()
            results[number] = work(number)
            assert current_frame() is None
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


class Model(gs.Node):
    def __init__(self, seed):
        self.layer = gs.nn.Linear(1, 2, rng=gs.random.RandomState(seed))
        self.dropout = gs.nn.Dropout(0.5, rng=gs.random.RandomState(100 + seed))
        self.steps = gs.State(jnp.int32(0))

    def __call__(self, x):
        self.steps.value = self.steps.value + 1
        return jnp.sum(self.dropout(self.layer(x)), axis=-1, keepdims=True)


def loss(model, xs, ys):
    return jnp.mean((model(xs) - ys) ** 2)


def descend(model, optimizer, xs, ys):
    value, grads = gs.value_and_grad(loss)(model, xs, ys)
    optimizer.update(model, grads)
    return value


def in_lanes(model, optimizer, xs, ys):
    """The mean of the gradients of single examples, each with a mask of its own."""
    grads = gs.vmap(gs.grad(loss), in_axes=(None, 0, 0))(model, xs, ys)
    optimizer.update(model, jax.tree.map(lambda grad: jnp.mean(grad, axis=0), grads))
    return model.steps.value


def in_a_loop(model, optimizer, xs, ys):
    return gs.scan(one_of_many, (model, optimizer), (xs, ys))[1]


def one_of_many(carry, example):
    x, y = example
    return carry, descend(*carry, x[None], y[None])


def in_a_branch(model, optimizer, xs, ys):
    return gs.cond(model.steps.value % 2 == 0, descend, count, model, optimizer, xs, ys)


def count(model, optimizer, xs, ys):
    model.steps.value = model.steps.value + 1
    return jnp.float32(0.0)


STEPS_OF = {
    "jit": descend,
    "jit of lanes": in_lanes,
    "jit of a loop": in_a_loop,
    "eager": descend,
    "eager lanes": in_lanes,
    "eager loop": in_a_loop,
    "eager branch": in_a_branch,
}


def data_of(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def train(step, seed):
    """The losses, and all values, of a model that is trained for a few steps with dropout."""
    model = Model(seed)
    optimizer = gs.optim.Optimizer(model, optax.adam, hyperparams={"learning_rate": 1e-2})
    with gs.environ.context(fit=True):
        losses = [np.asarray(step(model, optimizer, XS, YS)) for _ in range(STEPS)]
    return losses, [data_of(leaf) for leaf in jax.tree.leaves(gs.state((model, optimizer)))]


@pytest.mark.parametrize("name", STEPS_OF)
def test_twelve_models_are_trained_as_one_after_the_other(name):
    step = STEPS_OF[name]
    if name.startswith("jit"):
        step = gs.jit(step)  # traced for the first time by all threads at once
    results = together(lambda number: train(step, number))
    for number in range(THREADS):
        losses, values = train(step, number)
        np.testing.assert_array_equal(results[number][0], losses)
        for found, expected in zip(results[number][1], values, strict=True):
            np.testing.assert_array_equal(found, expected)


PREDICTIONS = {
    "jit of an argument": lambda model: gs.jit(lambda model, x: model.layer(x)),
    "jit of the closure": lambda model: (lambda compiled: lambda _, x: compiled(x))(gs.jit(lambda x: model.layer(x))),
    "vmap": lambda model: gs.vmap(lambda model, x: model.layer(x), in_axes=(None, 0)),
    "grad": lambda model: lambda model, x: gs.grad(lambda x: jnp.sum(model.layer(x)))(x),
    "scan": lambda model: lambda model, x: gs.for_loop(lambda x: model.layer(x), x),
    "cond": lambda model: lambda model, x: gs.cond(x[0, 0] > 0, model.layer, lambda x: jnp.zeros((4, 2)), x),
    "split and merge": lambda model: lambda model, x: gs.merge(*gs.split(model)).layer(x),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_twelve_threads_share_a_model_that_they_read(name):
    model = Model(0)
    predict = PREDICTIONS[name](model)
    results = together(lambda number: [np.asarray(predict(model, XS + number)) for _ in range(5)])
    for number, found in enumerate(results):
        expected = np.asarray(predict(model, XS + number))
        assert all((each == expected).all() for each in found)
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(gs.state(model)))


def add_one(state):
    state.value = state.value + 1


WRITERS = {
    "eager": lambda state: add_one(state),
    "jit": gs.jit(add_one),
    "vmap": lambda state: gs.vmap(lambda: add_one(state), axis_size=2)(),
    "grad": lambda state: gs.grad(lambda x: (add_one(state), x)[1])(1.0),
    "for_loop": lambda state: gs.for_loop(lambda: add_one(state), length=1),
    "cond": lambda state: gs.cond(True, lambda: add_one(state), lambda: None),
}


@pytest.mark.parametrize("other", WRITERS)
@pytest.mark.parametrize("one", WRITERS)
def test_two_ways_of_writing_one_state_interleave_and_corrupt_nothing(one, other):
    state = gs.State(jnp.float32(0.0))
    write = [WRITERS[one], WRITERS[other]]

    def work(number):
        for _ in range(5):
            write[number % 2](state)
            assert current_frame() is None
            assert not isinstance(state.value, jax.core.Tracer)

    together(work)
    # Increments may be lost between reading and writing, as with any variable that threads share; none is made up.
    assert float(state.value) in range(1, 5 * THREADS + 1)
    write[0](state)


def test_a_failure_in_one_thread_is_none_of_the_others():
    state = gs.State(jnp.float32(1.0))

    @gs.jit
    def double(x, other):
        state.value = state.value * 2
        return gs.vmap(lambda x, other: x + other)(x, other) + (x + other)

    def work(number):
        for _ in range(5):
            if number % 3 == 0:
                with pytest.raises(gs.errors.AxisError, match="lanes"):
                    double(jnp.ones(2), jnp.ones(3))
            else:
                assert double(jnp.ones(2), jnp.zeros(2)).tolist() == [2.0, 2.0]
            assert current_frame() is None

    together(work)
    assert float(state.value) in [2.0**count for count in range(1, 5 * THREADS)]


def test_settings_of_one_thread_are_not_those_of_another():
    dropout = gs.nn.Dropout(0.5, rng=gs.random.RandomState(0))
    compiled = gs.jit(lambda x: dropout(x))

    def work(number):
        with gs.environ.context(fit=number % 2 == 0):
            return [tuple(compiled(jnp.ones(32)).tolist()) for _ in range(5)]

    results = together(work)
    drawn = [mask for found in results[::2] for mask in found]
    assert len(set(drawn)) == len(drawn)
    assert {mask for found in results[1::2] for mask in found} == {(1.0,) * 32}
