"""The check of random numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
import graphstate.testing as gst
from graphstate.errors import PropertyError, StateTypeError

pytestmark = pytest.mark.no_leak_check(reason="runs many eager operations")

CASE = gst.BatchCase(2, (np.float32([[0, 1], [2, 4]]),))
KEYS = gst.BatchCase(2, (jax.random.split(jax.random.key(0)), np.float32([1, 2])))


def test_it_passes_lanes_that_draw_from_streams() -> None:
    rng = gs.random.RandomState(0)
    gst.check_rng(lambda x: x + rng.normal(size=2), CASE)
    gst.check_rng(lambda x: (rng.random() < 0.5, x), CASE)
    members = gs.vmap(lambda seed: gs.nn.Dropout(0.5, fit=True, rng=gs.random.RandomState(seed)))(jnp.arange(2))
    gst.check_rng(lambda node, x: node(x), gst.BatchCase(2, (members, np.ones((2, 9), "float32"))))


def test_it_passes_keys_in_arguments() -> None:
    gst.check_rng(lambda key, x: x + jax.random.normal(key), KEYS)


def test_it_finds_one_key_for_all_lanes() -> None:
    rng = gs.random.RandomState(0)
    with pytest.raises(PropertyError, match=r"(?s)lanes 0 and 1 draw the same .*: all lanes draw with one key"):
        gst.check_rng(lambda x: x + rng.normal(size=2)[None], CASE, batched=True)
    with pytest.raises(PropertyError, match=r"all lanes draw with one key"):
        gst.check_rng(
            lambda key, x: x + jax.random.normal(key),
            gst.BatchCase(2, KEYS.args[:0] + (jax.random.key(0), np.ones(2, "float32")), in_axes=(None, 0)),
        )


def test_it_finds_a_stream_that_is_not_advanced() -> None:
    rng = gs.random.RandomState(0)

    def repeat(x):
        return x + jax.random.normal(rng.value, x.shape)

    with pytest.raises(PropertyError, match=r"a second call draws what the first has drawn, under 16 seeds"):
        gst.check_rng(repeat, CASE, batched=True)


def test_it_finds_lanes_that_depend_on_the_number_of_lanes() -> None:
    def draw(key, x):
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i * len(x)))(jnp.arange(len(x)) + 1)
        return x + jax.vmap(jax.random.normal)(keys)

    case = gst.BatchCase(3, (jax.random.key(0), np.ones(3, "float32")), in_axes=(None, 0))
    with pytest.raises(PropertyError, match=r"among 4 lanes .*, among 3"):
        gst.check_rng(draw, case, batched=True)


def test_it_needs_random_numbers() -> None:
    with pytest.raises(StateTypeError, match=r"`check_rng` judges results that depend on random numbers, but those of"):
        gst.check_rng(lambda x: x, CASE)


def test_a_key_that_is_fixed_is_told_as_a_way_out() -> None:
    key = jax.random.key(0)
    with pytest.raises(StateTypeError, match=r"Or its key is fixed: take it as an argument, or draw from a `RandomSta"):
        gst.check_rng(lambda x: x * jax.random.normal(key, x.shape), CASE)
