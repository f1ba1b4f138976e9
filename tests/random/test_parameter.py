"""Sizes and parameters against those of NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from graphstate import random
from graphstate.errors import AxisError
from graphstate.random._parameter import as_shape, common_float

KEY = jax.random.key(0)
SHAPES = npst.array_shapes(min_dims=0, max_dims=2, max_side=3)


def shape_of_draw(loc: np.ndarray, scale: np.ndarray, size: tuple[int, ...] | None) -> tuple[int, ...] | None:
    try:
        return jax.eval_shape(lambda key: random.normal(loc, scale, size, key=key), KEY).shape
    except AxisError:
        return None


def shape_of_numpy(loc: np.ndarray, scale: np.ndarray, size: tuple[int, ...] | None) -> tuple[int, ...] | None:
    try:
        return np.shape(np.random.default_rng(0).normal(loc, scale, size))
    except ValueError:
        return None


@given(SHAPES, SHAPES, st.none() | SHAPES)
def test_a_draw_has_the_shape_that_numpy_gives_it(loc, scale, size):
    arguments = (np.zeros(loc), np.ones(scale), size)
    assert shape_of_draw(*arguments) == shape_of_numpy(*arguments)


@pytest.mark.parametrize("size", [3, np.int64(3), (3,), [3], np.array([3]), jnp.array([3]), np.array(3)])
def test_a_size_may_be_an_int_or_a_sequence(size):
    assert as_shape(size) == (3,)


def test_no_size_is_a_scalar():
    assert as_shape(None) == ()


def test_the_float_dtype_is_the_one_that_arrays_agree_on():
    half, single = jnp.zeros(2, "bfloat16"), jnp.zeros(2)
    assert common_float(half, half, 1.0) == jnp.bfloat16
    assert common_float(half, single) == jnp.float32
    assert common_float(1, [2.0], jnp.arange(2)) == jnp.float32
    assert common_float(np.zeros(2)) == jnp.float32


def test_a_dtype_that_jax_does_not_have_is_warned_of_by_jax():
    with pytest.warns(UserWarning, match="Explicitly requested dtype float64"):
        drawn = random.normal(1.0, jnp.ones(2), dtype="float64")
    assert drawn.dtype == jnp.float32


def test_draws_are_twice_as_wide_where_x64_is_on():
    with jax.enable_x64(True):
        assert random.normal(np.zeros(2), key=KEY).dtype == jnp.float64
        assert random.randint(3, key=KEY).dtype == jnp.int64
        assert random.normal(key=KEY) == jax.random.normal(KEY)
