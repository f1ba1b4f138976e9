"""Recurrent cells: what they carry, and what they refuse; their numbers are in `test_references.py`."""

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import graphstate as gs
from graphstate import nn
from graphstate.errors import BatchAxisError
from graphstate.graph import HiddenState, ParamState
from graphstate.random import RandomState

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

CELLS = {"RNNCell": nn.RNNCell, "GRUCell": nn.GRUCell, "MGUCell": nn.MGUCell, "LSTMCell": nn.LSTMCell}
each_cell = pytest.mark.parametrize("kind", CELLS.values(), ids=CELLS)


@each_cell
def test_a_step_reads_and_writes_the_hidden_values(kind: type[nn.GRUCell]) -> None:
    cell, x = kind(2, 3, rng=RandomState(0)), jnp.ones(2)
    first = cell(x)
    assert_array_equal(cell.hidden.value, first)
    assert (cell(x) != first).any()
    cell.reset_state()
    assert_array_equal(cell(x), first)


@each_cell
def test_a_batch_of_states_is_as_many_cells(kind: type[nn.GRUCell]) -> None:
    cell, xs = kind(2, 3, rng=RandomState(0)), jax.random.normal(jax.random.key(0), (4, 2))
    cell.reset_state(4)
    together = cell(xs)
    mapped = gs.vmap(cell, state_in_axes=HiddenState)
    cell.reset_state(batch_size=(4,))
    assert_allclose(mapped(xs), together, rtol=1e-5, atol=1e-6)
    assert_allclose(cell.hidden.value, together, rtol=1e-5, atol=1e-6)


def test_an_lstm_carries_a_memory_too() -> None:
    assert [path for (path,) in gs.states(nn.LSTMCell(2, 3), HiddenState)] == ["hidden", "memory"]


def test_recurrent_weights_are_orthogonal_for_each_gate_and_biases_zero() -> None:
    cell = nn.GRUCell(2, 3)
    for weight in jnp.split(cell.from_hidden.weight.value, 3, 1):
        assert_allclose(weight @ weight.T, jnp.eye(3), atol=1e-5)
    assert not cell.from_input.bias.value.any()


def test_without_bias_there_is_none() -> None:
    paths = gs.states(nn.GRUCell(2, 3, use_bias=False), ParamState)
    assert list(paths) == [("from_hidden", "weight"), ("from_input", "weight")]


def test_the_activation_of_a_plain_cell_can_be_chosen() -> None:
    cell = nn.RNNCell(2, 3, activation=nn.relu, rng=RandomState(0))
    assert (cell(jnp.array([5.0, -5.0])) >= 0).all()


@pytest.mark.parametrize(("dtype", "expected"), [(None, jnp.bfloat16), (jnp.float16, jnp.float16)])
def test_hidden_values_have_the_dtype_of_the_parameters_or_the_one_given(dtype: object, expected: object) -> None:
    cell = nn.LSTMCell(2, 3, dtype=dtype, param_dtype=jnp.bfloat16)
    cell(jnp.ones(2))
    assert {cell.hidden.value.dtype, cell.memory.value.dtype} == {jnp.dtype(expected)}


def test_a_map_over_examples_that_does_not_map_the_state_is_an_error() -> None:
    with pytest.raises(BatchAxisError, match=r"hidden.* is not mapped, but a value that depends on the lane"):
        gs.vmap(nn.RNNCell(2, 3))(jnp.ones((4, 2)))


@each_cell
def test_another_input_is_an_error_before_anything_is_written(kind: type[nn.GRUCell]) -> None:
    cell, name = kind(2, 3), kind.__name__
    with pytest.raises(nn.ShapeError, match=rf"{name} takes activations of shape \(\.\.\., 2\), but got float32\[3\]"):
        cell(jnp.ones(3))
    match = (
        rf"{name} takes inputs with the batch axes of its hidden value, float32\[3\], but got float32\[4,2\]\. "
        r"Call `reset_state\(batch_size=\(4,\)\)` first; .*`state_in_axes=HiddenState`"
    )
    with pytest.raises(nn.ShapeError, match=match):
        cell(jnp.ones((4, 2)))
    with pytest.raises(nn.DtypeError, match=rf"{name} takes floats, but got int32\[2\]"):
        cell(jnp.ones(2, int))
    assert not cell.hidden.value.any()


def test_a_stack_of_cells_is_reset_in_a_map() -> None:
    cells = gs.vmap(lambda: nn.GRUCell(2, 3), axis_size=4)()
    cells.hidden.value += 1
    with pytest.raises(nn.ShapeError, match=r"of shape \(\d, 9\), but it is float32\[4,\d,9\]\. Call a stack"):
        nn.reset_state(cells)
    assert cells.hidden.value.all()
    gs.vmap(lambda cell: nn.reset_state(cell, 5))(cells)
    assert cells.hidden.value.shape == (4, 5, 3)


def test_batch_sizes_are_whole_numbers() -> None:
    with pytest.raises(nn.RangeError, match=r"reset_state needs a whole number from 0 on as `batch_size`, but got 2\."):
        nn.RNNCell(2, 3).reset_state(2.5)


def test_sizes_are_positive() -> None:
    with pytest.raises(nn.RangeError, match=r"LSTMCell needs a positive whole number as `hidden_features`, but got 0"):
        nn.LSTMCell(2, 0)
