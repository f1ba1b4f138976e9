"""`BatchNorm`: statistics of a batch, of lanes, of members; running ones."""

import jax
import jax.numpy as jnp
import pytest
from jax import Array
from numpy.testing import assert_allclose, assert_array_equal

import graphstate as gs
from graphstate import nn
from graphstate.errors import AxisError, BatchAxisError
from graphstate.graph import BatchState, ParamState

X = jax.random.normal(jax.random.key(0), (6, 2, 3)) + 2


def test_fitting_it_normalises_by_the_batch_and_the_running_statistics_follow() -> None:
    norm, flat = nn.BatchNorm(3, momentum=0.9), X.reshape(-1, 3)
    y = norm(X, fit=True)
    assert_allclose(y.reshape(-1, 3), nn.standardize(flat, axis=0, epsilon=1e-5), rtol=1e-4, atol=1e-5)
    assert_allclose(norm.running_mean.value, 0.1 * flat.mean(0), rtol=1e-5, atol=1e-6)
    assert_allclose(norm.running_variance.value, 0.9 + 0.1 * flat.var(0), rtol=1e-5)


def test_otherwise_it_normalises_by_the_running_statistics_and_writes_nothing() -> None:
    norm = nn.BatchNorm(3)
    norm.running_mean.value, norm.running_variance.value = jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 1.0, 9.0])
    before = gs.state(norm)
    expected = (X - jnp.array([[[1.0, 2.0, 3.0]]])) / jnp.array([[[2.0, 1.0, 3.0]]])
    assert_allclose(norm(X), expected, rtol=1e-4, atol=1e-5)
    assert_allclose(norm(X[0, 0]), expected[0, 0], rtol=1e-4, atol=1e-5)
    jax.tree.map(assert_array_equal, gs.state(norm), before)


@pytest.mark.parametrize(("layer", "call", "fits"), [(None, True, True), (True, None, True), (True, False, False)])
def test_the_calls_fit_comes_before_the_layers(layer: bool | None, call: bool | None, fits: bool) -> None:
    norm = nn.BatchNorm(3, fit=layer)
    norm(X, fit=call)
    assert bool(norm.running_mean.value.any()) is fits


def test_the_setting_fit_decides_where_nothing_else_does() -> None:
    norm = nn.BatchNorm(3)
    with gs.environ.context(fit=True):
        gs.jit(norm)(X)
    assert norm.running_mean.value.all()


def test_statistics_are_batch_states_and_no_parameters() -> None:
    norm = nn.BatchNorm(3)
    assert list(gs.states(norm, BatchState)) == [("running_mean",), ("running_variance",)]
    assert list(gs.states(norm, ParamState)) == [("bias",), ("weight",)]


def test_in_a_map_over_examples_with_an_axis_name_it_is_the_batched_call() -> None:
    def loss(norm: nn.BatchNorm, x: Array) -> tuple[Array, Array]:
        y = gs.vmap(norm, axis_name="batch")(x) if norm.axis_name else norm(x)
        return jnp.sum(jnp.sin(y)), y

    norms = [nn.BatchNorm(3, fit=True, axis_name=axis_name) for axis_name in ("batch", None)]
    results = [gs.jit(gs.grad(loss, (0, 1), has_aux=True))(norm, X) for norm in norms]
    (mapped, y), (batched, expected) = results
    assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    for one, other in zip(jax.tree.leaves(mapped), jax.tree.leaves(batched), strict=True):
        assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    for path, value in gs.state(norms[0]).items():
        assert_allclose(value, gs.state(norms[1])[path], rtol=1e-5, atol=1e-6)


