"""Each law for each layer: batches, maps, compilation, copies, dtypes, members."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import Array
from numpy.testing import assert_allclose

import graphstate as gs
import graphstate.testing as gst
from graphstate import nn
from graphstate.graph import LongTermState, ParamState, diff
from tests.nn.rows import ROWS, Row

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

FLOATS = [name for name, row in ROWS.items() if not row.integers]
TAKING_INTEGERS = [name for name in FLOATS if name.startswith(("Identity", "MaxPool", "AdaptiveMaxPool"))]
CHECKED = [  # a row of each kind; `tests/testing` has some of the checks for each row, and all in its sweep
    *("Embedding", "LayerNorm", "BatchNorm", "Conv2d", "LSTMCell"),
    *("Dropout", "SpectralNorm", "Repeat", "Ensemble", "Sequential"),
]
LEARNING = [name for name, row in ROWS.items() if gs.states(gs.abstract(row.layer), ParamState)]


def assert_equal(actual: Any, expected: Any) -> None:
    """Compares pytrees of arrays in shape, dtype and, up to rounding, value."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def stacked(results: list[Any]) -> Any:
    return jax.tree.map(lambda *parts: jnp.stack(parts), *results)


def total(row: Row, layer: Any, x: Array) -> Array:
    """A number that depends on all that the layer returns."""
    return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(row.call(layer, x)))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_map_and_leading_axes_give_what_a_loop_gives(row: Row) -> None:
    @gs.jit
    def calls(layer: Any, x: Array) -> list[Any]:
        results = [stacked([row.call(layer, each) for each in x]), gs.vmap(lambda x: row.call(layer, x))(x)]
        if row.batches:
            results += [row.call(layer, x), jax.tree.map(lambda y: y[:, 0], row.call(layer, x[:, None]))]
        return results

    loop, *others = calls(row.layer(), row.input(2))
    for result in others:
        assert_equal(result, loop)


class Called(gs.Node):
    """The layer of a row, as a module of one argument."""

    def __init__(self, row: Row) -> None:
        self.row, self.layer = gs.graph.Static(row), row.layer()

    def __call__(self, x: Array) -> Any:
        return self.row.value.call(self.layer, x)


@pytest.mark.parametrize("name", CHECKED)
def test_every_check_of_a_module_passes(name: str) -> None:
    gst.check_module(lambda: Called(ROWS[name]), ROWS[name].input())


@pytest.mark.parametrize("name", [name for name in ROWS if name not in CHECKED])
def test_compiled_it_gives_what_it_gives_eagerly(name: str) -> None:
    row, x = ROWS[name], ROWS[name].input()
    assert_equal(gs.jit(row.call)(row.layer(), x), row.call(row.layer(), x))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_taken_apart_pickled_and_put_together_it_is_the_same(row: Row) -> None:
    layer = row.layer()
    for copy in (gs.merge(*gs.split(layer)), pickle.loads(pickle.dumps(layer))):
        assert diff(copy, layer) == []
        assert_equal(gs.state(copy, LongTermState), gs.state(layer, LongTermState))


@pytest.mark.parametrize("row", [row for row in ROWS.values() if not row.integers], ids=FLOATS)
def test_bfloat16_stays_bfloat16(row: Row) -> None:
    layer = row.layer(param_dtype=jnp.bfloat16)
    assert {state.value.dtype for state in gs.states(layer, ParamState).values()} <= {jnp.dtype(jnp.bfloat16)}
    y = gs.eval_shape(row.call, layer, row.input().astype(jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(y)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("name", [name for name in FLOATS if name not in TAKING_INTEGERS])
def test_whole_numbers_are_an_error_before_anything_is_written(name: str) -> None:
    layer, x = ROWS[name].layer(), ROWS[name].input()
    before = gs.state(layer)
    for wrong in (x.astype(int), x > 0):
        with (
            gs.environ.context(fit=True),
            pytest.raises(nn.DtypeError, match=r"takes floats, but got (int32|bool)\["),
        ):
            ROWS[name].call(layer, wrong)
    assert all((value == before[path]).all() for path, value in gs.state(layer).items())


@pytest.mark.parametrize("name", LEARNING)
def test_members_have_the_gradients_of_separate_layers(name: str) -> None:
    row = ROWS[name]
    gradient = gs.grad(lambda layer, x: total(row, layer, x))

    @gs.jit
    def gradients(layers: list[Any], x: Array) -> tuple[Any, list[Any]]:
        return gs.vmap(gradient, in_axes=(0, None))(gs.stack(layers), x), [gradient(layer, x) for layer in layers]

    together, alone = gradients([row.layer(seed) for seed in (0, 1)], row.input())
    for path, members in together.items():
        assert_equal(members, jnp.stack([each[path] for each in alone]))
