"""`custom_vjp`; the oracle is `jax.custom_vjp` on arrays of the same values.

Every backward rule here is wrong on purpose (ten times too much, say): so it shows that it was asked.
"""

import gc
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate import environ
from graphstate.errors import AliasError, RuleError, StateTypeError, StructureError, TangentError, TraceContextError

X = jnp.array([1.0, -2.0, 3.0])


def with_rules(custom_vjp, function, fwd, bwd, **options):
    """A function with its rules."""
    ruled = custom_vjp(function, **options)
    ruled.defvjp(fwd, bwd)
    return ruled


def both(function, fwd, bwd, **options):
    """The same function with rules, of graphstate and of plain JAX."""
    return with_rules(gs.custom_vjp, function, fwd, bwd, **options), with_rules(
        jax.custom_vjp, function, fwd, bwd, **options
    )


def tenfold(function, **options):
    """A function of an array whose derivative is ten times its cotangent."""
    return with_rules(gs.custom_vjp, function, lambda x: (function(x), None), lambda _, ct: (10 * ct,), **options)


def assert_same(ours, plain):
    assert jax.tree.structure(ours) == jax.tree.structure(plain)
    for mine, theirs in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        dtype = jnp.result_type(mine)
        assert dtype == jnp.result_type(theirs)
        if dtype != jax.dtypes.float0:
            np.testing.assert_allclose(mine, theirs, rtol=1e-6)


class Scale(gs.Node):
    """Two parameters and a counter."""

    def __init__(self):
        self.weight = gs.ParamState(jnp.array([2.0, 3.0, 4.0]))
        self.bias = gs.ParamState(jnp.float32(1.0))
        self.calls = gs.BatchState(jnp.int32(0))

    def __call__(self, x):
        return self.weight.value * x + self.bias.value


@gs.custom_vjp
def scaled(scale, x):
    scale.calls.value = scale.calls.value + 1
    return scale(x)


def scaled_fwd(scale, x):
    return scaled(scale, x), (scale, x)


def scaled_bwd(kept, ct):
    scale, x = kept
    of_scale = gs.GraphState.from_dict(
        {"weight": 10 * ct * x, "bias": 20 * jnp.sum(ct)}, like=gs.state(scale, gs.ParamState)
    )
    return of_scale, 30 * ct * scale.weight.value


scaled.defvjp(scaled_fwd, scaled_bwd)


@jax.custom_vjp
def plain_scaled(params, x):
    return params["weight"] * x + params["bias"]


plain_scaled.defvjp(
    lambda params, x: (plain_scaled(params, x), (params, x)),
    lambda kept, ct: (
        {"weight": 10 * ct * kept[1], "bias": 20 * jnp.sum(ct)},
        30 * ct * kept[0]["weight"],
    ),
)
PARAMS = {"weight": jnp.array([2.0, 3.0, 4.0]), "bias": jnp.float32(1.0)}


def assert_like_plain(ours, plain):
    """A GraphState of `Scale`, and what stands beside it."""
    (of_scale, of_x), (of_params, of_plain_x) = ours, plain
    assert {path[0] for path in of_scale} == set(of_params)
    for path, leaf in of_scale.items():
        np.testing.assert_allclose(leaf, of_params[path[0]])
    np.testing.assert_allclose(of_x, of_plain_x)


# Arrays, as in plain JAX


def test_values_and_gradients_of_arrays_equal_those_of_plain_jax():
    ours, plain = both(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, ct: (ct * jnp.cos(x) * 10,))
    assert_same(ours(X), plain(X))
    assert_same(gs.grad(lambda x: ours(x).sum())(X), jax.grad(lambda x: plain(x).sum())(X))
    assert_same(jax.grad(lambda x: ours(x).sum())(X), jax.grad(lambda x: plain(x).sum())(X))


def test_arguments_and_results_may_be_pytrees():
    def function(pair, offset):
        return {"a": pair[0] * pair[1] + offset["b"], "n": jnp.int32(3)}

    def fwd(pair, offset):
        return function(pair, offset), (pair, offset)

    def bwd(kept, ct):
        (first, second), offset = kept
        assert ct["n"].dtype == jax.dtypes.float0
        return (ct["a"] * second * 10, ct["a"] * first), {"b": 7 * ct["a"], "c": jnp.zeros_like(offset["c"])}

    ours, plain = both(function, fwd, bwd)
    arguments = (X, 2 * X), {"b": X, "c": X}
    assert_same(
        gs.grad(lambda *args: ours(*args)["a"].sum(), (0, 1))(*arguments),
        jax.grad(lambda *args: plain(*args)["a"].sum(), (0, 1))(*arguments),
    )


def test_none_stands_for_a_cotangent_of_zero():
    ours, plain = both(
        lambda x, pair: x * pair[0], lambda x, pair: (x * pair[0], None), lambda _, ct: (None, (ct, None))
    )
    assert_same(gs.grad(ours, (0, 1))(2.0, (3.0, 4.0)), jax.grad(plain, (0, 1))(2.0, (3.0, 4.0)))


@pytest.mark.parametrize("of_int", [None, np.zeros((), jax.dtypes.float0)])
def test_integers_and_keys_have_no_cotangent(of_int):
    def function(x, n, key):
        return x * n + jax.random.uniform(key)

    ours, plain = both(function, lambda x, n, key: (function(x, n, key), n), lambda n, ct: (ct * n * 10, of_int, None))
    arguments = 2.0, 3, jax.random.key(0)
    assert_same(ours(*arguments), plain(*arguments))
    assert_same(gs.grad(ours)(*arguments), jax.grad(plain)(*arguments))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.complex64])
def test_every_inexact_dtype_works(dtype):
    ours, plain = both(lambda x: x * x, lambda x: (x * x, x), lambda x, ct: (ct * x * 3,))
    x = X.astype(dtype)
    value, pull_back = gs.vjp(ours, x)
    plain_value, plain_pull_back = jax.vjp(plain, x)
    assert_same(value, plain_value)
    assert_same(pull_back(x), plain_pull_back(x))


