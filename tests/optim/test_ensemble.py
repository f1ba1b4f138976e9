"""The law of ensembles: what `jit(vmap(step))` does to the members, a loop over the members does to each."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_array_equal

import graphstate as gs
from graphstate.errors import BatchAxisError, TraceContextError, UpdateError
from graphstate.random import RandomState

pytestmark = pytest.mark.no_leak_check("compares many compiled and eager steps")

MEMBERS, STEPS, EPSILON = 3, 3, float(np.finfo(np.float32).eps)


class Net(gs.Node):
    """Two layers and dropout between them, all drawn from one stream of its own."""

    def __init__(self, key: jax.Array, rate: float) -> None:
        rng = RandomState(key)
        self.layers = [gs.nn.Linear(5, 8, rng=rng), gs.nn.Linear(8, 2, rng=rng)]
        self.dropout = gs.nn.Dropout(rate, rng=rng)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layers[1](self.dropout(gs.nn.relu(self.layers[0](x))))


def clipped_adam(learning_rate: jax.Array, max_norm: jax.Array) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(max_norm), optax.adam(learning_rate))


HYPERPARAMS = {"learning_rate": 1e-2, "max_norm": 0.05}

OPTIMIZERS: dict[str, Callable[[Net], gs.optim.Optimizer]] = {
    "sgd": lambda model: gs.optim.Optimizer(model, optax.sgd(1e-1)),
    "adam": lambda model: gs.optim.Optimizer(model, optax.adam, hyperparams={"learning_rate": 1e-2}),
    "clipped": lambda model: gs.optim.Optimizer(model, clipped_adam, hyperparams=HYPERPARAMS),
    "clipped_raw": lambda model: gs.optim.Optimizer(model, RAW),
    "lamb": lambda model: gs.optim.Optimizer(model, optax.lamb, hyperparams={"learning_rate": 1e-2}),
}
RAW = clipped_adam(1e-2, 0.05)


def loss(model: Net, x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


def step(model: Net, optimizer: gs.optim.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
    value, grads = gs.value_and_grad(loss)(model, x, y)
    optimizer.update(model, grads)
    return value


def keys() -> jax.Array:
    return jax.random.split(jax.random.key(0), MEMBERS)


def batches() -> list[tuple[jax.Array, jax.Array]]:
    made = [jax.random.split(jax.random.fold_in(jax.random.key(1), step)) for step in range(STEPS)]
    return [(jax.random.normal(one, (6, 5)), jax.random.randint(two, (6,), 0, 2)) for one, two in made]


def assert_same_to_rounding(got: Any, wanted: Any) -> None:
    """Keys and whole numbers are equal; floats differ by less than 64 eps of the largest entry."""
    for left, right in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        if jnp.issubdtype(left.dtype, jnp.inexact):
            bound = 64 * EPSILON * float(jnp.abs(right).max())
            assert float(jnp.abs(left - right).max()) <= bound
        else:
            assert (left == right).all()


@pytest.mark.parametrize(("name", "rate"), [("clipped", 0.0), *((name, 0.4) for name in OPTIMIZERS)])
def test_members_trained_in_one_call_equal_those_trained_one_by_one(name: str, rate: float) -> None:
    def make(key: jax.Array) -> tuple[Net, gs.optim.Optimizer]:
        model = Net(key, rate)
        return model, OPTIMIZERS[name](model)

    alone = [make(key) for key in keys()]
    together = gs.vmap(make)(keys())
    train = gs.jit(gs.vmap(step, in_axes=(0, 0, None, None)))
    train_one = gs.jit(step)
    with gs.environ.context(fit=True):
        for x, y in batches():
            losses = train(*together, x, y)
            assert_same_to_rounding(losses, jnp.stack([train_one(*member, x, y) for member in alone]))
    wanted = [gs.state(member) for member in alone]
    assert_same_to_rounding(gs.state(together), jax.tree.map(lambda *values: jnp.stack(values), *wanted))


def test_steps_of_one_member_are_the_same_compiled_and_eager() -> None:
    compiled, eager = Net(keys()[0], 0.4), Net(keys()[0], 0.4)
    optimizers = OPTIMIZERS["clipped"](compiled), OPTIMIZERS["clipped"](eager)
    train = gs.jit(step)
    with gs.environ.context(fit=True):
        for x, y in batches():
            assert_same_to_rounding(train(compiled, optimizers[0], x, y), step(eager, optimizers[1], x, y))
    assert_same_to_rounding(gs.state((compiled, optimizers[0])), gs.state((eager, optimizers[1])))


def test_a_compiled_step_may_only_refer_to_model_and_optimizer() -> None:
    referred, given = Net(keys()[0], 0.4), Net(keys()[0], 0.4)
    optimizers = OPTIMIZERS["adam"](referred), OPTIMIZERS["adam"](given)
    train, train_given = gs.jit(lambda x, y: step(referred, optimizers[0], x, y)), gs.jit(step)
    with gs.environ.context(fit=True):
        for x, y in batches():
            assert_same_to_rounding(train(x, y), train_given(given, optimizers[1], x, y))
    assert_same_to_rounding(gs.state((referred, optimizers[0])), gs.state((given, optimizers[1])))


def test_the_norm_of_one_member_is_no_business_of_another() -> None:
    """Without an optimizer for each member, clipping by the norm of all would slow every one of them."""

    def make(scale: jax.Array) -> tuple[gs.Node, gs.optim.Optimizer]:
        model = gs.Node()
        model.weight = gs.ParamState(jnp.zeros(2))
        model.scale = gs.State(scale)
        return model, gs.optim.Optimizer(model, optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0)))

    def move(model: gs.Node, optimizer: gs.optim.Optimizer) -> None:
        optimizer.update(model, {"weight": jnp.full(2, model.scale.value)})

    models, optimizers = gs.vmap(make)(jnp.array([0.1, 100.0]))
    gs.vmap(move)(models, optimizers)
    assert_same_to_rounding(models.weight.value, -jnp.array([[0.1, 0.1], [0.5**0.5, 0.5**0.5]]))


def test_stacked_members_are_what_a_mapped_constructor_makes() -> None:
    def make(key: jax.Array) -> tuple[Net, gs.optim.Optimizer]:
        model = Net(key, 0.4)
        return model, OPTIMIZERS["clipped"](model)

    built, stacked = gs.vmap(make)(keys()), gs.stack([make(key) for key in keys()])
    assert gs.graph.diff(built, stacked) == []
    assert_same_to_rounding(gs.state(built), gs.state(stacked))


def test_a_member_that_was_taken_out_goes_on_as_it_would_have() -> None:
    def make(key: jax.Array) -> tuple[Net, gs.optim.Optimizer]:
        model = Net(key, 0.4)
        return model, OPTIMIZERS["clipped"](model)

    together = gs.vmap(make)(keys())
    train, train_one = gs.jit(gs.vmap(step, in_axes=(0, 0, None, None))), gs.jit(step)
    (x, y), *rest = batches()
    with gs.environ.context(fit=True):
        train(*together, x, y)
        member = gs.take(together, 1)
        for x, y in rest:
            assert_same_to_rounding(train_one(*member, x, y), train(*together, x, y)[1])


def test_each_member_may_have_hyperparameters_of_its_own() -> None:
    def make(key: jax.Array, rate: jax.Array) -> tuple[Net, gs.optim.Optimizer]:
        model = Net(key, 0.0)
        return model, gs.optim.Optimizer(model, optax.adam, hyperparams={"learning_rate": rate})

    rates = jnp.array([1e-1, 1e-2, 0.0])
    together = gs.vmap(make)(keys(), rates)
    first = gs.state(together[0])
    x, y = batches()[0]
    gs.jit(gs.vmap(step, in_axes=(0, 0, None, None)))(*together, x, y)
    assert_array_equal(together[1].hyperparams["learning_rate"].value, rates)
    for index, (key, rate) in enumerate(zip(keys(), rates, strict=True)):
        member = make(key, rate)
        step(*member, x, y)
        assert_same_to_rounding(gs.state(gs.take(together, index)), gs.state(member))
    assert_array_equal(together[0].layers[0].weight.value[2], first["layers/0/weight"][2])


def test_hyperparameters_are_written_for_all_members_without_tracing_again() -> None:
    traces = []

    def counted(*arguments: Any) -> jax.Array:
        traces.append(None)
        return step(*arguments)

    def make(key: jax.Array) -> tuple[Net, gs.optim.Optimizer]:
        model = Net(key, 0.0)
        return model, OPTIMIZERS["clipped"](model)

    models, optimizers = gs.vmap(make)(keys())
    train = gs.jit(gs.vmap(counted, in_axes=(0, 0, None, None)))
    for x, y in batches():
        train(models, optimizers, x, y)
        optimizers.hyperparams["learning_rate"].value *= 0.5
    assert len(traces) == 1
    before = models.layers[0].weight.value
    optimizers.hyperparams["learning_rate"].value = jnp.zeros(MEMBERS)
    train(models, optimizers, *batches()[0])
    assert_array_equal(models.layers[0].weight.value, before)


def test_a_loop_that_is_compiled_carries_the_optimizer() -> None:
    pairs = []
    for _ in range(2):
        model = Net(keys()[0], 0.4)
        pairs.append((model, OPTIMIZERS["clipped"](model)))
    (looped, optimizer), (eager, other) = pairs
    xs, ys = map(jnp.stack, zip(*batches(), strict=True))
    with gs.environ.context(fit=True):
        losses = gs.for_loop(lambda x, y: step(looped, optimizer, x, y), xs, ys)
        wanted = jnp.stack([step(eager, other, x, y) for x, y in batches()])
    assert_same_to_rounding(losses, wanted)
    assert_same_to_rounding(gs.state((looped, optimizer)), gs.state((eager, other)))


# Errors


def test_one_optimizer_for_many_models_is_an_error_with_the_path_of_its_state() -> None:
    models = gs.vmap(lambda key: Net(key, 0.0))(keys())
    optimizer = OPTIMIZERS["adam"](gs.take(models, 0))
    before = gs.state((models, optimizer))
    with pytest.raises(BatchAxisError, match=r"opt_state/0/mu/layers/0/"):
        gs.vmap(step, in_axes=(0, None, None, None))(models, optimizer, *batches()[0])
    after = gs.state((models, optimizer))
    assert all(map(lambda one, two: one is two, jax.tree.leaves(after), jax.tree.leaves(before)))


def test_a_transformation_made_from_a_traced_value_is_an_error_that_names_hyperparams() -> None:
    def make(key: jax.Array, rate: jax.Array) -> tuple[Net, gs.optim.Optimizer]:
        model = Net(key, 0.0)
        return model, gs.optim.Optimizer(model, optax.adam(rate))

    together = gs.vmap(make)(keys(), jnp.array([1e-1, 1e-2, 1e-3]))
    for train in (gs.vmap(step, in_axes=(0, 0, None, None)), gs.jit(gs.vmap(step, in_axes=(0, 0, None, None)))):
        with pytest.raises(TraceContextError, match=r"holds a tracer of a trace that has ended \(\w+\).*hyperparams="):
            train(*together, *batches()[0])


def test_wrong_paths_are_an_error_inside_of_transforms_too_and_change_nothing() -> None:
    def wrong(model: Net, optimizer: gs.optim.Optimizer) -> None:
        optimizer.update(model, {"layers": {0: {"bias": jnp.ones(8)}}})

    model = Net(keys()[0], 0.0)
    optimizer = OPTIMIZERS["adam"](model)
    before = gs.state((model, optimizer))
    with pytest.raises(UpdateError, match=r"`grads` lacks layers/0/weight"):
        gs.jit(wrong)(model, optimizer)
    after = gs.state((model, optimizer))
    assert all(map(lambda one, two: one is two, jax.tree.leaves(after), jax.tree.leaves(before)))
