"""`vjp`; the oracle is plain JAX on a dict of the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import AliasError, FilterError, StateTypeError, TangentError
from tests.transform.derivatives import PARAMS, Affine, Tied, call, pure

CT = jnp.array([1.0, -1.0, 2.0])


def assert_same(ours, plain):
    """A GraphState and a dict, with what stands beside them."""
    for mine, theirs in zip(ours, plain, strict=True):
        if isinstance(mine, gs.GraphState):
            assert {path[0] for path in mine} == set(theirs)
            for path, leaf in mine.items():
                np.testing.assert_allclose(leaf, theirs[path[0]])
        else:
            np.testing.assert_allclose(mine, theirs)


def expected(params=PARAMS, x=2.0):
    value, pull_back = jax.vjp(pure, params, x)
    return value, pull_back(CT)


def test_value_and_cotangents_of_a_node_and_an_array():
    affine = Affine()
    value, pull_back = gs.vjp(call, affine, 2.0)
    np.testing.assert_allclose(value, expected()[0])
    assert_same(pull_back(CT), expected()[1])
    assert repr(pull_back) == "vjp of call"
    assert affine.calls.value == 1


def test_the_cotangent_of_a_state_is_like_its_value():
    state = gs.State({"a": jnp.arange(3.0), "b": jnp.float32(2.0)})
    _, pull_back = gs.vjp(lambda state, x: state.value["a"] * state.value["b"] * x, state, 3.0)
    of_state, of_x = pull_back(CT)
    np.testing.assert_array_equal(of_state["a"], 6 * CT)
    assert of_state["b"] == 9.0
    assert of_x == 6.0


def test_with_states_the_cotangents_are_a_pair():
    affine = Affine()
    states = affine.states(gs.ParamState)
    _, pull_back = gs.vjp(lambda x: affine(x), 2.0, states=states)
    of_states, of_arguments = pull_back(CT)
    assert_same((of_states, *of_arguments), expected()[1])
    _, pull_back = gs.vjp(lambda: affine.bias.value**2, states=affine.bias)
    assert pull_back(1.0) == (4.0, ())


def test_integers_and_keys_have_float0_cotangents():
    key = jax.random.key(0)
    value, pull_back = gs.vjp(lambda x, n, key: {"x": x * 2, "n": n}, 2.0, 3, key)
    of_x, of_n, of_key = pull_back({"x": 1.0, "n": np.zeros((), jax.dtypes.float0)})
    assert value["n"] == 3
    assert of_x == 2.0
    assert of_n.dtype == of_key.dtype == jax.dtypes.float0


def test_an_output_may_hold_graph_states():
    affine = Affine()
    value, pull_back = gs.vjp(lambda affine: {"s": gs.state(affine, gs.ParamState).map(jnp.square)}, affine)
    (of_affine,) = pull_back(value)
    np.testing.assert_array_equal(of_affine["weight"], 2 * PARAMS["weight"] ** 3)
    plain = gs.GraphState.from_dict({"weight": CT, "bias": jnp.float32(0.0)})
    np.testing.assert_array_equal(pull_back({"s": plain})[0]["weight"], 2 * PARAMS["weight"] * CT)


def test_aux_comes_last():
    affine = Affine()

    def function(affine, x):
        affine.last = x
        return affine(x), {"node": affine, "n": affine.calls.value, "key": gs.random.split_key()}

    _, pull_back, aux = gs.vjp(function, affine, 2.0, has_aux=True)
    assert_same(pull_back(CT), expected()[1])
    assert aux["node"] is affine
    assert aux["n"] == 1
    assert affine.last == 2.0


def test_tied_weights_have_one_cotangent():
    tied = Tied()
    _, pull_back = gs.vjp(lambda tied: tied(), tied)
    (of_tied,) = pull_back(1.0)
    assert list(of_tied) == [("first",)]
    np.testing.assert_allclose(of_tied["first"], 3 * tied.first.value**2)


def test_nodes_without_parameters_have_empty_cotangents():
    _, pull_back = gs.vjp(lambda affine, dropout: dropout(affine(2.0)), Affine(), gs.nn.Dropout(0.5, fit=False))
    of_affine, of_dropout = pull_back(CT)
    assert_same((of_affine,), expected()[1][:1])
    assert len(of_dropout) == 0


def test_written_states_keep_their_values_and_are_differentiated_at_the_old_ones():
    state = gs.ParamState(jnp.float32(3.0))

    def function():
        before = state.value
        state.value = before * 10
        return before * state.value

    value, pull_back = gs.vjp(function, states=state)
    assert (value, state.value) == (90.0, 30.0)
    assert pull_back(1.0) == (60.0, ())
    assert state.value == 30.0


def test_complex_functions_need_no_flag():
    _, pull_back = gs.vjp(lambda z: z**2, 1.0 + 2.0j)
    assert pull_back(1.0 + 0.0j) == jax.vjp(lambda z: z**2, 1.0 + 2.0j)[1](1.0 + 0.0j)


def test_dropout_is_pulled_back_through_as_it_was_drawn():
    dropout, rng = gs.nn.Dropout(0.5, fit=True), gs.random.DEFAULT
    value, pull_back = gs.vjp(lambda x: dropout(x), jnp.ones(8))
    after = rng.value
    np.testing.assert_array_equal(pull_back(jnp.ones(8))[0], value)
    np.testing.assert_array_equal(pull_back(jnp.ones(8))[0], value)
    assert rng.value == after


# The function that it returns


def test_it_belongs_to_the_values_at_the_time_of_the_call():
    affine = Affine()
    _, pull_back = gs.vjp(call, affine, 2.0)
    affine.weight.value = affine.weight.value * 10
    for _ in range(2):
        assert_same(pull_back(CT), expected()[1])
    assert affine.calls.value == 1


def test_numpy_arrays_that_change_later_are_not_followed():
    array = np.arange(3, dtype=np.float32)
    state = gs.State(array.copy())
    _, pull_back = gs.vjp(lambda state, x: state.value**2 * x**2, state, array)
    before = pull_back(CT)
    array[:] = 0
    state.value[:] = 0
    assert_same(pull_back(CT), before)


def test_it_may_be_called_inside_of_jit_and_is_a_dependency_there():
    affine = Affine()
    _, pull_back = gs.vjp(call, affine, 2.0)
    jitted = gs.jit(lambda ct: pull_back(ct))
    assert_same(jitted(CT), expected()[1])
    affine.weight.value = affine.weight.value * 10
    assert_same(jitted(CT), expected()[1])
    _, pull_back = gs.vjp(call, affine, 2.0)
    assert_same(jitted(CT), expected({**PARAMS, "weight": PARAMS["weight"] * 10})[1])


def test_it_is_passed_to_jitted_functions_and_returned_from_them():
    affine = Affine()
    make, apply = gs.jit(lambda affine, x: gs.vjp(call, affine, x)), gs.jit(lambda pull_back, ct: pull_back(ct))
    value, pull_back = make(affine, 2.0)
    np.testing.assert_allclose(value, expected()[0])
    assert_same(apply(pull_back, CT), expected()[1])
    assert_same(pull_back(CT), expected()[1])
    affine.weight.value = affine.weight.value * 10
    _, other = make(affine, 2.0)
    assert_same(apply(other, CT), expected({**PARAMS, "weight": PARAMS["weight"] * 10})[1])
    assert_same(apply(pull_back, CT), expected()[1])
    assert affine.calls.value == 2


def test_a_jitted_vjp_with_its_function_called_inside_is_never_stale():
    affine = Affine()

    @gs.jit
    def jitted(x):
        _, pull_back = gs.vjp(lambda x: affine(x), x, states=affine.states(gs.ParamState))
        of_states, (of_x,) = pull_back(CT)
        return of_states, of_x

    for factor in (1.0, 10.0):
        affine.weight.value = PARAMS["weight"] * factor
        assert_same(jitted(2.0), expected({**PARAMS, "weight": PARAMS["weight"] * factor})[1])
    assert affine.calls.value == 2


def test_many_cotangents_by_vmap():
    _, pull_back = gs.vjp(lambda x: jnp.sin(x) * jnp.arange(3.0), 2.0)
    (rows,) = gs.vmap(pull_back)(jnp.eye(3))
    np.testing.assert_allclose(rows, jax.jacrev(lambda x: jnp.sin(x) * jnp.arange(3.0))(2.0))


def test_a_gradient_goes_through_it():
    affine = Affine()

    def function(affine, x):
        _, pull_back = gs.vjp(lambda x: affine(x), x)
        return pull_back(CT)[0]

    plain = jax.grad(lambda params, x: jax.vjp(lambda x: pure(params, x), x)[1](CT)[0])(PARAMS, 2.0)
    assert_same((gs.grad(function)(affine, 2.0),), (plain,))
    assert affine.calls.value == 1


# Errors


@pytest.mark.parametrize(
    ("function", "cotangent", "message"),
    [
        (
            call,
            1.0,
            r"The function that `vjp` returned takes for `output` a cotangent of shape \(3,\) and dtype float32, but "
            r"was given one of shape \(\) and dtype float32. A cotangent has the shape and dtype of its value",
        ),
        (
            lambda affine, x: {"a": [affine(x)]},
            {"a": [1.0]},
            r"takes for `output\['a'\]\[0\]` a cotangent of shape \(3,\)",
        ),
        (
            lambda affine, x: {"a": affine(x)},
            {"b": CT},
            r"takes cotangents of the structure \({a: \*},\), but was given \({b: \*},\). It takes one argument, the "
            "cotangent of the output",
        ),
        (
            lambda affine, x: gs.state(affine, gs.ParamState),
            {"b": CT},
            r"takes for `output` a GraphState of cotangents, but was given a dict",
        ),
    ],
)
def test_a_cotangent_that_does_not_fit_is_an_error(function, cotangent, message):
    _, pull_back = gs.vjp(function, Affine(), 2.0)
    with pytest.raises(TangentError, match=message):
        pull_back(cotangent)


def test_it_takes_one_cotangent():
    _, pull_back = gs.vjp(lambda x: (x, x), 2.0)
    with pytest.raises(
        TangentError, match=r"of the structure \(\(\*, \*\),\), but was given \(\*, \*\). It takes one argument"
    ):
        pull_back(1.0, 2.0)


def test_what_cannot_be_differentiated_is_an_error():
    affine = Affine()
    with pytest.raises(FilterError, match=r"`vjp` .* wrt=HiddenState selects none in the arguments of `call`"):
        gs.vjp(call, affine, 1.0, wrt=gs.HiddenState)
    with pytest.raises(StateTypeError, match=r"but `affine.calls` has dtype int32. Select .* read it from the closure"):
        gs.vjp(call, affine, 1.0, wrt=gs.BatchState)
    with pytest.raises(StateTypeError, match=r"but `state` has dtype int32"):
        gs.vjp(lambda state: 1.0, affine.calls)
    with pytest.raises(AliasError, match=r"`a.bias` and `b.bias` are the same State: .*\(`wrt`, `states`\)"):
        gs.vjp(lambda a, b: a(1.0), affine, affine)
    with pytest.raises(StateTypeError, match=r"`vjp` .* but .* returned a Affine at \['a'\]. Return its values"):
        gs.vjp(lambda affine: {"a": affine}, affine)
    with pytest.raises(StateTypeError, match=r"returns the pair \(output, aux\), but it returned an array"):
        gs.vjp(call, affine, jnp.ones(3), has_aux=True)
    with pytest.raises(StateTypeError, match="`vjp` transforms a function"):
        gs.vjp(3, 1.0)
    assert affine.calls.value == 0


def test_a_failing_call_changes_nothing():
    affine, key = Affine(), gs.random.DEFAULT.value

    def fail(affine):
        affine(gs.random.normal())
        raise KeyError("user")

    with pytest.raises(KeyError, match="user"):
        gs.vjp(fail, affine)
    assert affine.calls.value == 0
    assert gs.random.DEFAULT.value == key