def test_a_backward_rule_may_return_weak_types():
    ours, plain = both(lambda x: x * 2, lambda x: (x * 2, None), lambda _, ct: (5.0,))
    assert_same(gs.grad(ours)(jnp.float32(1.0)), jax.grad(plain)(jnp.float32(1.0)))


@pytest.mark.parametrize("option", [{"nondiff_argnums": (0, 2)}, {"nondiff_argnames": ["power", "mode"]}])
def test_static_arguments_may_be_functions_strings_and_numbers(option):
    def function(power, x, mode):
        assert mode == "loud"
        return power(x)

    def fwd(power, x, mode):
        return function(power, x, mode), x

    def bwd(power, mode, x, ct):
        return (ct * power(x) * 10,)

    ours, plain = both(function, fwd, bwd, **option)
    assert_same(
        gs.grad(lambda x: ours(jnp.square, x, "loud").sum())(X),
        jax.grad(lambda x: plain(jnp.square, x, "loud").sum())(X),
    )
    ours, plain = both(
        lambda x, limit: x,
        lambda x, limit: (x, None),
        lambda limit, _, ct: (ct.clip(-limit, limit),),
        nondiff_argnums=(1,),
    )
    assert_same(gs.grad(lambda x: 9 * ours(x, 2.5))(1.0), jax.grad(lambda x: 9 * plain(x, 2.5))(1.0))


def test_keywords_and_defaults_are_arguments_by_position():
    def function(x, y=3.0, *rest):
        return x * y + sum(rest)

    def bwd(kept, ct):
        return tuple(10 * (number + 1) * ct for number in range(kept))

    ours, plain = both(function, lambda x, y=3.0, *rest: (function(x, y, *rest), 2 + len(rest)), bwd)
    assert_same(
        gs.grad(lambda x, y: ours(y=y, x=x), (0, 1))(1.0, 2.0), jax.grad(lambda x, y: plain(y=y, x=x), (0, 1))(1.0, 2.0)
    )
    assert_same(gs.grad(lambda x: ours(x=x))(1.0), jax.grad(lambda x: plain(x=x))(1.0))
    assert_same(gs.grad(ours, (0, 1, 2))(1.0, 2.0, 3.0), jax.grad(plain, (0, 1, 2))(1.0, 2.0, 3.0))


def test_both_orders_of_differentiation_use_the_rule():
    def make(custom_vjp):
        cube = custom_vjp(lambda x: x**3)
        cube.defvjp(lambda x: (cube(x), x), lambda x, ct: (ct * 5 * cube(x),))
        return cube

    ours, plain = make(gs.custom_vjp), make(jax.custom_vjp)
    for order in range(1, 4):
        mine, theirs = ours, plain
        for _ in range(order):
            mine, theirs = gs.grad(mine), jax.grad(theirs)
        assert_same(mine(2.0), theirs(2.0))
        assert_same(gs.jit(mine)(2.0), theirs(2.0))


@pytest.mark.parametrize("jit", [gs.jit, jax.jit], ids=["graphstate", "jax"])
def test_a_rule_that_calls_the_function_compiled_leaves_nothing_in_its_cache(jit):
    def make(custom_vjp, jit):
        square = custom_vjp(lambda x: x * x)
        compiled = jit(square)
        square.defvjp(lambda x: (compiled(x), x), lambda x, ct: (ct * 100 * compiled(x),))
        return square, compiled

    (ours, compiled), (plain, _) = make(gs.custom_vjp, jit), make(jax.custom_vjp, jax.jit)
    for function in (ours, compiled):
        assert_same(gs.jit(gs.grad(function))(3.0), jax.grad(plain)(3.0))
        assert_same(gs.grad(function)(3.0), jax.grad(plain)(3.0))
        assert_same(gs.grad(gs.grad(function))(3.0), jax.grad(jax.grad(plain))(3.0))


@pytest.mark.parametrize(
    "jit",
    [
        pytest.param(gs.jit, id="graphstate"),
        pytest.param(jax.jit, id="jax", marks=pytest.mark.no_leak_check("JAX keeps what such a call closes over")),
    ],
)
def test_so_it_is_where_a_rule_reads_more_states_than_the_function(jit):
    factor = gs.State(jnp.float32(2.0))
    square = gs.custom_vjp(lambda x: x * x)
    compiled = jit(square)
    square.defvjp(lambda x: (compiled(x), x), lambda x, ct: (ct * factor.value * compiled(x),))
    for value in (2.0, 5.0):
        factor.value = jnp.float32(value)
        for function in (square, compiled) if jit is gs.jit else (square,):
            assert gs.grad(function)(3.0) == 9 * value
            assert gs.grad(gs.grad(function))(3.0) == 9 * value**2
            assert gs.jit(gs.grad(gs.grad(function)))(3.0) == 9 * value**2


def test_rules_may_call_the_function_with_other_static_arguments_without_end():
    def make(custom_vjp):
        wave = custom_vjp(lambda order, x: jnp.sin(x + order * jnp.pi / 2), nondiff_argnums=(0,))
        wave.defvjp(lambda order, x: (wave(order, x), x), lambda order, x, ct: (10 * ct * wave(order + 1, x),))
        return wave

    ours, plain = make(gs.custom_vjp), make(jax.custom_vjp)
    mine, theirs = lambda x: ours(0, x), lambda x: plain(0, x)
    for _ in range(3):
        assert_same(gs.jit(mine)(0.3), theirs(0.3))
        mine, theirs = gs.grad(mine), jax.grad(theirs)


def test_a_function_may_call_itself_and_its_rules_too_with_other_shapes():
    def make(custom_vjp):
        @custom_vjp
        def total(x):
            return x[0] + 2 * total(x[1:]) if len(x) else jnp.float32(0.0)

        def bwd(x, ct):
            return (jnp.append(ct + 0 * total(x[1:]), 3 * jax.grad(total)(x[1:])) if len(x) else x,)

        total.defvjp(lambda x: (total(x), x), bwd)
        return total

    ours, plain = make(gs.custom_vjp), make(jax.custom_vjp)
    assert_same(gs.grad(ours)(X), jax.grad(plain)(X))
    assert_same(gs.jit(ours)(X), plain(X))


