"""What a call must not cost: walks, copies, and traces that nobody asked for; counted, not timed."""

import cProfile
import inspect
import pstats

import jax
import jax.numpy as jnp
import optax
import pytest

import graphstate as gs
from graphstate.graph import _flatten

pytestmark = pytest.mark.no_leak_check("counts traces")


class Layer(gs.Node):
    def __init__(self, size=4):
        self.weight = gs.ParamState(jnp.eye(size))
        self.bias = gs.ParamState(jnp.zeros(size))
        self.number, self.name = 3, "layer"

    def __call__(self, x):
        return x @ self.weight.value + self.bias.value


class Model(gs.Node):
    def __init__(self, depth=3):
        self.layers = [Layer() for _ in range(depth)]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def counted(function):
    """A function, and the list of its runs."""
    runs = []

    def run(*args, **kwargs):
        runs.append(args)
        return function(*args, **kwargs)

    return run, runs


def test_a_warm_call_walks_no_attributes(monkeypatch):
    model, x = Model(), jnp.ones(4)
    calls = [gs.jit(lambda model, x: model(x)), gs.jit(lambda _, x: model(x))]
    for call in calls:
        call(model, x)
        call(model, x)

    def walk(self, root):
        raise AssertionError("walked")

    monkeypatch.setattr(_flatten._Walk, "run", walk)
    for call in calls:
        model.layers[0].bias.value = model.layers[0].bias.value + 1
        assert (call(model, x) == model(x)).all()


def python_calls(function, *args):
    """How many calls of Python functions one call makes."""
    profile = cProfile.Profile()
    profile.runcall(function, *args)
    return pstats.Stats(profile).total_calls


def test_a_warm_call_makes_few_python_calls_for_each_state():
    def cost(depth):
        model, call = Model(depth), gs.jit(lambda model, x: model(x))
        for _ in range(3):
            call(model, jnp.ones(4))
        return python_calls(call, model, jnp.ones(4))

    few, many = cost(2), cost(52)
    assert (many - few) / (50 * 2) < 5


def test_no_transform_has_a_mode():
    flags = {"graph", "graph_updates", "propagate_state", "compat", "mode"}
    for name in gs.transform.__all__:
        parameters = inspect.signature(getattr(gs.transform, name)).parameters
        assert not flags & parameters.keys(), name


def test_a_function_on_each_instance_does_not_retrace():
    def make():
        layer = Layer()
        layer.activation = jnp.tanh
        layer.method = layer.__call__
        return layer

    step, runs = counted(lambda layer, x: layer.activation(layer.method(x)))
    compiled = gs.jit(step)
    for _ in range(3):
        compiled(make(), jnp.ones(4))
    assert len(runs) == 1


def test_an_optimizer_made_anew_does_not_retrace():
    def update(model, optimizer, x):
        optimizer.update(model, gs.grad(lambda model: jnp.sum(model(x)))(model))

    step, runs = counted(update)
    compiled = gs.jit(step)
    for rate in (1e-3, 1e-2, 1e-2):
        model = Model()
        compiled(model, gs.optim.Optimizer(model, optax.adam, hyperparams={"learning_rate": rate}), jnp.ones(4))
    assert len(runs) == 1


@pytest.mark.parametrize("transform", ["scan", "for_loop", "cond", "switch", "while_loop", "fori_loop", "map"])
def test_eager_control_flow_compiles_once(transform):
    total = gs.State(jnp.float32(0.0))

    def add(x):
        total.value = total.value + 1
        return x + 1

    body, runs = counted(add)
    pair, is_small, other = (lambda carry, x: (body(carry), x)), (lambda x: x < 3.0), (lambda x: x)
    indexed = lambda _, x: body(x)  # noqa: E731, one function object for all calls
    call = {
        "scan": lambda: gs.scan(pair, 0.0, jnp.ones(3)),
        "for_loop": lambda: gs.for_loop(body, jnp.ones(3)),
        "cond": lambda: gs.cond(True, body, other, 1.0),
        "switch": lambda: gs.switch(0, [body, other], 1.0),
        "while_loop": lambda: gs.while_loop(is_small, body, 0.0),
        "fori_loop": lambda: gs.fori_loop(0, 3, indexed, 0.0),
        "map": lambda: gs.map(body, jnp.ones(3)),
    }[transform]
    call()
    first = len(runs)
    for _ in range(3):
        call()
    assert len(runs) == first
    assert total.value > 3


def test_what_is_only_read_stays_the_very_array():
    model, count = Model(), gs.State(jnp.int32(0))
    before = [state.value for state in gs.states(model).values()]

    @gs.jit
    def predict(model, x):
        count.value = count.value + 1
        return model(x)

    for _ in range(2):
        predict(model, jnp.ones(4))
    assert all(state.value is value for state, value in zip(gs.states(model).values(), before, strict=True))
    assert count.value == 2


def test_only_what_is_written_leaves_the_program():
    model = Model()

    def function(model, x):
        model.layers[1].bias.value = x
        return jnp.sum(model(x))

    shapes = [aval.shape for aval in jax.tree.leaves(gs.jit(function).lower(model, jnp.ones(4)).out_info)]
    assert shapes == [(), (4,)]
