"""A RandomState against the same keys split by hand."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphstate import random
from graphstate.graph import State
from graphstate.random._stream import KeyStream


def bits(key: jax.Array) -> list[int]:
    return jax.random.key_data(key).ravel().tolist()


@pytest.mark.no_leak_check("hundreds of eager splits")
@settings(max_examples=30)
@given(st.lists(st.one_of(st.none(), st.integers(0, 3), st.tuples(st.integers(0, 9))), max_size=5))
def test_a_stream_gives_the_keys_that_splitting_by_hand_gives(steps):
    rng, key = random.RandomState(3), jax.random.key(3)
    for step in steps:
        if isinstance(step, tuple):
            rng.seed(*step)
            key = jax.random.key(*step)
            continue
        key, base = jax.random.split(key)
        assert bits(rng.split_key(step)) == bits(base if step is None else jax.random.split(base, step))
    assert bits(rng.value) == bits(key)


def test_the_first_of_many_keys_are_those_of_few():
    few, many = random.RandomState(0).split_key(2), random.RandomState(0).split_key(5)
    assert bits(few) == bits(many[:2])


def test_a_number_of_keys_that_is_none_is_refused_and_nothing_is_drawn():
    rng = random.RandomState(0)
    before = rng.value
    with pytest.raises(TypeError, match=r"`n` is an int or a tuple of ints, none negative.*but got -1"):
        rng.split_key(-1)
    assert rng.value is before


def test_a_random_state_is_a_state_with_tags_and_metadata():
    rng = random.RandomState(0, tags="noise", purpose="dropout")
    assert isinstance(rng, State)
    assert rng.tags == {"noise"}
    assert rng.metadata == {"purpose": "dropout"}
    assert jnp.issubdtype(rng.value.dtype, jax.dtypes.prng_key)


def test_a_clone_goes_on_alike_and_apart():
    class Noise(random.RandomState):
        pass

    rng = Noise(0, tags="noise", purpose="dropout")
    clone = rng.clone()
    assert (type(clone), clone.tags, clone.metadata) == (Noise, rng.tags, rng.metadata)
    assert bits(rng.split_key()) == bits(clone.split_key())
    rng.split_key()
    assert bits(rng.split_key()) != bits(clone.split_key())


def test_random_states_without_a_seed_differ():
    assert bits(random.RandomState().value) != bits(random.RandomState().value)


def test_stacked_keys_are_held_but_not_drawn_from():
    rng = random.RandomState(jax.random.split(jax.random.key(0), 3))
    with pytest.raises(ValueError, match=r"(?s)RandomState, created at test_stream\.py:\d+ holds keys of shape \(3,\)"):
        rng.normal()
    with pytest.raises(
        ValueError, match=r"(?s)outside of a map over it.*`graphstate\.vmap`.*`graphstate\.take`.*`key=`"
    ):
        rng.split_key()
    assert rng.clone().value.shape == (3,)


@pytest.mark.parametrize("value", [jax.random.PRNGKey(0), 3])
def test_a_value_that_is_no_key_is_not_drawn_from(value):
    rng = random.RandomState(0)
    rng.value = value
    with pytest.raises(TypeError, match=r"holds no key but a \w+\. Write keys with its `seed` method"):
        rng.normal()


@pytest.mark.no_leak_check("eager draws from many threads")
def test_threads_never_draw_with_the_same_key():
    rng, drawn, start = random.RandomState(0), [], threading.Barrier(8)

    def draw():
        start.wait()
        for _ in range(40):
            drawn.append(tuple(bits(rng.split_key())))

    threads = [threading.Thread(target=draw) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == len(drawn) == 320


@pytest.mark.no_leak_check("eager draws from many threads")
def test_a_seed_is_not_lost_to_a_draw_of_another_thread(monkeypatch):
    rng, in_draw, go_on = random.RandomState(0), threading.Event(), threading.Event()
    single_key = KeyStream._single_key

    def slow(stream):
        key = single_key(stream)
        in_draw.set()
        go_on.wait(5)
        return key

    monkeypatch.setattr(KeyStream, "_single_key", slow)
    drawing = threading.Thread(target=rng.split_key)
    drawing.start()
    in_draw.wait(5)
    seeding = threading.Thread(target=rng.seed, args=(7,))
    seeding.start()
    go_on.set()
    drawing.join()
    seeding.join()
    assert bits(rng.value) == bits(jax.random.key(7))


def test_draws_look_as_their_distribution_does():
    rng = random.RandomState(0)
    drawn = np.asarray(rng.normal(1.0, 2.0, size=4000))
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [1.0, 2.0], atol=0.1)