def test_a_forward_rule_may_call_the_function_with_swapped_arguments():
    def make(custom_vjp):
        ratio = custom_vjp(lambda x, y: x / y)
        ratio.defvjp(
            lambda x, y: (1 / ratio(y, x), (ratio(y, x), x)),
            lambda kept, ct: (ct * kept[0], 2 * ct * ratio(kept[1], kept[0])),
        )
        return ratio

    ours, plain = make(gs.custom_vjp), make(jax.custom_vjp)
    assert_same(gs.value_and_grad(ours, (0, 1))(3.0, 4.0), jax.value_and_grad(plain, (0, 1))(3.0, 4.0))
    assert_same(
        gs.hessian(lambda x: ours(x, 4.0)) and gs.grad(gs.grad(ours))(3.0, 4.0), jax.grad(jax.grad(plain))(3.0, 4.0)
    )


def test_rules_may_call_each_other():
    def make(custom_vjp):
        sine, cosine = custom_vjp(lambda x: jnp.sin(x)), custom_vjp(lambda x: jnp.cos(x))
        sine.defvjp(lambda x: (sine(x), x), lambda x, ct: (2 * ct * cosine(x),))
        cosine.defvjp(lambda x: (cosine(x), x), lambda x, ct: (-3 * ct * sine(x),))
        return sine

    mine, theirs = make(gs.custom_vjp), make(jax.custom_vjp)
    for _ in range(4):
        assert_same(gs.jit(mine)(0.3), theirs(0.3))
        mine, theirs = gs.grad(mine), jax.grad(theirs)


# Nodes and States


def test_the_cotangent_of_a_node_is_a_graphstate():
    scale = Scale()
    value = scaled(scale, X)
    np.testing.assert_allclose(value, plain_scaled(PARAMS, X))
    ours = gs.grad(lambda scale, x: scaled(scale, x).sum(), (0, 1))(scale, X)
    assert_like_plain(ours, jax.grad(lambda params, x: plain_scaled(params, x).sum(), (0, 1))(PARAMS, X))
    assert scale.calls.value == 2


TRANSFORMED = {
    "jit inside": (lambda f: lambda s, x: gs.jit(f)(s, x), lambda f: f),
    "checkpoint": (lambda f: gs.checkpoint(f), lambda f: f),
    "checkpoint with a policy": (
        lambda f: gs.checkpoint(f, policy=jax.checkpoint_policies.everything_saveable),
        lambda f: f,
    ),
    "cond": (lambda f: lambda s, x: gs.cond(x.sum() > 0, f, lambda s, x: x, s, x), lambda f: f),
    "for_loop": (
        lambda f: lambda s, x: gs.for_loop(lambda row: f(s, row), jnp.stack([x, 2 * x])),
        lambda f: lambda s, x: jnp.stack([f(s, x), f(s, 2 * x)]),
    ),
    "scan": (
        lambda f: lambda s, x: gs.scan(lambda c, row: (c * f(s, row), None), x, jnp.stack([x, 2 * x]))[0],
        lambda f: lambda s, x: x * f(s, x) * f(s, 2 * x),
    ),
    "fori_loop": (
        lambda f: lambda s, x: gs.fori_loop(0, 2, lambda i, c: c * f(s, x), x),
        lambda f: lambda s, x: x * f(s, x) ** 2,
    ),
    "vmap": (
        lambda f: lambda s, x: gs.vmap(lambda row: f(s, row))(jnp.stack([x, 2 * x])),
        lambda f: lambda s, x: jnp.stack([f(s, x), f(s, 2 * x)]),
    ),
    "map": (
        lambda f: lambda s, x: gs.map(lambda row: f(s, row), jnp.stack([x, 2 * x])),
        lambda f: lambda s, x: jnp.stack([f(s, x), f(s, 2 * x)]),
    ),
    "switch": (lambda f: lambda s, x: gs.switch(1, [lambda s, x: x, f], s, x), lambda f: f),
    "named_scope": (lambda f: gs.named_scope("scope")(f), lambda f: f),
    "checkify": (lambda f: lambda s, x: gs.checkify(f)(s, x)[1], lambda f: f),
    "custom_vjp": (
        lambda f: with_rules(
            gs.custom_vjp, lambda s, x: f(s, x), lambda s, x: gs.vjp(f, s, x), lambda pull, ct: pull(ct)
        ),
        lambda f: f,
    ),
}


@pytest.mark.parametrize("name", TRANSFORMED)
@pytest.mark.parametrize("is_compiled", [False, True], ids=["eager", "compiled"])
def test_the_rule_holds_in_every_transform(name, is_compiled):
    wrap, wrap_plain = TRANSFORMED[name]
    inner, plain_inner = wrap(scaled), wrap_plain(plain_scaled)
    derivative = gs.grad(lambda scale, x: inner(scale, x).sum(), (0, 1))
    scale = Scale()
    ours = (gs.jit(derivative) if is_compiled else derivative)(scale, X)
    assert_like_plain(ours, jax.grad(lambda params, x: plain_inner(params, x).sum(), (0, 1))(PARAMS, X))
    assert scale.calls.value >= 1


def test_per_example_gradients_count_once():
    scale, rows = Scale(), jnp.stack([X, 2 * X])
    of_scale = gs.vmap(gs.grad(lambda scale, x: scaled(scale, x).sum()), in_axes=(None, 0))(scale, rows)
    plain = jax.vmap(jax.grad(lambda params, x: plain_scaled(params, x).sum()), in_axes=(None, 0))(PARAMS, rows)
    np.testing.assert_allclose(of_scale["weight"], plain["weight"])
    np.testing.assert_allclose(of_scale["bias"], plain["bias"])
    assert scale.calls.value == 1


