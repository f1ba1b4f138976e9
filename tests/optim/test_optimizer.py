"""`Optimizer` against loops of optax on plain dicts."""

import functools
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from graphstate.errors import FilterError, StateTypeError, UpdateError
from graphstate.graph import (
    BatchState,
    GraphState,
    HiddenState,
    LongTermState,
    Node,
    ParamState,
    State,
    abstract,
    clone,
    graphdef,
    merge,
    split,
    state,
    states,
    write_path,
)
from graphstate.optim import Optimizer

STEPS = 3

pytestmark = pytest.mark.no_leak_check("optax runs very many operations eagerly")


class Net(Node):
    """Two affine maps with a statistic, smaller than any layer of the library."""

    def __init__(self, seed: int = 0, dtype: Any = jnp.float32) -> None:
        keys = jax.random.split(jax.random.key(seed), 3)
        self.layers = [ParamState(jax.random.normal(key, (2, 2), dtype)) for key in keys[:2]]
        self.bias = ParamState(jax.random.normal(keys[2], (2,), dtype))
        self.mean = BatchState(jnp.zeros(2, dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jnp.tanh(x @ self.layers[0].value) @ self.layers[1].value
        return y + jnp.broadcast_to(self.bias.value, y.shape)


def loss(model: Any, x: jax.Array) -> jax.Array:
    return (model(x) ** 2).sum()


def gradients(model: Any, x: jax.Array, wrt: Any = ParamState, loss: Callable[..., jax.Array] = loss) -> GraphState:
    """The gradients by plain JAX."""
    graphdef, params, rest = split(model, wrt, ...)
    return jax.grad(lambda params: loss(merge(graphdef, params, rest), x))(params)


def batches() -> list[jax.Array]:
    return [jax.random.normal(jax.random.key(100 + step), (3, 2)) for step in range(STEPS)]


def plain_loop(tx: optax.GradientTransformation, seed: int = 0, **extra: Any) -> tuple[Any, Any]:
    """Parameters and optimizer state after all steps, without anything of this library but the oracle's model."""
    graphdef, params, rest = split(Net(seed), ParamState, ...)
    params = params.to_dict()
    opt_state = tx.init(params)
    for x in batches():
        grads = jax.grad(lambda params, x: loss(merge(graphdef, params, rest), x))(params, x)
        with jax.numpy_dtype_promotion("standard"):  # optax multiplies floats by whole numbers
            updates, opt_state = tx.update(grads, opt_state, params, **extra)
        params = optax.apply_updates(params, updates)
    return params, opt_state


def train(optimizer: Optimizer, model: Any) -> None:
    for x in batches():
        optimizer.update(model, gradients(model, x))


def values(opt_state: Any) -> Any:
    return jax.tree.map(lambda cell: cell.value, opt_state)


def assert_same_leaves(one: Any, two: Any) -> None:
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert left.dtype == right.dtype
        assert_allclose(left, right, rtol=2e-6, atol=1e-7)


TRANSFORMATIONS = {
    "sgd": optax.sgd(1e-2),
    "momentum": optax.sgd(1e-2, momentum=0.9, nesterov=True),
    "adam": optax.adam(1e-2),
    "adamw": optax.adamw(1e-2, weight_decay=0.1),
    "lamb": optax.lamb(1e-2),
    "schedule": optax.adam(optax.exponential_decay(1e-2, 2, 0.5)),
    "clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.adam(1e-2)),
    "multi_steps": optax.MultiSteps(optax.adam(1e-2), 2).gradient_transformation(),
    "inject": optax.inject_hyperparams(optax.adam)(1e-2),
    "lookahead_ema": optax.chain(optax.ema(0.9), optax.scale(-1e-2)),
}


@pytest.mark.parametrize("tx", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS)
def test_steps_equal_those_of_optax_on_dicts(tx: optax.GradientTransformation) -> None:
    model = Net()
    optimizer = Optimizer(model, tx)
    train(optimizer, model)
    params, opt_state = plain_loop(tx)
    assert_same_leaves(state(model, ParamState), params)
    assert_same_leaves(values(optimizer.opt_state), opt_state)


@pytest.mark.parametrize("tx", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS)
def test_opt_state_has_the_structure_of_optax_before_and_after_a_step(tx: optax.GradientTransformation) -> None:
    model = Net()
    optimizer = Optimizer(model, tx)
    expected = jax.tree.structure(tx.init(state(model, ParamState)))
    assert jax.tree.structure(values(optimizer.opt_state)) == expected
    cells = jax.tree.leaves(optimizer.opt_state)
    assert all(isinstance(cell, LongTermState) for cell in cells)
    train(optimizer, model)
    assert jax.tree.structure(values(optimizer.opt_state)) == expected
    assert all(map(lambda now, before: now is before, jax.tree.leaves(optimizer.opt_state), cells))


def test_a_bare_object_with_init_and_update_is_a_transformation() -> None:
    model = Net()
    train(Optimizer(model, optax.MultiSteps(optax.adam(1e-2), 2)), model)
    params, _ = plain_loop(TRANSFORMATIONS["multi_steps"])
    assert_same_leaves(state(model, ParamState), params)


def test_parameter_shaped_parts_stand_under_the_parameters_paths() -> None:
    optimizer = Optimizer(Net(), optax.adam(1e-2))
    written = [write_path(path) for path in states(optimizer)]
    params = ["bias", "layers/0", "layers/1"]
    assert written == ["opt_state/0/count", *(f"opt_state/0/{part}/{path}" for part in ("mu", "nu") for path in params)]


def test_states_that_wrt_leaves_out_stay_as_they_are() -> None:
    model = Net()
    frozen = model.layers[0].value
    only = lambda path, _: path != ("layers", 0) and path != ("mean",)  # noqa: E731
    optimizer = Optimizer(model, optax.sgd(1e-2), wrt=only)
    optimizer.update(model, gradients(model, batches()[0], only))
    assert model.layers[0].value is frozen
    assert (model.layers[1].value != Net().layers[1].value).all()


def test_a_tied_parameter_has_one_state_and_moves_once() -> None:
    model = Net()
    model.layers[1] = model.layers[0]
    before = model.layers[0].value
    optimizer = Optimizer(model, optax.sgd(1e-2, momentum=0.9))
    grads = gradients(model, batches()[0])
    optimizer.update(model, grads)
    assert [write_path(path) for path in states(optimizer)] == ["opt_state/0/trace/bias", "opt_state/0/trace/layers/0"]
    assert_allclose(model.layers[1].value, before - 1e-2 * grads["layers/0"], rtol=1e-6)


def test_a_state_that_holds_a_dict_has_a_state_for_each_of_its_arrays() -> None:
    model = Node()
    model.pair = ParamState({"a": jnp.ones(2), "b": jnp.zeros(3)})
    optimizer = Optimizer(model, optax.sgd(0.5, momentum=0.9))
    optimizer.update(model, state(model))
    assert_array_equal(model.pair.value["a"], jnp.full(2, 0.5))
    assert [write_path(path) for path in states(optimizer)] == ["opt_state/0/trace/pair/a", "opt_state/0/trace/pair/b"]


def test_the_model_may_be_a_pytree_of_nodes_and_the_gradients_too() -> None:
    models = {"left": Net(0), "right": Net(1)}
    optimizer = Optimizer(models, optax.sgd(1e-2))
    x = batches()[0]
    optimizer.update(models, {name: gradients(model, x) for name, model in models.items()})
    for seed, model in enumerate(models.values()):
        alone = Net(seed)
        Optimizer(alone, optax.sgd(1e-2)).update(alone, gradients(alone, x))
        assert_same_leaves(state(model), state(alone))


def test_gradients_may_be_nested_dicts_with_numbers_or_their_text_as_keys() -> None:
    results = []
    for convert in (
        lambda grads: grads,
        GraphState.to_dict,
        lambda grads: {"bias": grads["bias"], "layers": {"0": grads["layers/0"], "1": grads["layers/1"]}},
        lambda grads: {"bias": grads["bias"], "layers": [grads["layers/0"], grads["layers/1"]]},
    ):
        model = Net()
        Optimizer(model, optax.sgd(1e-2)).update(model, convert(gradients(model, batches()[0])))
        results.append(state(model))
    for result in results[1:]:
        assert_same_leaves(result, results[0])


def test_an_equal_model_that_was_merged_anew_is_taken() -> None:
    model = Net()
    optimizer = Optimizer(model, optax.adam(1e-2))
    optimizer.update(model, gradients(model, batches()[0]))
    again = merge(*split(model))
    optimizer.update(again, gradients(again, batches()[1]))
    optimizer.update(model, gradients(model, batches()[1]))
    assert (again.bias.value != Net().bias.value).all()


def test_extra_arguments_reach_the_transformation() -> None:
    tx = optax.polyak_sgd(max_learning_rate=0.1)
    model = Net()
    optimizer = Optimizer(model, tx)
    for x in batches():
        optimizer.update(model, gradients(model, x), value=jnp.float32(0.25))
    params, _ = plain_loop(tx, value=jnp.float32(0.25))
    assert_same_leaves(state(model, ParamState), params)


def test_masks_and_labels_may_be_graphstates_or_functions_of_the_parameters() -> None:
    model = Net()
    weights = state(model, ParamState).map(lambda value: value.ndim == 2)
    labels = jax.tree.map(lambda is_weight: "adam" if is_weight else "none", weights)
    for tx in (
        optax.chain(optax.masked(optax.scale(0.0), weights)),
        optax.partition({"adam": optax.adam(1e-2), "none": optax.set_to_zero()}, labels),
        optax.partition(
            {"adam": optax.adam(1e-2), "none": optax.set_to_zero()},
            lambda params: jax.tree.map(lambda value: "adam" if value.ndim == 2 else "none", params),
        ),
    ):
        model = Net()
        optimizer = Optimizer(model, tx)
        optimizer.update(model, gradients(model, batches()[0]))
        moved = state(model, ParamState).map(lambda new, old: bool((new != old).any()), state(Net(), ParamState))
        assert moved["layers/0"] != moved["bias"]


# dtypes


def test_parameters_and_state_keep_their_dtypes() -> None:
    model = Net(dtype=jnp.bfloat16)
    optimizer = Optimizer(model, optax.adam, hyperparams={"learning_rate": 1e-2, "b1": 0.9})
    before = [cell.value.dtype for cell in states(optimizer).values()]
    optimizer.update(model, gradients(model, batches()[0].astype(jnp.bfloat16)))
    assert [cell.value.dtype for cell in states(optimizer).values()] == before
    assert {cell.value.dtype for cell in states(model).values()} == {jnp.dtype(jnp.bfloat16)}


def test_a_parameter_that_is_a_python_number_becomes_an_array() -> None:
    model = Node()
    model.gain = ParamState(2.0)
    Optimizer(model, optax.sgd(0.5)).update(model, {"gain": jnp.float32(1.0)})
    assert float(model.gain.value) == 1.5


def test_an_abstract_optimizer_holds_shapes_and_dtypes() -> None:
    _, optimizer = abstract(lambda: (Net(), Optimizer(Net(), optax.adam, hyperparams={"learning_rate": 1e-3})))
    found = states(optimizer)
    assert found["opt_state/0/mu/layers/0"].value == jax.ShapeDtypeStruct((2, 2), jnp.float32)
    assert found["hyperparams/learning_rate"].value == jax.ShapeDtypeStruct((), jnp.float32)


def test_axis_names_of_a_parameter_are_those_of_its_optimizer_state() -> None:
    model = Node()
    model.weight = ParamState(jnp.ones((2, 3)), axes=("embed", "mlp"))
    model.bias = ParamState(jnp.ones(3))
    found = states(Optimizer(model, optax.adam(1e-2)))
    assert found["opt_state/0/mu/weight"].metadata["axes"] == ("embed", "mlp")
    assert "axes" not in found["opt_state/0/mu/bias"].metadata
    assert "axes" not in found["opt_state/0/count"].metadata


def test_a_part_of_another_rank_than_its_parameter_gets_no_axis_names() -> None:
    model = Node()
    model.weight = ParamState(jnp.ones((128, 128)), axes=("embed", "mlp"))
    for cell in states(Optimizer(model, optax.adafactor(1e-2))).values():
        assert len(cell.metadata.get("axes", ())) in (0, cell.value.ndim)


# Copies


@pytest.mark.parametrize("copy", [clone, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["clone", "pickle"])
def test_a_copy_with_hyperparameters_goes_on_by_itself(copy: Callable[[Any], Any]) -> None:
    model = Net()
    optimizer = Optimizer(model, optax.adam, hyperparams={"learning_rate": 1e-2})
    train(optimizer, model)
    other, twin = copy((model, optimizer))
    half = state(model)
    train(twin, other)
    assert_same_leaves(state(model), half)
    train(optimizer, model)
    assert_same_leaves(state(other), state(model))
    assert_same_leaves(state(twin), state(optimizer))


# Errors


def test_a_filter_that_selects_nothing_is_an_error() -> None:
    with pytest.raises(FilterError, match=r"needs parameters to change, but `wrt=HiddenState` selects nothing"):
        Optimizer(Net(), optax.sgd(1e-2), wrt=HiddenState)
    with pytest.raises(FilterError, match=r"but `wrt='frozen'` selects nothing .*Give a filter that selects some"):
        Optimizer(Net(), optax.sgd(1e-2), wrt="frozen")


def test_selecting_what_holds_no_floats_is_an_error_with_its_path() -> None:
    model = Net()
    model.steps, model.key = State(jnp.array(0)), State(jax.random.key(0))
    with pytest.raises(StateTypeError, match=r"(?s)changes floats.*key: key<fry>.*steps: int32.*Narrow the filter"):
        Optimizer(model, optax.sgd(1e-2), wrt=...)


def snapshot(*nodes: Any) -> list[jax.Array]:
    return [cell.value for cell in states(nodes).values()]


def unchanged(before: list[jax.Array], *nodes: Any) -> bool:
    return all(map(lambda now, then: now is then, snapshot(*nodes), before))


@pytest.mark.parametrize(
    ("change", "match", "differences"),
    [
        (
            lambda grads: grads.filter(lambda path, _: path == ("bias",)),
            r"`grads` lacks layers/0\n  `grads` lacks layers/1",
            2,
        ),
        (lambda grads: {**grads.to_dict(), "other": jnp.ones(2)}, r"`grads` has besides other", 1),
        (
            lambda grads: {**grads.to_dict(), "bias": jnp.ones(3)},
            r"`grads` has shape \(3,\) at bias, where the parameter has \(2,\)",
            1,
        ),
        (lambda grads: None, r"`grads` lacks bias", 3),
    ],
)
def test_gradients_with_other_paths_or_shapes_are_an_error_and_change_nothing(
    change: Callable[[GraphState], Any], match: str, differences: int
) -> None:
    model = Net()
    optimizer = Optimizer(model, optax.adam(1e-2))
    before = snapshot(model, optimizer)
    with pytest.raises(UpdateError, match=rf"(?s)needs the 3 parameters.*{match}.*Nothing was changed") as caught:
        optimizer.update(model, change(gradients(model, batches()[0])))
    assert len(caught.value.differences) == differences
    assert unchanged(before, model, optimizer)


def test_a_model_that_lost_or_got_parameters_is_an_error_and_changes_nothing() -> None:
    model = Net()
    optimizer = Optimizer(model, optax.sgd(1e-2))
    grads = gradients(model, batches()[0])
    del model.layers[1]
    model.gain = ParamState(jnp.ones(2))
    before = snapshot(model, optimizer)
    with pytest.raises(
        UpdateError, match=r"(?s)the model lacks layers/1\n.*the model has besides gain.*make a new one"
    ):
        optimizer.update(model, grads)
    assert unchanged(before, model, optimizer)


def test_without_any_array_in_the_optimizer_state_the_paths_are_checked_too() -> None:
    model = Net()
    optimizer = Optimizer(model, optax.sgd(1e-2))
    assert len(states(optimizer)) == 0
    with pytest.raises(UpdateError, match=r"`grads` lacks layers/0"):
        optimizer.update(model, {"bias": jnp.ones(2)})


def test_a_transformation_that_changes_the_structure_of_its_state_is_an_error_and_changes_nothing() -> None:
    tx = optax.GradientTransformation(
        lambda params: (jnp.zeros(()),), lambda updates, state, params: (updates, [state])
    )
    model = Net()
    optimizer = Optimizer(model, tx)
    before = snapshot(model, optimizer)
    with pytest.raises(UpdateError, match=r"must keep the structure of its state, but `tx.update` returned another"):
        optimizer.update(model, gradients(model, batches()[0]))
    assert unchanged(before, model, optimizer)


def test_an_error_of_the_transformation_changes_nothing() -> None:
    def fail(updates: Any, state: Any, params: Any) -> Any:
        raise RuntimeError("broken")

    model = Net()
    optimizer = Optimizer(model, optax.GradientTransformation(lambda params: jnp.zeros(()), fail))
    before = snapshot(model, optimizer)
    with pytest.raises(RuntimeError, match="broken"):
        optimizer.update(model, gradients(model, batches()[0]))
    assert unchanged(before, model, optimizer)


def test_partials_as_functions_compare_by_what_they_hold() -> None:
    make = lambda: Optimizer(Net(), functools.partial(optax.sgd, nesterov=True), hyperparams={"learning_rate": 1e-2})  # noqa: E731
    assert graphdef(make()) == graphdef(make())
