"""What `jit` needs and keeps: the memory of one call, what many calls leave behind, and what outlives a model."""

import gc
import weakref

import jax
import jax.numpy as jnp
import optax
import pytest

import graphstate as gs

pytestmark = pytest.mark.no_leak_check("JAX's caches are among what might keep something")

WIDTH = 16


class Layer(gs.Node):
    def __init__(self):
        self.weight, self.bias = gs.ParamState(jnp.eye(WIDTH)), gs.ParamState(jnp.zeros(WIDTH))
        self.name = "layer"

    def __call__(self, x):
        return jnp.tanh(x @ self.weight.value + self.bias.value)


class Model(gs.Node):
    def __init__(self):
        self.layers = [Layer() for _ in range(2)]
        self.first = self.layers[0]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


X = jnp.linspace(-1.0, 1.0, WIDTH)


def loss_of(predict, x):
    return jnp.mean((predict(x) - 0.5) ** 2)


# One call


def predict_pure(params, x):
    for layer in params:
        x = jnp.tanh(x @ layer["weight"] + layer["bias"])
    return x


def gradient_pure(params, x):
    return jax.grad(lambda params: loss_of(lambda x: predict_pure(params, x), x))(params)


def descend_pure(params, x):
    return jax.tree.map(lambda param, grad: param - 0.1 * grad, params, gradient_pure(params, x))


def adapt_pure(kept, x):
    params, moments = kept
    changes, moments = optax.adam(0.1).update(gradient_pure(params, x), moments, params)
    return optax.apply_updates(params, changes), moments


def descend(model, x):
    grads = gs.grad(loss_of)(model, x)
    for path, param in gs.states(model, gs.ParamState).items():
        param.value -= 0.1 * grads[path]


def adapt(model, optimizer, x):
    optimizer.update(model, gs.grad(loss_of)(model, x))


def bytes_of(compiled, *args):
    """The arguments of a call, its results in buffers of their own, and what lies in between."""
    with jax.numpy_dtype_promotion("standard"):  # for adam of optax as it is
        needed = compiled.lower(*args).compile().memory_analysis()
    results = needed.output_size_in_bytes - needed.alias_size_in_bytes
    return needed.argument_size_in_bytes + results + needed.temp_size_in_bytes


def descents(donates):
    """The same step passed, closed over, and by hand: each a compiled function and its arguments."""
    model, options = Model(), {"donate_states": True} if donates else {}
    params = [gs.state(layer).to_dict() for layer in model.layers]
    return (
        (gs.jit(descend, **options), model, X),
        (gs.jit(lambda x: descend(model, x), **options), X),
        (jax.jit(descend_pure, donate_argnums=0 if donates else ()), params, X),
    )


def adams(donates):
    model, options = Model(), {"donate_states": True} if donates else {}
    optimizer = gs.optim.Optimizer(model, optax.adam(0.1))
    params = [gs.state(layer).to_dict() for layer in model.layers]
    return (
        (gs.jit(adapt, **options), model, optimizer, X),
        (gs.jit(lambda x: adapt(model, optimizer, x), **options), X),
        (jax.jit(adapt_pure, donate_argnums=0 if donates else ()), (params, optax.adam(0.1).init(params)), X),
    )


@pytest.mark.parametrize("steps", [descents, adams])
def test_a_donating_step_needs_the_memory_of_one_donated_by_hand(steps):
    passed, closed_over, by_hand = (bytes_of(*step) for step in steps(donates=True))
    assert passed <= by_hand
    assert closed_over <= by_hand


@pytest.mark.parametrize("steps", [descents, adams])
def test_a_step_needs_no_more_memory_than_a_pure_one(steps):
    passed, closed_over, pure = (bytes_of(*step) for step in steps(donates=False))
    assert passed <= pure
    assert closed_over <= pure


@pytest.mark.parametrize("steps", [descents, adams])
def test_donation_saves_memory(steps):
    (kept, *_), (donated, *_) = steps(donates=False), steps(donates=True)
    assert bytes_of(*donated) < bytes_of(*kept)


# Many calls


def passed():
    model, step = Model(), gs.jit(descend)
    return lambda: step(model, X)


def closed_over():
    model = Model()
    step = gs.jit(lambda x: descend(model, x))
    return lambda: step(X)


def donating():
    model, step = Model(), gs.jit(descend, donate_states=True)
    return lambda: step(model, X)


def mapped():
    models, step = gs.vmap(Model, axis_size=2)(), gs.jit(gs.vmap(descend, in_axes=(0, None)))
    return lambda: step(models, X)


def with_an_optimizer():
    model, step = Model(), gs.jit(adapt)
    optimizer = gs.optim.Optimizer(model, optax.adam(0.1))
    return lambda: step(model, optimizer, X)


def scanned():
    model = Model()
    step = gs.jit(lambda: gs.scan(lambda x, _: (model(x), None), X, length=2))
    return lambda: step()