def test_members_of_an_ensemble_have_their_own_gradients():
    stacked = gs.stack([Scale(), Scale()])
    stacked.weight.value = stacked.weight.value * jnp.array([[1.0], [5.0]])
    _, of_x = gs.vmap(gs.grad(lambda scale, x: scaled(scale, x).sum(), (0, 1)), in_axes=(0, None))(stacked, X)
    np.testing.assert_allclose(of_x, 30 * stacked.weight.value)
    np.testing.assert_array_equal(stacked.calls.value, [1, 1])
    gs.vmap(gs.grad(lambda x: scaled(stacked, x).sum()), state_in_axes=..., axis_size=2, in_axes=None)(X)
    np.testing.assert_array_equal(stacked.calls.value, [2, 2])


def test_methods_are_decorated_in_the_class_body():
    class Gate(gs.Node):
        def __init__(self):
            self.weight = gs.ParamState(2.0)

        @gs.custom_vjp(nondiff_argnames="mode")
        def gate(self, x, mode="soft"):
            return self.weight.value * x

        def fwd(self, x, mode):
            return self.gate(x, mode), (self, x)

        def bwd(mode, kept, ct):  # noqa: N805
            self, x = kept
            return gs.state(self, gs.ParamState).map(lambda _: ct * x * 10), ct * 20 * self.weight.value

        gate.defvjp(fwd, bwd)

    gate = Gate()
    assert gate.gate(3.0, mode="hard") == 6.0
    of_gate, of_x = gs.grad(lambda gate, x: gate.gate(x), (0, 1))(gate, 3.0)
    assert (of_gate["weight"], of_x) == (30.0, 40.0)
    assert gs.jit(gs.grad(lambda x: gate.gate(x, mode="hard")))(3.0) == 40.0


def test_the_cotangent_of_a_state_is_like_its_value():
    state = gs.State({"a": X, "n": jnp.float32(2.0)})
    function = with_rules(
        gs.custom_vjp,
        lambda state, x: state.value["a"].sum() * x,
        lambda state, x: (function(state, x), state),
        lambda state, ct: ({"a": state.value["a"] * ct, "n": None}, 5 * ct),
        wrt=gs.State,
    )
    of_state, of_x = gs.grad(lambda state, x: function(state, x), (0, 1))(state, 3.0)
    np.testing.assert_array_equal(of_state["a"], X)
    assert (of_state["n"], of_x) == (0.0, 5.0)


def test_closed_over_states_are_named_by_states():
    scale, offset = Scale(), gs.State(jnp.float32(1.0))
    for states, cotangents in [
        (scale.bias, lambda ct: 10 * ct),
        ({"b": scale.bias, "o": offset}, lambda ct: {"b": 10 * ct, "o": 7 * ct}),
        (
            scale.states(gs.ParamState),
            lambda ct: jax.tree.map(lambda x: 10 * ct + 0 * x, gs.state(scale, gs.ParamState)),
        ),
    ]:

        def function(x):
            return jnp.sum(scale(x)) + offset.value

        def fwd(x, function=function):
            return function(x), None

        def bwd(_, ct, cotangents=cotangents):
            return cotangents(ct), (3 * ct * jnp.ones(3),)

        ruled = with_rules(gs.custom_vjp, function, fwd, bwd, states=states)
        for transform in (lambda f: f, gs.jit):
            of_states, of_x = transform(gs.grad(lambda x, ruled=ruled: ruled(x), 0, states=states))(X)
            expected = jax.tree.map(lambda x: x, cotangents(jnp.float32(1.0)))
            np.testing.assert_array_equal(of_x, 3 * jnp.ones(3))
            assert_same(of_states, expected)


def test_a_declared_state_that_came_in_as_an_argument_is_the_same_state():
    weight = gs.ParamState(3.0)
    function = with_rules(
        gs.custom_vjp,
        lambda x: x * weight.value,
        lambda x: (function(x), x),
        lambda x, ct: (100 * ct * x, (1000 * ct * weight.value,)),
        states=weight,
    )
    derivative = gs.jit(lambda weight: gs.grad(lambda x: function(x), 0, states=weight)(2.0))
    assert derivative(weight) == (200.0, 3000.0)
    assert gs.grad(lambda x, weight: function(x) + weight.value, (0, 1))(2.0, weight) == (3000.0, 201.0)


def test_tied_weights_add_up_once():
    class Tied(gs.Node):
        def __init__(self):
            self.first = self.second = gs.ParamState(2.0)

    function = with_rules(
        gs.custom_vjp,
        lambda a, b, x: a.first.value * b.second.value * x,
        lambda a, b, x: (function(a, b, x), (a, b)),
        lambda kept, ct: (
            gs.state(kept[0], gs.ParamState).map(lambda _: 10 * ct),
            gs.state(kept[1], gs.ParamState).map(lambda _: 10 * ct),
            None,
        ),
    )
    first, second = Tied(), Tied()
    assert gs.grad(lambda tied: function(tied, second, 1.0))(first)["first"] == 10.0
    assert list(gs.grad(lambda tied: function(tied, second, 1.0))(first)) == [("first",)]
    with pytest.raises(AliasError, match=r"`a.first` and `b.first` are the same State"):
        gs.grad(lambda tied: function(tied, tied, 1.0))(first)


def test_residuals_may_be_nodes_states_linear_maps_and_share_parts():
    scale = Scale()

    def fwd(scale, x):
        result, pull_back = gs.vjp(lambda scale, x: scale(x), scale, x)
        return result, {"node": scale, "weight": scale.weight, "again": [scale], "map": pull_back, "x": x, "none": None}

    def bwd(kept, ct):
        assert kept["again"][0] is kept["node"]
        assert kept["node"].weight is kept["weight"]
        assert kept["none"] is None
        of_scale, of_x = kept["map"](ct)
        return of_scale, of_x * kept["weight"].value * kept["x"]

    function = with_rules(gs.custom_vjp, lambda scale, x: scale(x), fwd, bwd)
    for derivative in (gs.grad, lambda f, n: gs.jit(gs.grad(f, n))):
        of_scale, of_x = derivative(lambda scale, x: function(scale, x).sum(), (0, 1))(scale, X)
        np.testing.assert_allclose(of_scale["weight"], X)
        np.testing.assert_allclose(of_x, scale.weight.value**2 * X)


