"""What is saved comes back as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import graphstate as gs
from graphstate import checkpoint, nn
from graphstate.errors import DonatedError, StateTypeError, TraceContextError

from .kept import Pair, all_bits, array, bits, spread, tied


def held(value):
    return {"held": gs.State(value)}


VALUES = {
    **{
        dtype: lambda seed, dtype=dtype: held(jnp.asarray(array(seed, 2, 3, dtype=dtype)))
        for dtype in ("bfloat16", "float8_e4m3fn", "int4", "complex64", "uint8")
    },
    "bool": lambda seed: held(jnp.asarray([seed == 0, True])),
    "of NumPy": lambda seed: held(array(seed, 3, dtype="float64")),
    "empty": lambda seed: {"a": gs.State(jnp.zeros((0, 3))), "b": gs.State(jnp.asarray(array(seed, 2)))},
    "nothing but empty": lambda seed: held(jnp.zeros((2, 0))),
    "a scalar": lambda seed: held(jnp.asarray(np.float32(seed))),
    "a number of each kind": lambda seed: {
        "bool": gs.State(seed == 0),
        "int": gs.State(2**70 + seed),
        "float": gs.State(float("inf") if seed else -0.0),
        "complex": gs.State(complex(seed, 0.1)),
    },
    "weakly typed": lambda seed: {
        "scalar": gs.State(jnp.asarray(1.5 + seed)),
        "array": gs.State(jnp.broadcast_to(jnp.asarray(1 + seed), (3,))),
    },
    "None and an empty dict": lambda seed: {"none": gs.State(None), "dict": gs.State({})},
    "a pytree": lambda seed: held({"list": [jnp.asarray(array(seed, 2)), seed], "tuple": (array(seed, 1), None)}),
    "a namedtuple": lambda seed: held(Pair(jnp.asarray(array(seed, 2)), {"right": seed})),
    "a key": lambda seed: {"rng": gs.random.RandomState(seed), "rbg": gs.State(jax.random.key(seed, impl="rbg"))},
    "stacked keys": lambda seed: {"rng": gs.random.RandomState(jax.random.split(jax.random.key(seed), 3))},
    "shared States, a list and a cycle": tied,
    "odd keys": lambda seed: {
        key: gs.State(array(seed, number + 1)) for number, key in enumerate(["a/b", "a", ".", "..", "é \n'", 1, "v1"])
    },
    "names that meet": lambda seed: {"a": gs.State({"b": array(seed, 2)}), "a/b": gs.State(array(seed, 3))},
    "spread over devices": lambda seed: {
        "whole": gs.State(spread(array(seed, 3), 8)),
        "rows": gs.State(spread(array(seed, 16, 2), 8, "x")),
        "columns": gs.State(spread(array(seed, 2, 8, dtype="bfloat16"), 4, None, "x")),
        "keys": gs.random.RandomState(spread(jax.random.split(jax.random.key(seed), 8), 8, "x")),
        "empty": gs.State(spread(np.zeros((0, 8), np.float32), 8, None, "x")),
        "on the fourth": gs.State(jax.device_put(array(seed, 2), jax.devices()[3])),
    },
}


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_a_live_graph_gets_the_very_values_that_were_saved(make, tmp_path):
    saved, other = make(0), make(1)
    checkpoint.save(tmp_path / "it", saved)
    assert checkpoint.restore(tmp_path / "it", other) is other
    assert all_bits(other) == all_bits(saved)


def test_without_a_graph_the_values_come_as_nested_dicts(tmp_path):
    model = {
        "layers": [gs.State(array(0, 2)), gs.State(jnp.asarray(array(1, 2)))],
        "step": gs.State(3),
        "plain": array(2, 1),
    }
    checkpoint.save(tmp_path, model)
    found = checkpoint.restore(tmp_path)
    assert jax.tree.map(type, found) == {"layers": {0: np.ndarray, 1: np.ndarray}, "step": int, "plain": np.ndarray}
    np.testing.assert_array_equal(found["layers"][1], array(1, 2))
    other = {
        "layers": [gs.State(array(5, 2)), gs.State(jnp.asarray(array(6, 2)))],
        "step": gs.State(0),
        "plain": array(7, 1),
    }
    gs.update(other, found)
    assert all_bits(other) == all_bits(model)
    np.testing.assert_array_equal(other["plain"], array(2, 1))


def test_arrays_that_are_attributes_are_saved_too(tmp_path):
    saved, other = gs.Node(), gs.Node()
    saved.table, other.table = array(0, 4), array(1, 4)
    checkpoint.save(tmp_path, saved)
    checkpoint.restore(tmp_path, other)
    assert bits(other.table) == bits(saved.table)


@pytest.mark.no_leak_check("trains a model")
def test_a_run_that_is_restored_goes_on_as_if_nothing_had_happened(tmp_path):
    def make():
        model = gs.nn.Linear(2, 1, rng=gs.random.RandomState(0))
        optimizer = gs.optim.Optimizer(model, optax.adam, hyperparams={"learning_rate": 0.1})
        return model, optimizer, gs.random.RandomState(1)

    @gs.jit
    def step(model, optimizer, rng):
        x = rng.normal(size=(4, 2))
        optimizer.update(model, gs.grad(lambda model: jnp.sum(model(x) ** 2))(model))

    run = make()
    for _ in range(2):
        step(*run)
    checkpoint.save(tmp_path, run)
    other = make()
    other[1].hyperparams["learning_rate"].value *= 2
    checkpoint.restore(tmp_path, other)
    step(*run)
    step(*other)
    assert all_bits(other) == all_bits(run)


def test_the_values_of_later_writes_replace_those_of_earlier_ones(tmp_path):
    model = held(array(0, 2))
    for seed in range(3):
        model["held"].value = array(seed, 2)
        checkpoint.save(tmp_path / "it", model)
        np.testing.assert_array_equal(checkpoint.restore(tmp_path / "it")["held"], array(seed, 2))
    assert [each.name for each in (tmp_path / "it").iterdir()] == ["v3"]


def test_the_order_of_the_bytes_of_an_array_is_that_of_the_machine(tmp_path):
    checkpoint.save(tmp_path, held(np.arange(3, dtype=">i4")))
    found = checkpoint.restore(tmp_path)["held"]
    assert (found.tolist(), found.dtype) == ([0, 1, 2], np.dtype("int32"))


@pytest.mark.parametrize(
    "value", [np.array(["text"]), np.array([None]), np.ma.masked_array([1.0, 2.0], mask=[0, 1]), np.zeros(1, "M8[s]")]
)
def test_an_array_of_something_else_than_numbers_is_refused(value, tmp_path):
    node = gs.Node()
    node.table = value
    with pytest.raises(StateTypeError, match="A checkpoint holds arrays of numbers, but `table` is a "):
        checkpoint.save(tmp_path / "it", node)


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    checkpoint.save("~/it", held(array(0, 2)))
    assert (tmp_path / "it" / "v1").exists()
    assert checkpoint.restore("~/it")["held"].tolist() == [0, 1]


def test_what_holds_no_values_is_refused(tmp_path):
    with pytest.raises(StateTypeError, match=r"`held` is a ShapeDtypeStruct. Save a model that has been built"):
        checkpoint.save(tmp_path / "it", held(jax.ShapeDtypeStruct((2,), "float32")))
    gone = held(jnp.zeros(2))
    gone["held"].value.delete()
    with pytest.raises(DonatedError, match="`held` cannot be saved: its array was deleted"):
        checkpoint.save(tmp_path / "it", gone)
    assert not (tmp_path / "it").exists()


@pytest.mark.parametrize("nothing", [3, "text", {}, [], nn.Linear])
def test_what_has_no_place_for_values_is_refused(nothing, tmp_path):
    text = rf"needs a Node, or a pytree .*, but .* of type {type(nothing).__name__} holds none\. Give the object itself"
    with pytest.raises(StateTypeError, match=rf"`checkpoint\.save` {text}"):
        checkpoint.save(tmp_path / "a", nothing)
    assert not (tmp_path / "a").exists()
    checkpoint.save(tmp_path / "b", nn.Linear(2, 3))
    with pytest.raises(StateTypeError, match=rf"`checkpoint\.restore` {text}"):
        checkpoint.restore(tmp_path / "b", nothing)


def test_a_node_without_values_is_saved(tmp_path):
    checkpoint.save(tmp_path, nn.Identity())
    assert isinstance(checkpoint.restore(tmp_path, nn.Identity()), nn.Identity)


@pytest.mark.no_leak_check("leaks a tracer")
def test_a_tracer_that_has_outlived_its_trace_is_refused(tmp_path):
    node = gs.Node()
    jax.make_jaxpr(lambda x: node.__dict__.update(kept=x))(1.0)
    gs.graph.touch(node)
    with pytest.raises(TraceContextError, match="A checkpoint holds values, but `kept` is a tracer"):
        checkpoint.save(tmp_path / "it", node)


def test_nothing_is_saved_or_restored_while_something_is_traced(tmp_path):
    model = held(array(0, 2))
    with pytest.raises(TraceContextError, match=r"`checkpoint.save` writes values, but something is being traced"):
        jax.make_jaxpr(lambda: checkpoint.save(tmp_path, model))()
    with pytest.raises(TraceContextError, match=r"`checkpoint.restore` writes values, but something is being traced"):
        gs.make_jaxpr(lambda: checkpoint.restore(tmp_path, model))()
