"""Seeds, and the convention by which streams advance."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphstate import random
from graphstate.random import _key
from graphstate.random._key import to_key


def bits(key: jax.Array) -> list[int]:
    return jax.random.key_data(key).ravel().tolist()


@pytest.mark.no_leak_check("many eager keys")
@settings(max_examples=30)
@given(st.integers(-(2**63), 2**63 - 1))
def test_a_seed_is_that_of_jax(seed):
    assert bits(to_key(seed)) == bits(jax.random.key(seed))


@pytest.mark.parametrize("seed", [np.int64(3), np.uint32(3), np.array(3), jnp.int32(3)])
def test_a_seed_may_be_an_integer_of_numpy_or_jax(seed):
    assert bits(to_key(seed)) == bits(jax.random.key(3))


def test_a_typed_key_stays_as_it_is():
    key = jax.random.key(3)
    assert to_key(key) is key


@pytest.mark.parametrize("as_kept", [jnp.asarray, np.asarray])
def test_a_legacy_key_is_wrapped(as_kept):
    key = to_key(as_kept(jax.random.PRNGKey(3)))
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    assert bits(key) == bits(jax.random.key(3))


def test_stacked_legacy_keys_are_stacked_keys():
    key = to_key(jax.random.split(jax.random.PRNGKey(3), 4))
    assert key.shape == (4,)


def test_no_seed_is_fresh_entropy():
    assert bits(to_key(None)) != bits(to_key(None))


def test_fresh_entropy_is_refused_while_jax_traces():
    with pytest.raises(RuntimeError, match=r"(?s)Fresh entropy.*every lane.*would repeat it.*Seed outside"):
        jax.vmap(lambda i: jax.random.key_data(to_key(None)))(jnp.arange(2))


@pytest.mark.parametrize(
    ("seed", "shown"),
    [
        (1.5, "'1.5' of type float"),
        (True, "'True' of type bool"),
        ("3", "'3' of type str"),
        (2**63, "'9223372036854775808' of type int"),
        (np.float32(1), r"float32 of shape \(\) and dtype float32"),
        (jnp.arange(2), r"ArrayImpl of shape \(2,\) and dtype int32"),
        (jnp.zeros(5, "uint32"), r"ArrayImpl of shape \(5,\) and dtype uint32"),
        (random.DEFAULT, "of type RandomState"),
    ],
)
def test_what_is_no_seed_is_refused(seed, shown):
    with pytest.raises(
        TypeError, match=f"(?s)A seed is an int that fits into 64 bits.*but got .*{shown}.*Round a float"
    ):
        to_key(seed)


def test_a_stream_advances_by_one_split():
    new, base = random.lane_keys(jax.random.key(3))
    assert [bits(new), bits(base)] == [bits(key) for key in jax.random.split(jax.random.key(3))]


def test_a_lane_draws_with_the_base_and_its_index():
    base = jax.random.key(3)
    lanes = jax.vmap(lambda i: random.lane_key(base, i))(jnp.arange(3))
    assert [bits(lane) for lane in lanes] == [bits(jax.random.fold_in(base, i)) for i in range(3)]


def test_a_key_is_stacked_where_it_has_an_axis():
    assert not random.is_stacked(jax.random.key(0))
    assert random.is_stacked(jax.random.split(jax.random.key(0), 3))


@pytest.fixture
def unwarned() -> Iterator[None]:
    """As if no warning had been given in this process."""
    for warn in (_key._warn_of_rbg, _key._warn_of_unpartitionable):
        warn.cache_clear()
    yield
    for warn in (_key._warn_of_rbg, _key._warn_of_unpartitionable):
        warn.cache_clear()


@pytest.mark.usefixtures("unwarned")
@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_rbg_keys_are_warned_of_once(implementation):
    key = jax.random.key(0, impl=implementation)
    with pytest.warns(random.RandomnessWarning, match="With `rbg` keys the lanes of a map draw otherwise") as caught:
        random.RandomState(key)
    assert caught[0].filename == __file__
    random.RandomState(key)


@pytest.mark.usefixtures("unwarned")
def test_keys_that_depend_on_their_number_are_warned_of_once():
    with jax.threefry_partitionable(False):
        with pytest.warns(random.RandomnessWarning, match="`jax_threefry_partitionable=False` is not supported"):
            random.seed(0)
        random.seed(0)