def test_in_a_map_over_examples_without_one_the_running_mean_is_an_error() -> None:
    norm = nn.BatchNorm(3, fit=True)
    before = gs.state(norm)
    with pytest.raises(BatchAxisError, match=r"BatchNorm needs a batch .*\(3,\).*`running_mean`.*axis_name='batch'"):
        gs.vmap(norm)(X[:, 0])
    with pytest.raises(BatchAxisError, match=r"running_mean.* is not mapped, but a value that depends on the lane"):
        gs.vmap(norm)(X)
    jax.tree.map(assert_array_equal, gs.state(norm), before)


def test_one_value_a_feature_is_no_batch() -> None:
    with pytest.raises(
        BatchAxisError, match=r"BatchNorm needs a batch while fitting, but got one value .*leading axes"
    ):
        nn.BatchNorm(3)(jnp.ones((1, 3)), fit=True)
    with pytest.raises(BatchAxisError, match=r"but got one value a feature, \(3,\)"):
        gs.vmap(nn.BatchNorm(3, fit=True, axis_name="batch"), axis_name="batch")(jnp.ones((1, 3)))


def test_fitting_outside_of_the_map_that_it_names_is_an_error() -> None:
    norm = nn.BatchNorm(3, axis_name="batch")
    match = r"BatchNorm takes its batch from the lanes of a map called 'batch', but there is none here\. Give the map"
    with pytest.raises(AxisError, match=match):
        norm(X, fit=True)
    assert norm(X).shape == X.shape


def test_an_empty_batch_has_no_statistics() -> None:
    norm = nn.BatchNorm(3)
    with pytest.raises(BatchAxisError, match=r"BatchNorm needs a batch .* got no value a feature, \(0, 3\)"):
        norm(jnp.ones((0, 3)), fit=True)
    assert not norm.running_mean.value.any()
    assert norm(jnp.ones((0, 3))).shape == (0, 3)


def test_members_of_an_ensemble_have_statistics_of_their_own() -> None:
    members = gs.vmap(lambda: nn.BatchNorm(3, fit=True), axis_size=2)()
    xs = jnp.stack([X, 3 * X])
    y = gs.vmap(lambda norm, x: norm(x))(members, xs)
    for index, x in enumerate(xs):
        alone = nn.BatchNorm(3, fit=True)
        assert_allclose(y[index], alone(x), rtol=1e-5, atol=1e-6)
        assert_allclose(members.running_mean.value[index], alone.running_mean.value, rtol=1e-5, atol=1e-6)


def test_without_gain_and_shift_only_statistics_are_left() -> None:
    norm = nn.BatchNorm(3, use_weight=False, use_bias=False)
    assert not gs.states(norm, ParamState)
    assert_allclose(norm(X), X / jnp.sqrt(1 + 1e-5), rtol=1e-5)


def test_statistics_of_bfloat16_are_float32() -> None:
    norm = nn.BatchNorm(3, param_dtype=jnp.bfloat16)
    y = norm(X.astype(jnp.bfloat16), fit=True)
    assert (y.dtype, norm.running_mean.value.dtype) == (jnp.bfloat16, jnp.float32)


def test_what_it_cannot_take_is_an_error_before_anything_is_written() -> None:
    norm = nn.BatchNorm(3, fit=True)
    with pytest.raises(
        nn.ShapeError, match=r"BatchNorm takes activations of shape \(\.\.\., 3\), but got float32\[3,2\]"
    ):
        norm(jnp.ones((3, 2)))
    with pytest.raises(nn.DtypeError, match=r"BatchNorm takes floats, but got int32\[2,3\]"):
        norm(jnp.ones((2, 3), int))
    assert not norm.running_mean.value.any()
    with pytest.raises(nn.RangeError, match=r"BatchNorm needs a `momentum` from 0 to 1, the part .*, but got 1\.5"):
        nn.BatchNorm(3, momentum=1.5)


def test_a_stack_of_them_is_called_in_a_map() -> None:
    members = gs.vmap(lambda: nn.BatchNorm(3), axis_size=2)()
    with pytest.raises(nn.ShapeError, match=r"needs a weight of shape \(3,\), but it is float32\[2,3\]"):
        members(X)
