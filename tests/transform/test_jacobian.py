"""`vector_grad`, `jacrev`, `jacfwd` and `hessian`; the oracle is plain JAX on a dict of the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import AliasError, BatchAxisError, FilterError, StateTypeError
from tests.transform.derivatives import PARAMS, Affine, Tied, call, pure

DENSE = [(gs.jacrev, jax.jacrev), (gs.jacfwd, jax.jacfwd), (gs.hessian, jax.hessian)]
EAGER = pytest.mark.no_leak_check("runs very many eager operations, in the oracle too")
ALL = [gs.jacrev, gs.jacfwd, gs.hessian, gs.vector_grad]


def assert_same(ours, plain):
    """The same arrays; GraphStates are compared with dicts."""
    if isinstance(plain, dict):
        assert {path[0] if isinstance(path, tuple) else path for path in ours} == set(plain)
        for key in plain:
            assert_same(ours[key], plain[key])
    elif isinstance(plain, tuple | list):
        assert type(ours) is type(plain)
        for mine, theirs in zip(ours, plain, strict=True):
            assert_same(mine, theirs)
    else:
        assert ours.dtype == plain.dtype
        np.testing.assert_allclose(ours, plain, rtol=1e-6)


# What comes out


@EAGER
@pytest.mark.parametrize(("ours", "plain"), DENSE)
def test_the_derivative_by_a_node_is_a_graph_state_in_each_leaf_of_the_output(ours, plain):
    affine = Affine()
    result = ours(lambda affine, x: {"y": affine(x), "sum": (affine(x).sum(),)})(affine, 2.0)
    expected = plain(lambda params, x: {"y": pure(params, x), "sum": (pure(params, x).sum(),)})(PARAMS, 2.0)
    assert isinstance(result["y"], gs.GraphState)
    assert_same(result, expected)
    assert affine.calls.value == 2


def test_a_hessian_is_a_graph_state_of_graph_states():
    hessian = gs.hessian(lambda affine, x: affine(x).sum())(Affine(), 2.0)
    assert isinstance(hessian["weight"], gs.GraphState)
    np.testing.assert_allclose(hessian["weight"]["weight"], np.diag([8.0, 8.0, 8.0]))
    assert hessian["bias"]["weight"].shape == (3,)


@EAGER
@pytest.mark.parametrize(("ours", "plain"), DENSE)
@pytest.mark.parametrize("argnums", [0, 1, -1, (0,), (1, 0), [0, 1]])
def test_argnums_are_those_of_jax(ours, plain, argnums):
    def function(params, x):
        return pure(params, x)

    assert_same(ours(call, argnums=argnums)(Affine(), 2.0), plain(pure, argnums)(PARAMS, 2.0))
    assert_same(ours(function, argnums=argnums)(PARAMS, 2.0), plain(function, argnums)(PARAMS, 2.0))


@EAGER
@pytest.mark.parametrize(("ours", "plain"), DENSE)
def test_the_derivative_by_a_state_is_like_its_value(ours, plain):
    state = gs.State({"a": jnp.arange(1.0, 3.0), "b": jnp.float32(3.0)})
    expected = plain(lambda v: v["a"] ** 2 * v["b"])(state.value)
    assert_same(ours(lambda state: state.value["a"] ** 2 * state.value["b"])(state), expected)
    assert_same(ours(lambda: state.value["a"] ** 2 * state.value["b"], states=state)(), expected)


@EAGER
@pytest.mark.parametrize(("ours", "plain"), DENSE)
def test_closed_over_states_are_differentiated_by_name_and_give_a_pair_with_arguments(ours, plain):
    affine = Affine()
    states = affine.states(gs.ParamState)
    assert_same(ours(lambda x: affine(x), states=states)(2.0), plain(pure)(PARAMS, 2.0))
    assert_same(ours(lambda x: affine(x), argnums=0, states=states)(2.0), plain(pure, (0, 1))(PARAMS, 2.0))
    assert affine.calls.value == 2


@pytest.mark.parametrize("ours", ALL)
def test_wrt_selects_other_states(ours):
    result = ours(call, wrt=lambda path, state: path == ("bias",))(Affine(), 2.0)
    assert list(result) == [("bias",)]


@EAGER
@pytest.mark.parametrize(("ours", "plain"), DENSE)
def test_an_output_may_hold_graph_states(ours, plain):
    def squares(affine):
        return gs.state(affine, gs.ParamState).map(lambda leaf: leaf**2)

    expected = plain(lambda params: {key: leaf**2 for key, leaf in params.items()})(PARAMS)
    assert_same(ours(squares)(Affine()), expected)


@EAGER
@pytest.mark.parametrize(("ours", "plain"), DENSE)
def test_the_derivatives_by_tied_weights_add_up_once(ours, plain):
    tied = Tied()
    result = ours(lambda tied: tied())(tied)
    assert list(result) == [("first",)]
    assert_same(result, plain(lambda params: jnp.sum(params["first"] ** 3))({"first": tied.first.value}))


@EAGER
def test_vector_grad_has_a_row_for_each_output():
    affine, x = Affine(), jnp.arange(3.0)

    def losses(affine, x):
        return jnp.stack([affine(each).sum() for each in x]), affine.calls.value

    gradients, calls = gs.vector_grad(losses, argnums=(0, 1), has_aux=True)(affine, x)
    rows = [jax.grad(lambda params, each: pure(params, each).sum())(PARAMS, each) for each in x]
    assert_same(gradients[0], jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows))
    assert gradients[1].shape == (3, 3)
    assert calls == affine.calls.value == 3


@EAGER
@pytest.mark.parametrize(("ours", "plain"), DENSE)
def test_holomorphic_functions(ours, plain):
    expected = plain(lambda z: z**3, holomorphic=True)(1.0 + 2.0j)
    assert_same(ours(lambda z: z**3, holomorphic=True)(1.0 + 2.0j), expected)
    state = gs.State(jnp.complex64(1.0 + 2.0j))
    np.testing.assert_allclose(ours(lambda: state.value**3, states=state, holomorphic=True)(), expected)


def test_integers_are_differentiated_where_that_is_allowed():
    expected = jax.jacrev(lambda n: n.astype(float) * jnp.ones(2), allow_int=True)(jnp.arange(1)[0])
    result = gs.jacrev(lambda n: n.astype(float) * jnp.ones(2), allow_int=True)(jnp.arange(1)[0])
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    gradient = gs.grad(lambda affine: affine.bias.value * 2, wrt=..., allow_int=True)(Affine())
    assert gradient["calls"].dtype == jax.dtypes.float0
    assert gradient["bias"] == 2.0


# Calls


@pytest.mark.parametrize("ours", ALL)
def test_the_function_runs_once_and_writes_once(ours):
    affine, runs = Affine(), []

    def function(affine, x):
        runs.append(1)
        before = affine.weight.value
        affine.weight.value = before * 10
        affine.seen = x
        return before * x

    result = ours(function)(affine, 2.0)
    assert len(runs) == 1
    np.testing.assert_array_equal(affine.weight.value, [10.0, 20.0, 30.0])
    assert affine.seen == 2.0
    if ours is gs.hessian:
        assert not np.any(result["weight"]["weight"])
    else:
        np.testing.assert_array_equal(result["weight"], 2 * np.eye(3))


@pytest.mark.parametrize("ours", ALL)
def test_aux_may_hold_integers_keys_and_nodes(ours):
    affine = Affine()

    def function(affine, x):
        aux = {"node": affine, "n": affine.calls.value, "key": gs.random.split_key(), "new": gs.State(x * 2)}
        return affine(x), aux

    key = gs.random.DEFAULT.value
    result, aux = ours(function, has_aux=True)(affine, 2.0)
    assert isinstance(result, gs.GraphState)
    assert aux["node"] is affine
    assert aux["n"] == 0
    assert aux["key"].dtype == key.dtype
    assert aux["new"].value == 4.0


@pytest.mark.parametrize("ours", ALL)
def test_dropout_draws_once_and_is_differentiated_as_it_was_drawn(ours):
    dropout, weight = gs.nn.Dropout(0.5, fit=True), gs.ParamState(jnp.arange(1.0, 9.0))
    rng = gs.random.DEFAULT
    rng.seed(1)
    mask = dropout(jnp.ones(8))
    after = rng.value
    rng.seed(1)
    result = ours(lambda: dropout(weight.value**2), states=weight)()
    assert rng.value == after
    if ours is gs.hessian:
        np.testing.assert_allclose(result.sum(axis=(1, 2)), 2 * mask)
    else:
        np.testing.assert_allclose(result, np.diag(2 * mask * weight.value))


@pytest.mark.parametrize("ours", ALL)
def test_a_failing_call_changes_nothing(ours):
    affine, key = Affine(), gs.random.DEFAULT.value

    def fail(affine, x):
        affine(x)
        affine.flag = gs.random.normal()
        raise KeyError("user")

    with pytest.raises(KeyError, match="user"):
        ours(fail)(affine, 2.0)
    with pytest.raises(StateTypeError):
        ours(lambda affine, x: {"y": affine(x), "n": affine.calls.value})(affine, 2.0)
    assert affine.calls.value == 0
    assert not hasattr(affine, "flag")
    assert gs.random.DEFAULT.value == key


def test_keyword_arguments_methods_and_decorators():
    class Model(gs.Node):
        def __init__(self):
            self.weight = gs.ParamState(jnp.float32(3.0))

        @gs.jacrev
        def by_self(self, x):
            return self.weight.value**2 * x

        @gs.jacfwd(argnums=1)
        def by_x(self, x, *, factor):
            return self.weight.value * x * factor

    model = Model()
    np.testing.assert_array_equal(model.by_self(jnp.ones(2))["weight"], [6.0, 6.0])
    assert model.by_x(1.0, factor=2.0) == 6.0
    assert Model.by_self.__name__ == "by_self"
    assert repr(gs.hessian(call)) == "hessian(call)"


# With other transforms


@EAGER
@pytest.mark.parametrize(("ours", "plain"), DENSE)
def test_a_jitted_derivative_is_never_stale(ours, plain):
    affine = Affine()
    by_argument = gs.jit(ours(call, argnums=(0, 1)))
    by_closure = gs.jit(lambda x: ours(lambda x: affine(x), argnums=0, states=affine.states(gs.ParamState))(x))
    for factor in (1.0, 10.0):
        affine.weight.value = PARAMS["weight"] * factor
        expected = plain(pure, (0, 1))({**PARAMS, "weight": PARAMS["weight"] * factor}, 2.0)
        assert_same(by_argument(affine, 2.0), expected)
        assert_same(by_closure(2.0), expected)
    assert affine.calls.value == 4


@EAGER
@pytest.mark.parametrize(("ours", "plain"), DENSE)
def test_derivatives_are_mapped_over_examples(ours, plain):
    affine, xs = Affine(), jnp.arange(4.0)
    expected = jax.vmap(plain(pure, (0, 1)), in_axes=(None, 0))(PARAMS, xs)
    assert_same(gs.vmap(ours(call, argnums=(0, 1)), in_axes=(None, 0))(affine, xs), expected)
    assert affine.calls.value == 1
    mapped = gs.vmap(call, in_axes=(None, 0))
    expected = plain(jax.vmap(pure, in_axes=(None, 0)))(PARAMS, xs)
    assert_same(ours(mapped)(affine, xs), expected)


@pytest.mark.parametrize("ours", ALL)
def test_lanes_draw_as_they_do_without_the_derivative(ours):
    dropout, rng = gs.nn.Dropout(0.5, fit=True), gs.random.DEFAULT
    rng.seed(2)
    expected = gs.vmap(lambda x: dropout(x * jnp.ones(8)))(jnp.ones(3))
    after = rng.value
    rng.seed(2)
    result = gs.vmap(ours(lambda x: dropout(x**2 / 2 * jnp.ones(8))))(jnp.ones(3))
    np.testing.assert_array_equal(result, expected)
    assert rng.value == after


@pytest.mark.parametrize("ours", ALL)
def test_a_write_that_depends_on_the_lane_is_found(ours):
    affine = Affine()

    def function(affine, x):
        affine.bias.value = x
        return affine(x)

    with pytest.raises(BatchAxisError, match=r"`affine.bias`"):
        gs.vmap(ours(function), in_axes=(None, 0))(affine, jnp.arange(3.0))
    assert affine.bias.value == 2.0


@EAGER
@pytest.mark.parametrize("ours", [gs.jacrev, gs.jacfwd, gs.hessian])
def test_loops_and_branches_inside_carry_their_states(ours):
    affine = Affine()

    def looped(affine, x):
        gs.for_loop(lambda y: affine(y).sum(), jnp.stack([x, 2 * x]))
        return gs.cond(x > 0, lambda: affine(x), lambda: affine(-x))

    assert_same(ours(looped)(affine, 2.0), ours(pure)(PARAMS, 2.0))
    assert affine.calls.value == 3


# Errors


@EAGER
@pytest.mark.parametrize("ours", [gs.jacrev, gs.jacfwd, gs.hessian])
def test_an_output_that_holds_no_floats_is_an_error(ours):
    name = ours.__name__
    with pytest.raises(
        StateTypeError,
        match=rf"`{name}` differentiates a pytree of arrays, but .* returned a Affine at \['a'\]. Return its values "
        r"\(`graphstate.state\(node\)`, `state.value`\), or the object itself in aux, with has_aux=True",
    ):
        ours(lambda affine: {"a": affine})(Affine())
    with pytest.raises(
        StateTypeError,
        match=rf"`{name}` differentiates real and complex arrays, but .* returned one of dtype int32 at \['n'\]. "
        "Return it in aux, with has_aux=True",
    ):
        ours(lambda affine: {"n": affine.calls.value})(Affine())
    with pytest.raises(StateTypeError, match=r"but there is none in what .* returned. Return one"):
        ours(lambda affine: None)(Affine())
    with pytest.raises(StateTypeError, match=r"its result at \['a'\] is 'text' of type str"):
        ours(lambda affine: {"a": "text"})(Affine())
    with pytest.raises(StateTypeError, match=r"With has_aux=True .* returns the pair \(output, aux\), but it returned"):
        ours(lambda affine: affine.bias.value, has_aux=True)(Affine())


def test_vector_grad_takes_a_vector_of_floats():
    with pytest.raises(
        StateTypeError,
        match=r"`vector_grad` differentiates a vector of floats, but .* returned an array of shape \(\). Flatten it "
        r"\(`jnp.ravel`\), differentiate a scalar with `grad`, or a pytree of arrays with `jacrev`",
    ):
        gs.vector_grad(lambda x: x)(1.0)
    with pytest.raises(StateTypeError, match=r"returned an array of shape \(2, 1\)"):
        gs.vector_grad(lambda x: x)(jnp.ones((2, 1)))
    with pytest.raises(StateTypeError, match=r"returned a dict. Flatten it"):
        gs.vector_grad(lambda x: {"x": x})(jnp.ones(2))
    with pytest.raises(StateTypeError, match=r"returned a Affine. Flatten it"):
        gs.vector_grad(lambda x: x)(Affine())
    with pytest.raises(StateTypeError, match=r"returned one of dtype int32. Convert it"):
        gs.vector_grad(lambda x: jnp.arange(2))(1.0)
    with pytest.raises(StateTypeError, match=r"returned one of dtype complex64. .* `jacrev` with holomorphic=True"):
        gs.vector_grad(lambda x: x.astype(complex))(jnp.ones(2))


@pytest.mark.parametrize("ours", ALL)
def test_what_cannot_be_differentiated_is_an_error(ours):
    name, affine = ours.__name__, Affine()
    with pytest.raises(FilterError, match=rf"`{name}` .* but wrt=HiddenState selects none in argument 0 of `call`"):
        ours(call, wrt=gs.HiddenState)(affine, 1.0)
    with pytest.raises(StateTypeError, match=r"but `affine.calls` has dtype int32"):
        ours(call, wrt=gs.BatchState)(affine, 1.0)
    with pytest.raises(AliasError, match=r"`a.bias` and `b.bias` are the same State: .*\(`wrt`, `argnums`, `states`\)"):
        ours(lambda a, b: a(1.0), argnums=(0, 1))(affine, affine)
    with pytest.raises(StateTypeError, match=f"`{name}` transforms a function"):
        ours(3)