SLACK = 100
"""Objects that come and go by themselves, of which the collector finds some sooner and some later."""


def counted():
    gc.collect()
    return len(gc.get_objects()), len(jax.live_arrays())


BUILDS = [passed, closed_over, donating, mapped, with_an_optimizer, scanned]


@pytest.mark.parametrize("build", BUILDS)
def test_two_thousand_calls_with_changing_values_leave_nothing_behind(build):
    call = build()
    for _ in range(20):
        call()
    objects, arrays = counted()
    for _ in range(2000):
        call()
    after = counted()
    assert after[0] - objects < SLACK
    assert after[1] == arrays


def test_python_numbers_that_change_leave_nothing_behind():
    model, scale = Model(), gs.jit(lambda model, factor: model(factor * X))
    for number in range(20):
        scale(model, number * 1.0)
    objects, arrays = counted()
    for number in range(2000):
        scale(model, number * 1.0)
    after = counted()
    assert after[0] - objects < SLACK
    assert after[1] == arrays


def test_models_that_come_and_go_leave_a_bounded_trail():
    step = gs.jit(lambda layer, x: layer(x))
    layer = Layer()

    def pass_on(number):
        for _ in range(number):
            step(gs.clone(layer), X)

    pass_on(1100)  # a function remembers where the last thousand led, though none of their States
    objects, arrays = counted()
    pass_on(500)
    after = counted()
    assert after[0] - objects < SLACK
    assert after[1] == arrays


# What outlives a model


def references(node):
    """Weak ones to a Node, those in it, its States, and their arrays."""
    states = gs.states(node).values()
    arrays = [leaf for state in states for leaf in jax.tree.leaves(state.value)]
    return [weakref.ref(each) for each in (node, *gs.nodes(node).values(), *states, *arrays)]


def alive(refs):
    gc.collect()
    return [type(ref()).__name__ for ref in refs if ref() is not None]


COMPILED = gs.jit(lambda model, x: model(x))
TRAINED = gs.jit(descend)
ADAPTED = gs.jit(adapt)
MAPPED = gs.vmap(lambda model, x: model(x), in_axes=(None, 0))
DIFFERENTIATED = gs.grad(lambda model, x: jnp.sum(model(x)))
TWICE = gs.jit(gs.grad(lambda model, x: jnp.sum(model(x))))


def advance(carry, _):
    return carry, jnp.sum(carry(X))


def is_positive(model):
    return model.first.bias.value[0] >= 0


USES = {
    "jit": lambda model: COMPILED(model, X),
    "jit of a step": lambda model: TRAINED(model, X),
    "jit, closed over": lambda model: gs.jit(lambda x: model(x))(X),
    "jit of a method": lambda model: gs.jit(model.__call__)(X),
    "jit of the Node": lambda model: gs.jit(model)(X),
    "vmap": lambda model: MAPPED(model, X[None]),
    "vmap, closed over": lambda model: gs.vmap(lambda x: model(x))(X[None]),
    "grad": lambda model: DIFFERENTIATED(model, X),
    "jit of grad": lambda model: TWICE(model, X),
    "grad, closed over": lambda model: gs.grad(lambda: jnp.sum(model(X)), states=gs.states(model))(),
    "scan": lambda model: gs.scan(advance, model, length=2),
    "scan, closed over": lambda model: gs.scan(lambda x, _: (model(x), None), X, length=2),
    "cond": lambda model: gs.cond(is_positive(model), lambda model: model(X), lambda model: -model(X), model),
    "eval_shape": lambda model: gs.eval_shape(lambda model: model(X), model),
    "split, merge and clone": lambda model: gs.clone(gs.merge(*gs.split(model))),
    "stack": lambda model: gs.take(gs.stack([model, Model()]), 0),
    "explain": lambda model: str(gs.transform.explain(gs.jit(lambda x: model(x)))),
}


@pytest.mark.parametrize("use", USES)
def test_a_dropped_model_is_freed(use):
    def run():
        model = Model()
        refs = references(model)
        for _ in range(3):
            USES[use](model)
        return refs + references(model)

    assert alive(run()) == []


def test_a_dropped_optimizer_is_freed():
    def run():
        model = Model()
        optimizer = gs.optim.Optimizer(model, optax.adam(0.1))
        refs = references(model) + references(optimizer)
        for _ in range(3):
            ADAPTED(model, optimizer, X)
        return refs + references(model) + references(optimizer)

    assert alive(run()) == []


def test_a_compiled_function_that_is_kept_keeps_no_arguments():
    kept = gs.jit(lambda model, x: model(x))

    def run():
        model = Model()
        refs = references(model)
        kept(model, X)
        return refs

    assert alive(run()) == []
    assert kept(Model(), X).shape == (WIDTH,)


def test_old_values_of_a_state_are_freed():
    model, step = Model(), gs.jit(descend)
    for _ in range(3):
        step(model, X)
    old = [weakref.ref(state.value) for state in gs.states(model).values()]
    step(model, X)
    assert alive(old) == []
