"""Nodes and States wherever JAX takes or gives arrays, inside of nested pytrees.

These places are arguments, keyword arguments, carries, scanned inputs, operands and outputs.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import graphstate as gs
from tests.transform.rows import MESH, SPLIT

LANES = 2


class Cell(gs.Node):
    def __init__(self, value):
        self.total = gs.State(value)
        self.parts = {"tied": self.total}


def bundle(value):
    """A nested pytree with a Node, a State that it shares, another State, an array and None."""
    cell = Cell(value)
    return {"cells": [cell, (cell.total,)], "rest": (gs.State(value), 10 * value, None)}


def touch(held, by=1.0):
    """Writes both States, and returns a value that depends on everything."""
    (cell, (total,)), (state, array, nothing) = held["cells"], held["rest"]
    assert cell.parts["tied"] is total
    assert nothing is None
    cell.total.value = cell.total.value + by
    state.value = state.value * 2 + total.value
    return array + state.value


def touched(value, times=1):
    """What a Python loop makes of the States, and the last value that it returns."""
    held = bundle(value)
    for _ in range(times):
        result = touch(held)
    return held, result


ONE = jnp.float32(3.0)
STACK = jnp.float32([3.0, 4.0])


# Where a whole bundle goes in, and the value of one call comes out.
WHOLE = {
    "jit, argument": lambda held: gs.jit(touch)(held),
    "jit, keyword": lambda held: gs.jit(lambda *, held: touch(held))(held=held),
    "vmap, not mapped": lambda held: gs.vmap(touch, in_axes=None, axis_size=LANES, out_axes=None)(held),
    "pmap, not mapped": lambda held: gs.pmap(touch, in_axes=None, axis_size=8, out_axes=None)(held),
    "grad, aux": lambda held: gs.grad(lambda x, held: (x, touch(held)), has_aux=True)(1.0, held)[1],
    "grad, keyword": lambda held: gs.grad(lambda x, *, held: (x, touch(held)), has_aux=True)(1.0, held=held)[1],
    "jvp, closure": lambda held: gs.jvp(lambda x: (x, touch(held)), (1.0,), (1.0,), has_aux=True)[2],
    "vjp, primals": lambda held: gs.vjp(touch, held, wrt=None)[0],
    "linearize, primals": lambda held: gs.linearize(touch, held, wrt=None)[0],
    "checkpoint, argument": lambda held: gs.jit(gs.checkpoint(touch))(held),
    "checkpoint, keyword": lambda held: gs.jit(lambda held: gs.checkpoint(touch)(held=held))(held),
    "custom_jvp, argument": lambda held: gs.jit(_custom_jvp)(held),
    "custom_vjp, argument": lambda held: gs.jit(_custom_vjp)(held),
    "scan, carry": lambda held: gs.scan(lambda held, _: (held, touch(held)), held, None, length=1)[1][0],
    "while_loop, carry": lambda held: gs.while_loop(_is_first, _step, (0, held, ONE))[2],
    "fori_loop, carry": lambda held: gs.fori_loop(0, 1, lambda i, carry: (carry[0], touch(carry[0])), (held, ONE))[1],
    "cond, operand": lambda held: gs.cond(True, touch, lambda held: ONE, held),
    "cond, keyword": lambda held: gs.cond(False, lambda *, held: ONE, lambda *, held: touch(held), held=held),
    "switch, operand": lambda held: gs.switch(1, [lambda held: ONE, touch], held),
    "checkify, argument": lambda held: gs.checkify(touch)(held)[1],
    "checkify, keyword": lambda held: gs.checkify(touch)(held=held)[1],
    "named_scope, argument": lambda held: gs.named_scope("scope")(touch)(held),
    "assert_max_traces, argument": lambda held: gs.jit(gs.assert_max_traces(touch, 1))(held),
    "shard_map, replicated": lambda held: gs.shard_map(
        touch, mesh=MESH, in_specs=PartitionSpec(), out_specs=PartitionSpec()
    )(held),
}

_custom_jvp = gs.custom_jvp(touch, wrt=None)
_custom_jvp.defjvp(lambda primals, tangents: gs.jvp(touch, primals, tangents, wrt=None))
_custom_vjp = gs.custom_vjp(touch, wrt=None)
_custom_vjp.defvjp(lambda held: gs.vjp(touch, held, wrt=None), lambda pull_back, cotangent: pull_back(cotangent))


def _is_first(carry):
    return carry[0] < 1


def _step(carry):
    number, held, _ = carry
    return number + 1, held, touch(held)


def assert_equal(held, expected):
    assert held["cells"][0].total is held["cells"][1][0]
    for (path, state), other in zip(gs.states(held).items(), gs.states(expected).values(), strict=True):
        np.testing.assert_allclose(state.value, other.value, err_msg=str(path))


@pytest.mark.parametrize("place", WHOLE)
@pytest.mark.no_leak_check("runs many eager transforms")
def test_a_pytree_with_nodes_and_states_goes_in(place):
    held = bundle(ONE)
    for times in (1, 2):
        expected, result = touched(ONE, times)
        np.testing.assert_allclose(WHOLE[place](held), result)
        assert_equal(held, expected)


# Where a bundle is stacked, and each lane or step has its slice.
SLICED = {
    "vmap, argument": lambda held: gs.vmap(touch)(held),
    "vmap, keyword": lambda held: gs.vmap(lambda *, held: touch(held))(held=held),
    "pmap, argument": lambda held: gs.pmap(touch, mesh=MESH)(held),
    "pmap, keyword": lambda held: gs.pmap(lambda *, held: touch(held), mesh=MESH)(held=held),
    "map, xs": lambda held: gs.map(touch, held),
    "map, batches": lambda held: gs.map(touch, held, batch_size=2),
    "for_loop, xs": lambda held: gs.for_loop(touch, held),
    "scan, xs": lambda held: gs.scan(lambda carry, held: (carry, touch(held)), None, held)[1],
    "shard_map, argument": lambda held: gs.shard_map(
        lambda held: touch(held, jnp.ones(1)), mesh=MESH, in_specs=SPLIT, out_specs=SPLIT
    )(held),
    "jit of vmap": lambda held: gs.jit(gs.vmap(touch))(held),
}


@pytest.mark.parametrize("place", SLICED)
@pytest.mark.no_leak_check("runs many eager transforms")
def test_a_stacked_pytree_with_nodes_and_states_goes_in(place):
    held = bundle(STACK)
    for times in (1, 2):
        expected = [touched(value, times) for value in STACK]
        np.testing.assert_allclose(SLICED[place](held), jnp.stack([result for _, result in expected]))
        for path, state in gs.states(held).items():
            parts = [gs.states(each)[path].value for each, _ in expected]
            np.testing.assert_allclose(state.value, jnp.stack(parts), err_msg=str(path))


# Where a new bundle comes out.
OUT = {
    "jit": lambda: gs.jit(bundle)(ONE),
    "vmap, one for all": lambda: gs.vmap(lambda: bundle(ONE), axis_size=LANES, out_axes=None)(),
    "pmap, one for all": lambda: gs.pmap(lambda: bundle(ONE), axis_size=LANES, out_axes=None, mesh=MESH)(),
    "grad, aux": lambda: gs.grad(lambda x: (x, bundle(ONE)), has_aux=True)(1.0)[1],
    "checkpoint": lambda: gs.jit(gs.checkpoint(bundle))(ONE),
    "cond": lambda: gs.cond(True, bundle, lambda x: bundle(2 * x), ONE),
    "switch": lambda: gs.switch(0, [bundle, lambda x: bundle(2 * x)], ONE),
    "checkify": lambda: gs.checkify(bundle)(ONE)[1],
    "jvp, aux": lambda: gs.jvp(lambda x: (x, bundle(ONE)), (1.0,), (1.0,), has_aux=True)[2],
}
OUT_STACKED = {
    "vmap": lambda: gs.vmap(bundle)(STACK),
    "pmap": lambda: gs.pmap(bundle, mesh=MESH)(STACK),
    "map": lambda: gs.map(bundle, STACK),
    "for_loop": lambda: gs.for_loop(bundle, STACK),
    "scan": lambda: gs.scan(lambda carry, x: (carry, bundle(x)), None, STACK)[1],
    "shard_map": lambda: gs.shard_map(bundle, mesh=MESH, in_specs=SPLIT, out_specs=SPLIT)(STACK),
}


@pytest.mark.parametrize("place", [*OUT, *OUT_STACKED])
@pytest.mark.no_leak_check("runs many eager transforms")
def test_a_pytree_with_new_nodes_and_states_comes_out(place):
    value = ONE if place in OUT else STACK
    made = (OUT | OUT_STACKED)[place]()
    assert_equal(made, bundle(value))
    assert gs.diff(made, bundle(value)) == []
    np.testing.assert_allclose(made["rest"][1], 10 * value)