def test_a_residual_is_what_it_was_in_the_forward_rule():
    state = gs.State(jnp.float32(2.0))

    def fwd(x):
        return x * 1.0, (gs.State(x * 100), state)

    function = with_rules(
        gs.custom_vjp, lambda x: x * 1.0, fwd, lambda kept, ct: (ct * (kept[0].value + kept[1].value),)
    )

    def loss(x):
        y = function(x)
        state.value = x * 0 + 9.0
        return y

    assert gs.grad(loss)(3.0) == 302.0
    assert state.value == 9.0


def test_a_rule_keeps_no_node_alive():
    def pull_back_of_a_call():
        scale = Scale()
        return weakref.ref(scale), gs.vjp(lambda x: scaled(scale, x), X)[1]

    scale, pull_back = pull_back_of_a_call()
    gc.collect()
    assert scale() is None
    np.testing.assert_allclose(pull_back(X)[0], 30 * X * PARAMS["weight"])


@pytest.mark.parametrize("mode", ["vjp", "jvp"])
def test_a_compiled_function_keeps_no_state_alive_that_one_with_rules_has_written(mode):
    @gs.jit
    def call(count, x):
        def function(x):
            count.value = count.value + 1
            return 2 * x

        if mode == "vjp":
            ruled = with_rules(gs.custom_vjp, function, lambda x: (function(x), None), lambda _, ct: (3 * ct,))
        else:
            ruled = gs.custom_jvp(function)
            ruled.defjvp(lambda primals, tangents: (function(*primals), 3 * tangents[0]))
        return gs.grad(ruled)(x)

    count = gs.State(jnp.int32(0))
    assert call(count, 1.0) == 3.0
    assert count.value == 1
    state = weakref.ref(count)
    del count
    gc.collect()
    assert state() is None


def test_members_read_their_own_states_in_the_backward_rule():
    factor = gs.State(jnp.arange(1.0, 4.0))
    ruled = with_rules(gs.custom_vjp, lambda x: x * 1.0, lambda x: (x * 1.0, None), lambda _, ct: (ct * factor.value,))
    derivative = gs.vmap(gs.grad(ruled), state_in_axes=gs.State)
    for transform in (lambda f: f, gs.jit):
        np.testing.assert_array_equal(transform(derivative)(X), [1.0, 2.0, 3.0])


# Writes and draws


def test_writes_are_committed_once_with_and_without_differentiation():
    scale = Scale()
    scaled(scale, X)
    gs.grad(lambda x: scaled(scale, x).sum())(X)
    gs.jit(scaled)(scale, X)
    gs.jit(gs.grad(lambda scale, x: scaled(scale, x).sum()))(scale, X)
    gs.vjp(lambda x: scaled(scale, x), X)[1](X)
    assert scale.calls.value == 5
    gs.for_loop(lambda x: scaled(scale, x), jnp.stack([X] * 3))
    gs.grad(lambda x: gs.for_loop(lambda x: scaled(scale, x), x).sum())(jnp.stack([X] * 3))
    assert scale.calls.value == 11


def test_a_forward_rule_may_write_in_another_order():
    first, second, node = gs.State(0.0), gs.State(jnp.zeros(2)), Scale()

    def function(node, x):
        first.value = x
        second.value = x * jnp.ones(2)
        node.calls.value = jnp.int32(5)
        node.bias.value = x * 7
        return x * 1.0

    def fwd(node, x):
        node.bias.value = x * 7
        second.value = x * jnp.ones(2)
        node.calls.value = jnp.int32(5)
        first.value = x
        return x * 1.0, None

    ruled = with_rules(gs.custom_vjp, function, fwd, lambda _, ct: (None, 10 * ct))
    for number, transform in enumerate((lambda f: f, gs.jit)):
        assert transform(gs.grad(lambda x: ruled(node, x)))(3.0 + number) == 10.0
        assert (first.value, node.calls.value, node.bias.value) == (3.0 + number, 5, 21.0 + 7 * number)
        np.testing.assert_array_equal(second.value, [3.0 + number] * 2)


def test_float_counters_are_carried_by_loops():
    count = gs.State(jnp.float32(0.0))

    def function(x):
        count.value = count.value + 1.0
        return x * 2

    ruled = with_rules(gs.custom_vjp, function, lambda x: (ruled(x), None), lambda _, ct: (10 * ct,))
    for derivative in (gs.grad, lambda f: gs.jit(gs.grad(f))):
        before = count.value
        np.testing.assert_array_equal(derivative(lambda x: gs.for_loop(ruled, x).sum())(X), [10.0] * 3)
        assert count.value == before + 3


@pytest.mark.parametrize(
    ("transform", "factor"),
    [(lambda f: f, 1), (gs.jit, 1), (gs.grad, 10), (lambda f: gs.jit(gs.grad(f)), 10)],
    ids=["call", "jit", "grad", "jit of grad"],
)
def test_draws_advance_a_stream_once_and_alike(transform, factor):
    stream, same = gs.random.RandomState(0), gs.random.RandomState(0)

    def fwd(x):
        y = ruled(x)
        return y, y / x

    ruled = with_rules(gs.custom_vjp, lambda x: x * stream.normal(), fwd, lambda noise, ct: (10 * ct * noise,))
    np.testing.assert_allclose(transform(ruled)(2.0), (2.0 if factor == 1 else 10.0) * same.normal(), rtol=1e-6)
    assert stream.value == same.value


def test_lanes_draw_differently_and_the_stream_advances_once():
    def function(x):
        return x * gs.random.normal()

    def fwd(x):
        noise = gs.random.normal()
        return x * noise, noise

    ruled = with_rules(gs.custom_vjp, function, fwd, lambda noise, ct: (ct * noise,))
    gs.random.seed(0)
    gradients = gs.vmap(gs.grad(ruled))(X)
    after = gs.random.DEFAULT.value
    gs.random.seed(0)
    np.testing.assert_allclose(gradients, gs.vmap(lambda x: function(x) / x)(X), rtol=1e-6)
    assert after == gs.random.DEFAULT.value


