"""A compiled function that draws holds no lock while it runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate import random
from graphstate._lift.programs import _cached
from graphstate._lift.programs._entry import Again, Raced
from graphstate.errors import TraceContextError


def drawn_on_the_host(rng):
    return lambda x: np.float32(x + rng.normal())


def test_a_callback_may_draw_from_a_stream_of_its_own():
    host = random.RandomState(1)

    @gs.jit
    def draw(x):
        return jax.pure_callback(drawn_on_the_host(host), jax.ShapeDtypeStruct((), jnp.float32), x + random.normal())

    first, second = float(draw(jnp.float32(1))), float(draw(jnp.float32(1)))
    assert first != second


def test_a_callback_that_draws_from_the_stream_of_its_function_ends_with_an_error_or_with_keys_of_its_own():
    shared = random.RandomState(1)

    @gs.jit
    def draw(x):
        mine = shared.normal()
        return mine, jax.pure_callback(drawn_on_the_host(shared), jax.ShapeDtypeStruct((), jnp.float32), x)

    # Whether the callback runs before or after the call has written the stream is up to JAX.
    try:
        mine, other = jax.block_until_ready(draw(jnp.float32(0)))
    except TraceContextError:
        return  # the text is that of the next test
    assert mine != other


def test_a_program_that_always_loses_the_race_says_why():
    with pytest.raises(
        TraceContextError, match=r"drawn from a RandomState.*: a callback of the function, or other threads"
    ):
        raise Raced(random.RandomState(0)).error()


def test_a_call_that_never_settles_says_why(monkeypatch):
    def again(*_):
        raise Again

    monkeypatch.setattr(_cached, "_call", again)
    with pytest.raises(TraceContextError, match="was traced 100 times in one call, and each time what"):
        gs.jit(lambda x: x)(1.0)
