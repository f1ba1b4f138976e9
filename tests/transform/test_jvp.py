"""`jvp`; the oracle is plain JAX on a dict of the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import AliasError, FilterError, StateTypeError, TangentError
from tests.transform.derivatives import PARAMS, Affine, Tied, call, pure

FLOAT0 = np.zeros((), jax.dtypes.float0)
TANGENT = {"weight": jnp.array([1.0, -1.0, 2.0]), "bias": jnp.float32(0.5)}


def tangent(affine):
    return gs.GraphState.from_dict(TANGENT, like=affine)


def test_value_and_tangent_of_a_node_and_an_array():
    affine = Affine()
    expected = jax.jvp(pure, (PARAMS, 2.0), (TANGENT, 3.0))
    for primals, tangents in ([affine, 2.0], [tangent(affine), 3.0]), ((affine, 2.0), (tangent(affine), 3.0)):
        result = gs.jvp(call, primals, tangents)
        np.testing.assert_allclose(result, expected)
    assert affine.calls.value == 2


def test_a_tangent_may_have_its_paths_in_any_order_and_of_any_type():
    affine = Affine()
    result = gs.jvp(call, (affine, 2.0), (gs.GraphState.from_dict(TANGENT), 3.0))
    np.testing.assert_allclose(result, jax.jvp(pure, (PARAMS, 2.0), (TANGENT, 3.0)))


def test_the_tangent_of_a_state_is_like_its_value():
    state = gs.State({"a": jnp.arange(3.0), "b": jnp.float32(2.0)})
    direction = {"a": jnp.ones(3), "b": jnp.float32(1.0)}
    expected = jax.jvp(lambda v: v["a"] * v["b"], (state.value,), (direction,))
    np.testing.assert_allclose(gs.jvp(lambda s: s.value["a"] * s.value["b"], (state,), (direction,)), expected)


def test_with_states_the_tangents_are_a_pair():
    affine = Affine()
    expected = jax.jvp(pure, (PARAMS, 2.0), (TANGENT, 3.0))
    states = affine.states(gs.ParamState)
    for tangents in (tangent(affine), (3.0,)), [tangent(affine), [3.0]]:
        np.testing.assert_allclose(gs.jvp(lambda x: affine(x), (2.0,), tangents, states=states), expected)
    value, derivative = gs.jvp(lambda: affine.bias.value**2, (), (1.0, ()), states=affine.bias)
    assert (value, derivative) == (4.0, 4.0)


def test_outputs_are_pytrees_and_integers_have_float0_tangents():
    def function(affine, x, n):
        return {"y": affine(x), "state": gs.state(affine, gs.ParamState), "n": n}

    affine = Affine()
    value, derivative = gs.jvp(function, (affine, 2.0, 3), (tangent(affine), 0.0, FLOAT0))
    assert value["n"] == 3
    assert derivative["n"].dtype == jax.dtypes.float0
    assert isinstance(derivative["state"], gs.GraphState)
    np.testing.assert_array_equal(derivative["state"]["weight"], TANGENT["weight"])


def test_aux_comes_last():
    affine = Affine()

    def function(affine, x):
        affine.last = x
        return affine(x), {"node": affine, "n": affine.calls.value, "key": gs.random.split_key()}

    value, derivative, aux = gs.jvp(function, (affine, 2.0), (tangent(affine), 0.0), has_aux=True)
    np.testing.assert_allclose((value, derivative), jax.jvp(pure, (PARAMS, 2.0), (TANGENT, 0.0)))
    assert aux["node"] is affine
    assert aux["n"] == 1
    assert affine.last == 2.0


def test_written_states_keep_their_values_and_are_differentiated_at_the_old_ones():
    state = gs.ParamState(jnp.float32(3.0))

    def function():
        before = state.value
        state.value = before * 10
        return before * state.value

    assert gs.jvp(function, (), (1.0, ()), states=state) == (90.0, 60.0)
    assert state.value == 30.0


def test_random_draws_advance_the_stream_once():
    rng, expected = gs.random.RandomState(0), gs.random.RandomState(0)
    value, derivative = gs.jvp(lambda x: x * rng.normal(), (2.0,), (1.0,))
    assert derivative == expected.normal()
    assert value == 2 * derivative
    assert rng.value == expected.value


def test_tied_weights_have_one_tangent():
    tied = Tied()
    direction = gs.GraphState.from_dict({"first": jnp.ones(2)}, like=tied)
    expected = jax.jvp(lambda w: jnp.sum(w**3), (tied.first.value,), (jnp.ones(2),))
    np.testing.assert_allclose(gs.jvp(lambda tied: tied(), (tied,), (direction,)), expected)


def test_holomorphic_functions_need_no_flag():
    expected = jax.jvp(lambda z: z**2, (1.0 + 2.0j,), (1.0j,))
    assert gs.jvp(lambda z: z**2, (1.0 + 2.0j,), (1.0j,)) == expected


def test_the_product_of_a_hessian_with_a_vector():
    affine = Affine()
    gradient = gs.grad(lambda affine: affine(2.0).sum())
    value, product = gs.jvp(gradient, (affine,), (tangent(affine),))
    expected = jax.jvp(jax.grad(lambda params: pure(params, 2.0).sum()), (PARAMS,), (TANGENT,))
    for key in PARAMS:
        np.testing.assert_allclose(value[key], expected[0][key])
        np.testing.assert_allclose(product[key], expected[1][key])
    assert affine.calls.value == 1


def test_methods_are_functions_of_the_closure():
    affine = Affine()
    value, derivative = gs.jvp(affine.__call__, (2.0,), (1.0,))
    np.testing.assert_allclose((value, derivative), jax.jvp(lambda x: pure(PARAMS, x), (2.0,), (1.0,)))
    assert affine.calls.value == 1


def test_a_jitted_jvp_is_never_stale():
    affine = Affine()
    jitted = gs.jit(lambda x, t: gs.jvp(lambda x: affine(x), (x,), (t,)))
    for factor in (1.0, 10.0):
        affine.weight.value = PARAMS["weight"] * factor
        params = {**PARAMS, "weight": PARAMS["weight"] * factor}
        np.testing.assert_allclose(jitted(2.0, 3.0), jax.jvp(lambda x, p=params: pure(p, x), (2.0,), (3.0,)))
    assert affine.calls.value == 2


def test_many_tangents_by_vmap():
    affine = Affine()
    directions = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), tangent(affine))
    push = gs.vmap(lambda t: gs.jvp(call, (affine, 2.0), (t, 0.0))[1])
    _, one = jax.jvp(pure, (PARAMS, 2.0), (TANGENT, 0.0))
    np.testing.assert_allclose(push(directions), [one, 2 * one])
    assert affine.calls.value == 1


# Errors


@pytest.mark.parametrize(
    ("tangents", "message"),
    [
        (
            lambda affine: (tangent(affine),),
            r"`jvp` takes tangents of the structure \(GraphState\[bias, weight\], \*\), but was given "
            r"\(GraphState\[bias, weight\],\). The one of a Node is a GraphState of the States that `wrt` selects",
        ),
        (lambda affine: 3.0, r"but was given \*\. The one of a Node"),
        (
            lambda affine: (TANGENT, 1.0),
            r"`jvp` takes for `affine` a GraphState of tangents, but was given a dict. `graphstate.state\(node, wrt\)` "
            r"has such paths; `GraphState.from_dict` makes one of a dict",
        ),
        (lambda affine: (affine, 1.0), r"but was given a Affine"),
        (
            lambda affine: (gs.state(affine, gs.BatchState), 1.0),
            r"(?s)but was given one of other paths:.*missing: bias.*missing: weight.*extra: calls",
        ),
        (
            lambda affine: (tangent(affine).map(lambda leaf: jnp.ones(7)), 1.0),
            r"`jvp` takes for `affine.bias` a tangent of shape \(\) and dtype float32, but was given one of shape "
            r"\(7,\) and dtype float32. A tangent has the shape and dtype of its value",
        ),
        (
            lambda affine: (tangent(affine), 1),
            r"takes for `x` a tangent of shape \(\) and dtype float32, but was given one of shape \(\) and dtype int32",
        ),
        (
            lambda affine: (tangent(affine).map(lambda leaf: [leaf]), 1.0),
            r"takes for `affine.bias` a tangent like its value, \* with arrays for \*, but was given a list. "
            "`jax.tree.map` over the value makes one",
        ),
        (lambda affine: (tangent(affine), "text"), r"takes for `x` a tangent like its value, .* but was given a str"),
        (
            lambda affine: (tangent(affine), affine.bias),
            r"but was given a ParamState. A tangent holds values, no Nodes or States: take `.value`",
        ),
    ],
)
def test_tangents_that_do_not_fit_are_an_error(tangents, message):
    affine = Affine()
    with pytest.raises(TangentError, match=message):
        gs.jvp(call, (affine, 2.0), tangents(affine))
    assert affine.calls.value == 0


def test_a_graph_state_among_the_primals_has_tangents_of_its_own_types():
    state = gs.state(Affine(), gs.ParamState)
    value, derivative = gs.jvp(lambda s: s["weight"] * s["bias"], (state,), (state,))
    np.testing.assert_array_equal(derivative, 2 * value)
    with pytest.raises(
        TangentError,
        match=r"but was given GraphStates of other types, tags or metadata \(`GraphState.from_dict\(.*like=",
    ):
        gs.jvp(lambda s: s["weight"], (state,), (gs.GraphState.from_dict(TANGENT),))


def test_the_tangent_of_an_integer_is_float0():
    with pytest.raises(
        TangentError,
        match=r"takes for `n` a tangent of shape \(2,\) and dtype float0, but was given one of shape \(2,\) and dtype "
        r"int32. That of an integer, a bool or a key is `np.zeros\(\(2,\), jax.dtypes.float0\)`",
    ):
        gs.jvp(lambda n: n, (jnp.arange(2),), (jnp.arange(2),))


def test_primals_that_are_no_tuple_are_an_error():
    with pytest.raises(
        TangentError,
        match=r"`jvp` takes primals and tangents as tuples or lists .* but the primals are an array of shape \(2,\). "
        r"Write `jvp\(function, \(x,\), \(tangent,\)\)`",
    ):
        gs.jvp(call, jnp.ones(2), jnp.ones(2))


def test_what_cannot_be_differentiated_is_an_error():
    affine = Affine()
    with pytest.raises(
        FilterError,
        match=r"`jvp` .* but wrt=HiddenState selects none in the arguments of `call`. Pass another `wrt`, or read them "
        "from the closure",
    ):
        gs.jvp(call, (affine, 1.0), (tangent(affine), 1.0), wrt=gs.HiddenState)
    with pytest.raises(
        StateTypeError, match=r"`affine.calls` has dtype int32. Select .* `wrt` \(or read it from the closure\)"
    ):
        gs.jvp(call, (affine, 1.0), (tangent(affine), 1.0), wrt=gs.BatchState)
    with pytest.raises(
        AliasError, match=r"`a.bias` and `b.bias` are the same State: .* out of one of them \(`wrt`, `states`\)"
    ):
        gs.jvp(lambda a, b: a(1.0), (affine, affine), (tangent(affine), tangent(affine)))
    with pytest.raises(StateTypeError, match=r"`jvp` differentiates a pytree of arrays, but .* returned a Affine\. "):
        gs.jvp(lambda affine: affine, (affine,), (tangent(affine),))
    with pytest.raises(StateTypeError, match="`jvp` transforms a function"):
        gs.jvp(3, (1.0,), (1.0,))


def test_a_failing_call_changes_nothing():
    affine = Affine()

    def fail(affine):
        affine(1.0)
        raise KeyError("user")

    with pytest.raises(KeyError, match="user"):
        gs.jvp(fail, (affine,), (tangent(affine),))
    assert affine.calls.value == 0
