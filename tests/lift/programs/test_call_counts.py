"""How much Python a warm call of `jit` runs: a fixed number of functions, however many States there are.

A clock would tell the same, on a quiet machine. What runs once for each State shows here as a count that grows.
"""

import jax.numpy as jnp
import optax
import pytest

import graphstate as gs
from tests.counting import calls_of

pytestmark = pytest.mark.no_leak_check("without JAX's caches no call is warm")

DEPTHS = (2, 20, 200)


class Layer(gs.Node):
    def __init__(self):
        self.scale, self.shift = gs.ParamState(jnp.ones(2)), gs.ParamState(jnp.zeros(2))

    def __call__(self, x):
        return x * self.scale.value + self.shift.value


class Model(gs.Node):
    """Layers side by side, since XLA takes minutes for the gradient of a long model of such small ones."""

    def __init__(self, depth):
        self.layers = [Layer() for _ in range(depth)]
        self.sizes = {"depth": depth}

    def __call__(self, x):
        return sum(layer(x) for layer in self.layers)


def loss(model, x):
    return jnp.mean(model(x) ** 2)


def descend(model, x):
    value, grads = gs.value_and_grad(loss)(model, x)
    for path, param in gs.states(model, gs.ParamState).items():
        param.value -= 0.1 * grads[path]
    return value


def grow(model):
    """Reads and writes every State, but compiles in no time: XLA takes minutes for a gradient by so many."""
    for layer in model.layers:
        layer.scale.value += 1
        layer.shift.value += 1


# Each builds a model and returns a compiled call, and what it is called with


def forward_passed(depth):
    return gs.jit(lambda model, x: model(x)), (Model(depth), jnp.ones(2))


def forward_closed_over(depth):
    model = Model(depth)
    return gs.jit(lambda x: model(x)), (jnp.ones(2),)


def growth_passed(depth):
    return gs.jit(grow), (Model(depth),)


def growth_closed_over(depth):
    model = Model(depth)
    return gs.jit(lambda: grow(model)), ()


def descent_passed(depth):
    return gs.jit(descend), (Model(depth), jnp.ones(2))


def descent_closed_over(depth):
    model = Model(depth)
    return gs.jit(lambda x: descend(model, x)), (jnp.ones(2),)


def mapped_passed(depth):
    models = gs.vmap(lambda: Model(depth), axis_size=2)()
    return gs.jit(gs.vmap(descend)), (models, jnp.ones((2, 2)))


def mapped_closed_over(depth):
    models = gs.vmap(lambda: Model(depth), axis_size=2)()
    return gs.jit(gs.vmap(lambda x: descend(models, x), state_in_axes=...)), (jnp.ones((2, 2)),)


def donated(depth):
    return gs.jit(descend, donate_states=True), (Model(depth), jnp.ones(2))


def adam_passed(depth):
    model = Model(depth)

    @gs.jit
    def step(model, optimizer, x):
        optimizer.update(model, gs.grad(loss)(model, x))

    return step, (model, gs.optim.Optimizer(model, optax.adam(0.1)), jnp.ones(2))


def adam_closed_over(depth):
    model = Model(depth)
    optimizer = gs.optim.Optimizer(model, optax.adam(0.1))

    @gs.jit
    def step(x):
        optimizer.update(model, gs.grad(loss)(model, x))

    return step, (jnp.ones(2),)


TRAINING = {
    descent_passed: 13,
    descent_closed_over: 14,
    mapped_passed: 16,
    mapped_closed_over: 17,
    adam_passed: 19,
    adam_closed_over: 18,
}
MOST = {forward_passed: 11, forward_closed_over: 11, growth_passed: 13, growth_closed_over: 14, **TRAINING}
"""The functions written in Python that a warm call runs at most. Lower it when it can be; raise it for a reason."""


def warm(build, depth):
    """A call that has found its program, with values that it has written itself."""
    call, args = build(depth)
    for _ in range(4):
        call(*args)
    return lambda: call(*args)


@pytest.mark.parametrize("build", [forward_passed, forward_closed_over, growth_passed, growth_closed_over])
def test_a_warm_call_runs_no_function_for_each_state(build):
    assert len({calls_of(warm(build, depth), builtins=True) for depth in DEPTHS}) == 1


@pytest.mark.parametrize("build", TRAINING)
def test_nor_does_a_warm_train_step(build):
    assert len({calls_of(warm(build, depth), builtins=True) for depth in (2, 20)}) == 1


@pytest.mark.parametrize("build", MOST)
def test_a_warm_call_runs_few_functions(build):
    assert calls_of(warm(build, 2)) <= MOST[build]


def test_a_donating_call_runs_python_in_proportion_to_the_states():
    few, more, many = (calls_of(warm(donated, depth)) for depth in (2, 4, 8))
    assert many - more == 2 * (more - few)


def test_the_number_of_calls_before_adds_nothing():
    call = warm(descent_passed, 2)
    first = calls_of(call, builtins=True)
    for _ in range(500):
        call()
    assert calls_of(call, builtins=True) == first


def test_other_models_alive_add_nothing():
    step = gs.jit(descend)
    models = [Model(2) for _ in range(50)]

    def call():
        step(models[0], jnp.ones(2))

    for _ in range(4):
        call()
    first = calls_of(call, builtins=True)
    for model in models:
        for _ in range(3):
            step(model, jnp.ones(2))
    call()
    assert calls_of(call, builtins=True) == first


def test_a_change_of_structure_costs_a_walk_once():
    call, (model, x) = forward_passed(20)
    for _ in range(4):
        call(model, x)
    first = calls_of(call, model, x)
    model.layers[0].scale = model.layers[1].scale
    call(model, x)
    model.layers[0].scale = gs.ParamState(jnp.ones(2))
    walked = calls_of(call, model, x)
    call(model, x)
    assert walked > first
    assert calls_of(call, model, x) == first
