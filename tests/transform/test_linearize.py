"""`linearize`; the oracle is plain JAX on a dict of the same weights, and `jvp`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import FilterError, StateTypeError, TangentError
from tests.transform.derivatives import PARAMS, Affine, Tied, call, pure

TANGENT = {"weight": jnp.array([1.0, -1.0, 2.0]), "bias": jnp.float32(0.5)}


def tangent(affine):
    return gs.GraphState.from_dict(TANGENT, like=affine)


def expected(factor=1.0):
    params = {**PARAMS, "weight": PARAMS["weight"] * factor}
    return jax.jvp(pure, (params, 2.0), (TANGENT, 3.0))


def test_value_and_linear_function_of_a_node_and_an_array():
    affine = Affine()
    value, push = gs.linearize(call, affine, 2.0)
    np.testing.assert_allclose((value, push(tangent(affine), 3.0)), expected())
    assert repr(push) == "linearize of call"
    assert affine.calls.value == 1


def test_it_takes_the_tangents_that_jvp_takes():
    affine = Affine()
    states = affine.states(gs.ParamState)
    for primals, tangents, given in [
        ((affine, 2.0), (tangent(affine), 3.0), None),
        ((2.0,), (tangent(affine), (3.0,)), states),
        ((), (tangent(affine), ()), states),
    ]:
        function = call if given is None else lambda x=2.0: affine(x)
        value, push = gs.linearize(function, *primals, states=given)
        np.testing.assert_allclose((value, push(*tangents)), gs.jvp(function, primals, tangents, states=given))


def test_it_belongs_to_the_values_at_the_time_of_the_call():
    affine = Affine()
    _, push = gs.linearize(call, affine, 2.0)
    affine.weight.value = affine.weight.value * 10
    for _ in range(2):
        np.testing.assert_allclose(push(tangent(affine), 3.0), expected()[1])
    assert affine.calls.value == 1


def test_numpy_arrays_that_change_later_are_not_followed():
    array = np.arange(3, dtype=np.float32)
    state = gs.State(array.copy())
    _, push = gs.linearize(lambda state, x: state.value**2 * x**2, state, array)
    before = push(jnp.ones(3), jnp.ones(3))
    array[:] = 0
    state.value[:] = 0
    np.testing.assert_array_equal(push(jnp.ones(3), jnp.ones(3)), before)


def test_it_may_be_called_inside_of_jit_passed_to_it_and_returned_from_it():
    affine = Affine()
    make, apply = gs.jit(lambda affine, x: gs.linearize(call, affine, x)), gs.jit(lambda push, *given: push(*given))
    _, push = make(affine, 2.0)
    closed = gs.jit(lambda *given: push(*given))
    affine.weight.value = affine.weight.value * 10
    _, other = make(affine, 2.0)
    for each in (push, lambda *given: apply(push, *given), closed):
        np.testing.assert_allclose(each(tangent(affine), 3.0), expected()[1])
    np.testing.assert_allclose(apply(other, tangent(affine), 3.0), expected(10.0)[1])
    push = other
    np.testing.assert_allclose(closed(tangent(affine), 3.0), expected(10.0)[1])
    assert affine.calls.value == 2


def test_a_jitted_linearize_is_never_stale():
    affine = Affine()

    @gs.jit
    def jitted(x, t):
        value, push = gs.linearize(lambda x: affine(x), x, states=affine.states(gs.ParamState))
        return value, push(t, (3.0,))

    for factor in (1.0, 10.0):
        affine.weight.value = PARAMS["weight"] * factor
        np.testing.assert_allclose(jitted(2.0, tangent(affine)), expected(factor))
    assert affine.calls.value == 2


def test_many_tangents_by_vmap():
    affine = Affine()
    _, push = gs.linearize(lambda affine: affine(2.0), affine)
    directions = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), tangent(affine))
    one = push(tangent(affine))
    np.testing.assert_allclose(gs.vmap(push)(directions), [one, 2 * one])


def test_aux_comes_last_and_structure_comes_out():
    affine = Affine()

    def function(affine, x):
        affine.last = x
        return {"y": affine(x)}, {"node": affine, "n": affine.calls.value, "key": gs.random.split_key()}

    _, push, aux = gs.linearize(function, affine, 2.0, has_aux=True)
    np.testing.assert_allclose(push(tangent(affine), 3.0)["y"], expected()[1])
    assert aux["node"] is affine
    assert aux["n"] == 1
    assert affine.last == 2.0


def test_tied_weights_have_one_tangent():
    tied = Tied()
    _, push = gs.linearize(lambda tied: tied(), tied)
    direction = gs.GraphState.from_dict({"first": jnp.ones(2)}, like=tied)
    np.testing.assert_allclose(push(direction), jnp.sum(3 * tied.first.value**2))


def test_integers_and_complex_numbers_are_those_of_jax():
    _, push = gs.linearize(lambda z, n: (z**2, n), 1.0 + 2.0j, 3)
    of_z, of_n = push(1.0j, np.zeros((), jax.dtypes.float0))
    assert of_z == jax.linearize(lambda z: z**2, 1.0 + 2.0j)[1](1.0j)
    assert of_n.dtype == jax.dtypes.float0


def test_dropout_is_linear_as_it_was_drawn():
    dropout, rng = gs.nn.Dropout(0.5, fit=True), gs.random.DEFAULT
    value, push = gs.linearize(lambda x: dropout(x), jnp.ones(8))
    after = rng.value
    np.testing.assert_array_equal(push(jnp.ones(8)), value)
    assert rng.value == after


def test_tangents_that_do_not_fit_are_an_error():
    affine = Affine()
    _, push = gs.linearize(call, affine, 2.0)
    with pytest.raises(
        TangentError,
        match=r"The function that `linearize` returned takes tangents of the structure \(GraphState\[bias, weight\], "
        r"\*\), but was given \(\*,\). The one of a Node is",
    ):
        push(1.0)
    with pytest.raises(TangentError, match=r"takes for `affine.weight` a tangent of shape \(3,\)"):
        push(tangent(affine).map(lambda leaf: jnp.float32(1.0)), 1.0)


def test_what_cannot_be_differentiated_is_an_error():
    affine = Affine()
    with pytest.raises(FilterError, match=r"`linearize` .* selects none in the arguments of `call`"):
        gs.linearize(call, affine, 1.0, wrt=gs.HiddenState)
    with pytest.raises(StateTypeError, match=r"`linearize` .* but .* returned a Affine. Return its values"):
        gs.linearize(lambda affine: affine, affine)
    with pytest.raises(StateTypeError, match="`linearize` transforms a function"):
        gs.linearize(3, 1.0)


def test_a_failing_call_changes_nothing():
    affine = Affine()

    def fail(affine):
        affine(1.0)
        raise KeyError("user")

    with pytest.raises(KeyError, match="user"):
        gs.linearize(fail, affine)
    assert affine.calls.value == 0
