"""The laws of the transforms on modules that `graphstate.testing` draws, by its own checks."""

from typing import Any

import hypothesis
import jax
import numpy as np
import pytest

import graphstate as gs
import graphstate.testing as gst
from graphstate.testing import BatchCase

pytestmark = [
    pytest.mark.no_leak_check("very many eager operations"),
    pytest.mark.filterwarnings("ignore::graphstate.testing._tolerance.RoundingWarning"),
]

MEMBERS = gst.batched(gst.modules(dropout=False), gst.arrays(shape=2), axis_size=2, in_axes=(0, 0))
RANDOM_MEMBERS = gst.batched(gst.modules(), gst.arrays(shape=2), axis_size=2, in_axes=(0, 0))


def call(module: Any, x: Any) -> Any:
    return module(x)


@pytest.mark.parametrize("check", [gst.check_vmap, gst.check_jit, gst.check_scan, gst.check_grad])
@gst.given(case=MEMBERS, structures=8, examples=10)
def test_transforms_of_members_do_what_the_loop_does(check: Any, case: BatchCase) -> None:
    check(call, case)


def assert_close(one: Any, two: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        if jax.numpy.issubdtype(left.dtype, jax.dtypes.prng_key):
            left, right = jax.random.key_data(left), jax.random.key_data(right)
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


@gst.given(module=gst.modules(), x=gst.arrays(shape=2), structures=12, examples=16)
def test_jit_draws_and_writes_as_the_eager_call_does(module: Any, x: Any) -> None:
    eager = gs.clone(module)
    expected = [eager(x), eager(x)]
    compiled = gs.jit(call)
    assert_close([compiled(module, x), compiled(module, x)], expected)
    assert_close(gs.state(module), gs.state(eager))
    assert gs.graphdef(module) == gs.graphdef(eager)


@gst.given(module=gst.modules(), x=gst.arrays(shape=2), structures=8, examples=10)
def test_grad_of_a_module_is_that_of_a_pure_function_of_its_values(module: Any, x: Any) -> None:
    graphdef, parameters, rest = gs.split(module, gs.ParamState, ...)
    if not parameters:
        return
    expected = jax.grad(lambda parameters: gs.merge(graphdef, parameters, rest)(x).sum())(parameters)
    assert_close(gs.grad(lambda module: module(x).sum())(module), expected)


@gst.given(case=RANDOM_MEMBERS, structures=8, examples=10)
def test_members_with_random_streams_of_their_own_draw_as_they_do_alone(case: BatchCase) -> None:
    stack, xs = case.args
    hypothesis.assume(gs.states(stack))  # without a State nothing tells how many members there are
    members = gs.unstack(gs.clone(stack))
    expected = np.stack([member(x) for member, x in zip(members, xs, strict=True)])
    assert_close(gs.vmap(call)(stack, xs), jax.numpy.asarray(expected))
    assert_close(gs.state(stack), gs.state(gs.stack(members)))
