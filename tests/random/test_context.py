"""Blocks that hold a key, in and out of traces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphstate import random
from graphstate._trace import Frame


def bits(key: jax.Array) -> list[int]:
    return jax.random.key_data(key).ravel().tolist()


@pytest.mark.parametrize("seed", [3, jax.random.key(3), jax.random.PRNGKey(3)])
def test_a_block_draws_from_the_given_seed_and_the_stream_goes_on_after_it(seed):
    before = random.DEFAULT.value
    with random.seed_context(seed):
        assert random.normal() == random.RandomState(3).normal()
    assert random.DEFAULT.value is before


def test_one_stream_holds_exactly_the_key():
    rng, default = random.RandomState(0), random.DEFAULT.value
    with random.seed_context(3, rng):
        assert rng.value == jax.random.key(3)
        assert random.DEFAULT.value is default


def test_several_streams_hold_keys_of_their_own():
    first, second = random.RandomState(0), random.RandomState(0)
    with random.seed_context(3, first, second):
        held = [bits(first.value), bits(second.value)]
    assert held == [bits(jax.random.fold_in(jax.random.key(3), i)) for i in range(2)]
    assert first.value == second.value == jax.random.key(0)


def test_an_exception_leaves_the_stream_as_it_was():
    @random.seed_context(3)
    def fail():
        random.normal()
        raise ZeroDivisionError

    before = random.DEFAULT.value
    with pytest.raises(ZeroDivisionError):
        fail()
    assert random.DEFAULT.value is before


def test_blocks_may_be_nested():
    with random.seed_context(1):
        with random.seed_context(2):
            assert random.normal() == random.RandomState(2).normal()
        assert random.normal() == random.RandomState(1).normal()


def test_a_decorated_function_draws_alike_on_each_call():
    draw = random.seed_context(3)(random.normal)
    assert draw() == draw() == random.RandomState(3).normal()


def test_only_random_states_hold_a_key():
    with (
        pytest.raises(
            TypeError, match=r"(?s)takes a seed and then RandomStates, but got a int.*node\.states\(RandomState\)"
        ),
        random.seed_context(3, 4),
    ):
        pass


def test_a_block_without_a_known_seed_leaves_everything_as_it_was():
    before = random.DEFAULT.value
    with pytest.raises(TypeError, match="A seed is an int"), random.seed_context(1.5):
        pass
    assert random.DEFAULT.value is before


# Inside of traces


def traced(transform, draw, *arguments, frame_type=Frame):
    """What `draw` returns where a transform of graphstate traces it, and the States that its frame knows then."""
    frame, touched = frame_type(), []

    def in_frame(*arguments):
        with frame:
            result = draw(*arguments)
            touched.extend(frame.slots)
            return result

    return transform(in_frame)(*arguments), touched


def draw_of(seed):
    with random.seed_context(seed):
        return random.normal()


def test_the_key_may_be_traced():
    drawn, _ = traced(jax.vmap, draw_of, jnp.arange(3))
    np.testing.assert_allclose(drawn, [random.RandomState(i).normal() for i in range(3)], rtol=1e-6)


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_a_block_inside_of_a_trace_neither_reads_nor_writes_the_stream_outside(transform):
    before = random.DEFAULT.value
    _, touched = traced(transform, draw_of, jnp.arange(3)[0] if transform is jax.jit else jnp.arange(3))
    assert touched == []
    assert random.DEFAULT.value is before


def test_a_block_inside_of_a_trace_gives_back_what_was_drawn_from_before():
    def draw():
        first = random.normal()
        random_of_three = draw_of(3)
        return first, random_of_three, random.normal()

    with random.seed_context(5):
        (first, inside, last), _ = traced(jax.jit, draw)
        np.testing.assert_allclose([first, last], [random.normal(), random.normal()], rtol=1e-6)
    np.testing.assert_allclose(inside, random.RandomState(3).normal(), rtol=1e-6)


def test_a_state_that_is_made_in_a_trace_may_hold_a_key_there():
    def draw():
        rng = random.RandomState(1)
        with random.seed_context(3, rng):
            inside = rng.normal()
        return inside, rng.normal()

    drawn, _ = traced(jax.jit, draw)
    np.testing.assert_allclose(drawn, [random.RandomState(seed).normal() for seed in (3, 1)], rtol=1e-6)


class CompiledFrame(Frame):
    """The frame of a transform that compiles."""

    builds_program = True


@pytest.mark.no_leak_check("a program that JAX keeps is what is tested")
def test_a_program_that_jax_keeps_does_not_keep_the_key_of_a_block():
    program = jax.jit(lambda: jax.random.key_data(random.DEFAULT.value))

    def draw():
        with random.seed_context(3):
            inside = program()
        return inside, program()

    with random.seed_context(5):
        (inside, after), _ = traced(jax.jit, draw, frame_type=CompiledFrame)
    assert [inside.tolist(), after.tolist()] == [bits(jax.random.key(3)), bits(jax.random.key(5))]