def test_the_backward_rule_reads_what_states_were_at_the_call():
    factor = gs.State(jnp.float32(2.0))
    ruled = with_rules(gs.custom_vjp, lambda x: x * 1.0, lambda x: (x * 1.0, None), lambda _, ct: (ct * factor.value,))

    def loss(x):
        first = ruled(x)
        factor.value = jnp.float32(5.0)
        return first + ruled(x)

    assert gs.grad(loss)(1.0) == 7.0
    factor.value = jnp.float32(2.0)
    _, pull_back = gs.vjp(ruled, 1.0)
    factor.value = jnp.float32(3.0)
    assert pull_back(1.0) == (2.0,)
    derivative = gs.jit(gs.grad(ruled))
    assert derivative(1.0) == 3.0
    factor.value = jnp.float32(4.0)
    assert derivative(1.0) == 4.0


def test_the_environment_holds_in_the_rules():
    def function(x):
        return x * (3.0 if environ.get("fit") else 2.0)

    def fwd(x):
        with environ.context(fit=True):
            return ruled(x), None

    ruled = with_rules(gs.custom_vjp, function, fwd, lambda _, ct: (ct * (30.0 if environ.get("fit") else 20.0),))
    derivative = gs.jit(gs.value_and_grad(ruled))
    assert derivative(1.0) == gs.value_and_grad(ruled)(1.0) == (3.0, 20.0)
    with environ.context(fit=True):
        assert derivative(1.0) == gs.value_and_grad(ruled)(1.0) == (3.0, 30.0)


def test_a_state_that_adds_up_in_a_loop_is_no_concern_of_the_rule():
    total = gs.State(jnp.float32(0.0))

    def function(x):
        total.value = total.value + x
        return x * 1.0

    ruled = with_rules(gs.custom_vjp, function, lambda x: (ruled(x), None), lambda _, ct: (10 * ct,))
    for transform in (lambda f: f, gs.jit):
        total.value = jnp.float32(0.0)
        assert transform(gs.grad(lambda x: gs.for_loop(lambda y: ruled(x * y), jnp.ones(3)).sum()))(2.0) == 30.0
        assert total.value == 6.0


def test_collectives_may_stand_in_function_and_rules():
    def make(custom_vjp):
        return with_rules(
            custom_vjp,
            lambda x: jax.lax.psum(x * x, "lanes"),
            lambda x: (jax.lax.psum(x * x, "lanes"), x),
            lambda x, ct: (jax.lax.pmean(ct * x, "lanes") * 10,),
        )

    ours = gs.vmap(gs.grad(make(gs.custom_vjp)), axis_name="lanes")(X)
    assert_same(ours, jax.vmap(jax.grad(make(jax.custom_vjp)), axis_name="lanes")(X))


def test_stop_gradient_makes_what_is_written_no_concern_of_the_rule():
    kept = gs.State(jnp.float32(0.0))

    def function(x):
        kept.value = jax.lax.stop_gradient(x * 3)
        return x * 1.0

    ruled = with_rules(gs.custom_vjp, function, lambda x: (ruled(x), None), lambda _, ct: (10 * ct,))
    for transform in (lambda f: f, gs.jit):
        assert transform(gs.grad(lambda x: ruled(x) + kept.value))(2.0) == 10.0
        assert kept.value == 6.0


# How often the user's code runs


@pytest.mark.no_leak_check("it counts traces")
def test_a_call_that_is_traced_traces_the_function_and_each_rule_once():
    runs = []

    def function(x):
        runs.append("function")
        return x * 1.0

    def fwd(x):
        runs.append("fwd")
        return ruled(x), None

    def bwd(_, ct):
        runs.append("bwd")
        return (ct,)

    ruled = with_rules(gs.custom_vjp, function, fwd, bwd)
    ruled(1.0)
    assert runs == ["function"]
    for call, argument in ((gs.grad(ruled), 1.0), (gs.jit(ruled), 1.0), (gs.vmap(ruled), X)):
        runs.clear()
        call(argument)
        assert runs == ["function", "fwd", "bwd"]
    compiled = gs.jit(gs.grad(ruled))
    compiled(1.0)
    runs.clear()
    compiled(2.0)
    assert runs == []


def test_effects_happen_once():
    seen = []

    def function(x):
        jax.debug.callback(lambda x: seen.append(float(x)), x)
        return jax.pure_callback(lambda x: np.float32(x * 2), jax.ShapeDtypeStruct((), jnp.float32), x)

    ruled = with_rules(gs.custom_vjp, function, lambda x: (ruled(x), None), lambda _, ct: (10 * ct,))
    for call in (ruled, gs.grad(ruled), gs.jit(ruled), gs.jit(gs.grad(ruled))):
        seen.clear()
        call(jnp.float32(1.5))
        jax.effects_barrier()
        assert seen == [1.5]


def test_two_threads_may_trace_at_once():
    scales, failures = [Scale(), Scale()], []

    def work(number):
        try:
            for _ in range(3):
                of_x = gs.grad(lambda x: scaled(scales[number], x).sum())(X)
                np.testing.assert_allclose(of_x, 30 * scales[number].weight.value)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [scale.calls.value for scale in scales] == [3, 3]


# Errors


def test_a_derivative_by_a_setting_is_refused():
    ruled = with_rules(
        gs.custom_vjp, lambda x: x * environ.get("scale"), lambda x: (ruled(x), None), lambda _, ct: (10 * ct,)
    )

    def loss(scale, x):
        with environ.context(scale=scale):
            return ruled(x)

    assert gs.grad(loss, 1)(jnp.float32(2.0), 3.0) == 10.0
    with pytest.raises(RuleError, match="by the setting 'scale' is wanted, but its rules do not know it"):
        gs.grad(loss)(jnp.float32(2.0), 3.0)


