"""Many threads and one stream: no two draws are alike, whatever transforms they are made in."""

import threading

import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs

pytestmark = pytest.mark.no_leak_check("leak checks of several threads see each other's tracers")

THREADS, CALLS = 4, 5


def draw():
    return gs.random.uniform()


TRANSFORMS = {
    "eager": draw,
    "jit": gs.jit(draw),
    "vmap": gs.vmap(draw, axis_size=2),
    "grad": lambda: gs.grad(lambda x: x * draw())(1.0),
    "for_loop": lambda: gs.for_loop(draw, length=2),
    "jit of vmap": gs.jit(gs.vmap(draw, axis_size=2)),
}


def run(*functions):
    """What the functions draw, called by several threads at once."""
    drawn, barrier = [], threading.Barrier(THREADS)

    def work(number):
        barrier.wait()
        for call in range(CALLS):
            drawn.extend(np.ravel(functions[(number + call) % len(functions)]()).tolist())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return drawn


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_draws_of_many_threads_all_differ(transform):
    drawn = run(TRANSFORMS[transform])
    assert len(drawn) >= THREADS * CALLS
    assert len(set(drawn)) == len(drawn)


def test_draws_in_different_transforms_all_differ():
    drawn = run(*TRANSFORMS.values())
    assert len(set(drawn)) == len(drawn)


def test_a_stream_that_is_an_argument_is_shared_too():
    node = gs.Node()
    node.rng = gs.random.RandomState(0)
    compiled = gs.jit(lambda node: node.rng.uniform())
    drawn = run(
        lambda: compiled(node),
        lambda: gs.vmap(lambda node: node.rng.uniform(), in_axes=None, axis_size=2)(node),
        node.rng.uniform,
    )
    assert len(set(drawn)) == len(drawn)


def test_one_mapped_function_may_be_called_by_many_threads():
    weights = gs.State(jnp.arange(3.0))
    mapped = gs.vmap(lambda x: weights.value * x, state_in_axes=gs.State)
    assert {tuple(result) for result in np.reshape(run(lambda: mapped(jnp.ones(3))), (-1, 3)).tolist()} == {
        (0.0, 1.0, 2.0)
    }
