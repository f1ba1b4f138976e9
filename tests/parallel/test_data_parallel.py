"""A step whose batch is divided gives what it gives on one device, and needs one sum over devices for its gradients."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import graphstate as gs
from graphstate.errors import ShardingError, StateTypeError
from graphstate.parallel import data_parallel, make_mesh, shard

GRID = make_mesh((2, 4), ("data", "model"))
X, Y = jnp.sin(jnp.arange(64.0)).reshape(16, 4), jnp.cos(jnp.arange(32.0)).reshape(16, 2)


class Model(gs.Node):
    def __init__(self):
        rng = gs.random.RandomState(0)
        self.up = gs.ParamState(rng.normal(size=(4, 8)), axes=("embed", "mlp"))
        self.down = gs.ParamState(rng.normal(size=(8, 2)), axes=("mlp", None))
        self.steps = gs.State(jnp.int32(0))

    def __call__(self, x):
        return jnp.tanh(x @ self.up.value) @ self.down.value


def step(model, x, y):
    loss, grads = gs.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
    gs.update(model, jax.tree.map(lambda p, g: p - 0.1 * g, gs.state(model, gs.ParamState), grads))
    model.steps.value = model.steps.value + 1
    return loss


@pytest.mark.no_leak_check("counts compilations")
@pytest.mark.parametrize("rules", [None, {"mlp": "model"}, {"embed": "data", "mlp": "model"}], ids=str)
@pytest.mark.parametrize("access", ["passed", "closed"])
def test_it_gives_what_one_device_gives_and_compiles_once(rules, access, caplog):
    model, twin = Model(), Model()
    train = data_parallel(step, GRID, rules=rules)
    if access == "closed":
        closed = data_parallel(lambda x, y: step(model, x, y), GRID, (0, 1), rules)
        train = lambda model, x, y: closed(x, y)  # noqa: E731
    losses = [train(model, X, Y), train(model, X, Y)]
    with jax.log_compiles(), jax.transfer_guard("disallow"):
        losses.append(train(model, X, Y))
    assert "Compiling jit(" not in caplog.text
    np.testing.assert_allclose(losses, [gs.jit(step)(twin, X, Y) for _ in range(3)], rtol=1e-5)
    for state, other in zip(gs.states(model).values(), gs.states(twin).values(), strict=True):
        np.testing.assert_allclose(state.value, other.value, rtol=1e-5, atol=1e-6)
        assert len(state.value.sharding.device_set) == 8
    names = rules or {}
    wanted = names.get("embed"), names.get("mlp")
    assert model.up.value.sharding.is_equivalent_to(jax.NamedSharding(GRID, P(*wanted)), 2)


def test_the_only_communication_is_one_sum_over_the_batch_of_all_gradients_together():
    train = data_parallel(step, make_mesh())
    compiled = train.lower(Model(), X, Y).compile()
    found = re.findall(
        r"= \S+ .*(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)\(", compiled.as_text()
    )
    assert found == ["all-reduce"]
    arguments = 4 * (32 + 16 + 1) + (X.nbytes + Y.nbytes) // 8
    assert compiled.memory_analysis().argument_size_in_bytes == arguments


class Dropping(gs.Node):
    def __init__(self):
        self.layers = [gs.nn.Linear(4, 8), gs.nn.Dropout(0.5, fit=True), gs.nn.Linear(8, 2)]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.no_leak_check("counts compilations")
def test_random_numbers_and_optimizers_stay_where_the_first_call_has_put_them(caplog):
    def train(model, optimizer, x, y):
        loss, grads = gs.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
        optimizer.update(model, grads)
        return loss

    def losses(train, *batch):
        gs.random.seed(1)
        model = Dropping()
        optimizer = gs.optim.Optimizer(model, optax.adam, hyperparams={"learning_rate": 1e-2})
        yield train(model, optimizer, *batch)
        caplog.clear()
        with jax.log_compiles(), jax.transfer_guard("disallow_explicit"):
            yield train(model, optimizer, *batch)
        assert "Compiling jit(" not in caplog.text

    mesh = make_mesh()
    together = list(losses(data_parallel(train, mesh, (2, 3)), *shard((X, Y), mesh)))
    np.testing.assert_allclose(together, list(losses(gs.jit(train), X, Y)), rtol=1e-4)


@pytest.mark.parametrize(
    ("batch", "by_name"), [(1, False), (1, True), (-1, False), ((0, 1), True)], ids=["position", "name", "end", "all"]
)
def test_a_batch_is_divided_however_it_is_passed(batch, by_name):
    program = data_parallel(lambda scale, x: x * scale, make_mesh(), batch)
    scale = jnp.ones((16, 1))
    output = program(scale, x=X) if by_name else program(scale, X)
    assert output.addressable_shards[0].data.shape == (2, 4)
    np.testing.assert_array_equal(output, X)


@pytest.mark.parametrize("batch", ["x", (0, "x"), 1.5])
def test_batches_are_told_by_numbers(batch):
    with pytest.raises(StateTypeError, match="by their positions which arguments are batches, but it is"):
        data_parallel(step, GRID, batch)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: data_parallel(step, GRID, 3)(Model(), X, Y),
            r"the arguments 3 of `step`.* 3 by position and 0 by name",
        ),
        (
            lambda: data_parallel(step, GRID, 0)(Model(), X, Y),
            r"the batch `model` of `step` is of type Model\. Pass its",
        ),
        (lambda: data_parallel(step, GRID)(Model(), X, y=Y[:3]), r"batch `y` of `step` by 2 devices .* \(3, 2\)"),
        (lambda: data_parallel(step, GRID)(Model(), X[:3], Y[:3]), r"batch `x` of `step` by 2 devices .* \(3, 4\)"),
        (lambda: data_parallel(step, GRID)(Model(), jnp.float32(1), Y), r"batch `x` of `step` .* its shape is \(\)"),
        (lambda: data_parallel(step, make_mesh(8), rules={"nothing": "model"}), "The rule for 'nothing' names 'model'"),
        (
            lambda: data_parallel(step, make_mesh(8), rules={"embed": "batch"})(Model(), X, Y),
            r"Axis 0 of `model.up` .* 8 devices .* 4 is no multiple of 8",
        ),
        (
            lambda: data_parallel(step, GRID)(Model(), jax.device_put(X, jax.devices()[1]), Y),
            r"`data_parallel` of `step` runs on 8 devices .* `x` was put somewhere else",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, text):
    with pytest.raises(ShardingError, match=text):
        call()