def test_a_derivative_by_a_state_that_is_not_declared_is_refused():
    weight = gs.ParamState(3.0)
    ruled = tenfold(lambda x: x * weight.value)
    assert gs.grad(ruled)(2.0) == 10.0
    for transform in (lambda f: f, gs.jit):
        with pytest.raises(
            RuleError, match=r"derivative of `.*lambda.*` by `weight` is wanted, but its rules do not know"
        ):
            transform(gs.grad(lambda x: ruled(x), states=weight))(2.0)


def test_a_derivative_by_a_state_that_wrt_leaves_out_is_refused():
    node = Scale()
    node.hidden = gs.HiddenState(jnp.float32(1.0))
    ruled = with_rules(
        gs.custom_vjp,
        lambda node, x: node.weight.value.sum() * x + node.hidden.value,
        lambda node, x: (ruled(node, x), None),
        lambda _, ct: (None, 10 * ct),
    )

    def loss(x):
        node.hidden.value = x * 2
        return ruled(node, x)

    with pytest.raises(RuleError, match=r"by `node\.hidden` is wanted.*Select it with `wrt` of `custom_vjp`"):
        gs.grad(loss)(1.0)


def test_a_derivative_by_an_array_that_is_closed_over_is_refused_by_jax():
    def outer(x):
        return with_rules(gs.custom_vjp, lambda y: y * x, lambda y: (y * x, None), lambda _, ct: (ct,))(2.0)

    with pytest.raises(Exception, match=r"UnexpectedTracer|unexpected tracer|closed-over|escape|leak"):
        gs.grad(outer)(3.0)


def test_a_loss_through_a_state_that_was_written_is_refused_or_nan():
    kept = gs.State(jnp.float32(0.0))

    def function(x):
        kept.value = x * 3
        return x * 1.0

    ruled = with_rules(gs.custom_vjp, function, lambda x: (ruled(x), None), lambda _, ct: (10 * ct,))
    with pytest.raises(RuleError, match=r"A loss depends on `kept`, which .* wrote: its rules say the derivative"):
        gs.grad(lambda x: ruled(x) + kept.value)(2.0)
    assert kept.value == 0.0
    assert jnp.isnan(gs.jit(gs.grad(lambda x: ruled(x) + kept.value))(2.0))
    assert gs.jit(gs.grad(ruled))(2.0) == gs.grad(ruled)(2.0) == 10.0


def test_function_and_forward_rule_write_the_same_states():
    state = gs.State(jnp.float32(0.0))

    def write(x):
        state.value = x * 1.0
        return x * 1.0

    ruled = with_rules(gs.custom_vjp, write, lambda x: (x * 1.0, None), lambda _, ct: (ct,))
    with pytest.raises(RuleError, match="must write the same States, but only the function writes `state`"):
        gs.grad(ruled)(2.0)
    ruled = with_rules(gs.custom_vjp, lambda x: x * 1.0, lambda x: (write(x), None), lambda _, ct: (ct,))
    with pytest.raises(RuleError, match=r"only its forward rule writes `state`.*would depend on whether somebody"):
        gs.grad(ruled)(2.0)
    assert state.value == 0.0


def test_the_values_written_are_alike():
    state = gs.State(jnp.float32(0.0))

    def function(x):
        state.value = x * 1.0
        return x * 1.0

    def fwd(x):
        state.value = x * jnp.ones(2)
        return x * 1.0, None

    with pytest.raises(
        RuleError, match=r"the value written to `state` is float32\[\] in the function and float32\[2\]"
    ):
        gs.grad(with_rules(gs.custom_vjp, function, fwd, lambda _, ct: (ct,)))(2.0)


def write_state(state):
    state.value = jnp.float32(1.0)


@pytest.mark.parametrize(
    ("fwd", "bwd", "error", "match"),
    [
        (
            lambda x: x * 2,
            lambda _, ct: (ct,),
            RuleError,
            "returns the pair .result, residuals., but it returned an array",
        ),
        (
            lambda x: (x, 1),
            lambda _, ct: ct,
            RuleError,
            "returns a tuple with a cotangent .* each of the 1 arguments, but",
        ),
        (lambda x: (x, 1), lambda _, ct: (ct, ct), RuleError, "each of the 1 arguments, but it returned a tuple of 2"),
        (lambda x: (x, 1), lambda _, ct: (jnp.ones(3),), TangentError, r"takes for `x` a cotangent of shape \(\)"),
        (
            lambda x: ((x, x), 1),
            lambda _, ct: (ct,),
            RuleError,
            r"gives the result of the function, PyTreeDef\(\*\), but",
        ),
        (
            lambda x: (x * jnp.ones(3), 1),
            lambda _, ct: (ct,),
            RuleError,
            r"the result is float32\[\] in the function and",
        ),
    ],
)
def test_rules_return_what_was_agreed(fwd, bwd, error, match):
    for transform in (lambda f: f, gs.jit):
        with pytest.raises(error, match=match):
            transform(gs.grad(with_rules(gs.custom_vjp, lambda x: x * 1.0, fwd, bwd)))(jnp.float32(2.0))


def test_a_backward_rule_writes_nothing_and_draws_nothing():
    state, stream = gs.State(jnp.float32(0.0)), gs.random.RandomState(0)
    for bwd in (lambda _, ct: (write_state(state) or ct,), lambda _, ct: (ct * stream.normal(),)):
        with pytest.raises(RuleError, match=r"The backward rule of .* wrote `(state|stream)` .*drawing writes, too"):
            gs.grad(with_rules(gs.custom_vjp, lambda x: x * 1.0, lambda x: (x * 1.0, None), bwd))(2.0)
    assert state.value == 0.0


def test_with_states_a_backward_rule_returns_a_pair():
    weight = gs.ParamState(3.0)
    ruled = with_rules(
        gs.custom_vjp, lambda x: x * weight.value, lambda x: (x * weight.value, None), lambda _, ct: ct, states=weight
    )
    with pytest.raises(
        RuleError, match=r"returns the pair \(cotangents of `states`, tuple of those of the arguments\)"
    ):
        gs.grad(lambda x: ruled(x))(2.0)


def test_the_cotangent_of_a_node_is_no_dict():
    ruled = with_rules(gs.custom_vjp, lambda s, x: s(x), lambda s, x: (s(x), None), lambda _, ct: ({}, ct))
    with pytest.raises(TangentError, match="takes for `s` a GraphState of cotangents, but was given a dict"):
        gs.grad(lambda x: ruled(Scale(), x).sum())(X)


def test_a_function_without_rules_says_so():
    with pytest.raises(RuleError, match=r"has no rule yet. Define it: `f.defvjp\(fwd, bwd\)`"):
        gs.custom_vjp(lambda x: x)(1.0)
    with pytest.raises(RuleError, match=r"A rule of .* is a function, but it is '3' of type int"):
        gs.custom_vjp(lambda x: x).defvjp(3, lambda _, ct: ct)
    with pytest.raises(StateTypeError, match="`custom_vjp` transforms a function, but it was given '3' of type int"):
        gs.custom_vjp(3)


def test_a_function_returns_arrays():
    ruled = tenfold(lambda x: gs.State(x))
    with pytest.raises(RuleError, match=r"A function of `custom_vjp` returns arrays, but .* returned a State"):
        gs.jit(ruled)(1.0)


def test_arguments_fit_the_function():
    ruled = tenfold(lambda x: x)
    with pytest.raises(StateTypeError, match="take its arguments by position, but those of this call do not fit it"):
        ruled(1.0, y=2.0)
    with pytest.raises(StateTypeError, match="it has some that are passed by name only: 'y'"):
        with_rules(gs.custom_vjp, lambda x, *, y: x, lambda x: (x, None), lambda _, ct: (ct,))(1.0, y=2.0)
    with pytest.raises(StateTypeError, match=r"`nondiff_argnames` names 'z', but .* has the parameters \['x'\]"):
        gs.custom_vjp(lambda x: x, nondiff_argnames="z")
    with pytest.raises(StateTypeError, match=r"argument `x` of .* is 'text' of type str"):
        ruled("text")
    with pytest.raises(gs.errors.AxisError, match="`nondiff_argnums` has 3, but"):
        tenfold(lambda x: x, nondiff_argnums=3)(1.0)


def test_the_structure_of_a_node_stays_as_it_is():
    scale = Scale()

    def function(scale, x):
        scale.extra = x
        return x * 1.0

    ruled = with_rules(gs.custom_vjp, function, lambda s, x: (ruled(s, x), None), lambda _, ct: (None, ct))
    with pytest.raises(StructureError, match=r"changed inside of `custom_vjp` .*\n  scale.extra: missing -> array"):
        gs.grad(lambda x: ruled(scale, x))(1.0)
    closed = tenfold(lambda x: setattr(scale, "extra", 3) or x * 1.0)
    with pytest.raises(TraceContextError, match=r"was changed inside|pass it as an argument|as an argument"):
        gs.grad(closed)(1.0)
    assert not hasattr(scale, "extra")


def test_a_rule_cannot_differentiate_its_own_function():
    ruled = with_rules(gs.custom_vjp, lambda x: x * x, lambda x: (ruled(x), x), lambda x, ct: (ct * gs.grad(ruled)(x),))
    with pytest.raises(RuleError, match=r"A rule of .* differentiates .* itself, for which it would need that rule"):
        gs.grad(ruled)(2.0)


def test_the_rule_of_a_call_by_a_rule_reads_no_further_states():
    factor = gs.State(jnp.float32(2.0))
    ruled = with_rules(
        gs.custom_vjp,
        lambda order, x: x**order,
        lambda order, x: (ruled(order, x), x),
        lambda order, x, ct: (ct * factor.value * ruled(order - 1, x),),
        nondiff_argnums=0,
    )
    assert gs.grad(lambda x: ruled(3, x))(2.0) == 8.0
    with pytest.raises(RuleError, match="the rule of that call reads `factor`, which the function does not read"):
        gs.grad(gs.grad(lambda x: ruled(3, x)))(2.0)


def test_an_exception_leaves_everything_as_it_was():
    scale, stream = Scale(), gs.random.RandomState(0)
    before = stream.value

    def function(scale, x):
        scale.calls.value = jnp.int32(9)
        stream.normal()
        return x * 1.0

    for fwd, bwd in [
        (lambda s, x: 1 / 0, lambda _, ct: (None, ct)),
        (lambda s, x: (function(s, x), None), lambda _, ct: 1 / 0),
    ]:
        ruled = with_rules(gs.custom_vjp, function, fwd, bwd)
        for transform in (gs.grad, lambda f, n: gs.jit(gs.grad(f, n))):
            with pytest.raises(ZeroDivisionError):
                transform(lambda s, x, ruled=ruled: ruled(s, x), 1)(scale, 1.0)
    assert scale.calls.value == 0
    assert stream.value == before


def test_a_rule_that_fails_is_no_obstacle_where_nobody_differentiates():
    function = gs.custom_vjp(lambda x: 2 * x)

    def backward(_, cotangent):
        raise NotImplementedError("no gradient yet")

    function.defvjp(lambda x: (function(x), None), backward)
    assert gs.jit(function)(3.0) == 6.0
    assert gs.vmap(function)(jnp.ones(2)).tolist() == [2.0, 2.0]
    with pytest.raises(NotImplementedError, match="no gradient yet"):
        gs.jit(gs.grad(function))(3.0)


def test_a_backward_rule_without_residuals_serves_a_model_with_a_stream_in_a_lane():
    model = gs.nn.Linear(1, 1)
    model.rng = gs.random.RandomState(0)

    @gs.custom_vjp
    def apply(model, x):
        return model(x)

    apply.defvjp(lambda model, x: (apply(model, x), None), lambda _, cotangent: (None, 3 * cotangent))
    x = jnp.ones((2, 1))
    gradients = gs.vmap(gs.grad(lambda model, x: apply(model, x).sum(), 1), in_axes=(None, 0))(model, x)
    np.testing.assert_array_equal(gradients, 3 * x)
