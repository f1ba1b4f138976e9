"""`custom_jvp`; the oracle is `jax.custom_jvp` on arrays of the same values.

Every rule here is wrong on purpose (ten times too much, say): so it shows that it was asked.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate import environ
from graphstate.errors import RuleError, StructureError, TangentError

X = jnp.array([1.0, -2.0, 3.0])


def with_rule(custom_jvp, function, rule, **options):
    """A function with its rule."""
    ruled = custom_jvp(function, **options)
    ruled.defjvp(rule)
    return ruled


def both(function, rule, **options):
    """The same function with a rule, of graphstate and of plain JAX."""
    return with_rule(gs.custom_jvp, function, rule, **options), with_rule(jax.custom_jvp, function, rule, **options)


def assert_same(ours, plain):
    assert jax.tree.structure(ours) == jax.tree.structure(plain)
    for mine, theirs in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        dtype = jnp.result_type(mine)
        assert dtype == jnp.result_type(theirs)
        if dtype != jax.dtypes.float0:
            np.testing.assert_allclose(mine, theirs, rtol=1e-6)


class Scale(gs.Node):
    """A parameter and a counter."""

    def __init__(self):
        self.weight = gs.ParamState(jnp.array([2.0, 3.0, 4.0]))
        self.calls = gs.BatchState(jnp.int32(0))


@gs.custom_jvp
def scaled(scale, x):
    scale.calls.value = scale.calls.value + 1
    return scale.weight.value * x


@scaled.defjvp
def scaled_rule(primals, tangents):
    (scale, x), (of_scale, of_x) = primals, tangents
    return scaled(scale, x), 10 * of_scale["weight"] * x + 20 * scale.weight.value * of_x


@jax.custom_jvp
def plain_scaled(weight, x):
    return weight * x


@plain_scaled.defjvp
def plain_rule(primals, tangents):
    (weight, x), (of_weight, of_x) = primals, tangents
    return plain_scaled(weight, x), 10 * of_weight * x + 20 * weight * of_x


WEIGHT = jnp.array([2.0, 3.0, 4.0])


# Arrays, as in plain JAX


def test_values_and_derivatives_of_arrays_equal_those_of_plain_jax():
    ours, plain = both(jnp.sin, lambda primals, tangents: (jnp.sin(primals[0]), 10 * jnp.cos(primals[0]) * tangents[0]))
    assert_same(ours(X), plain(X))
    assert_same(gs.jvp(ours, (X,), (X,)), jax.jvp(plain, (X,), (X,)))
    assert_same(gs.jacfwd(ours)(X), jax.jacfwd(plain)(X))
    assert_same(gs.jacrev(ours)(X), jax.jacrev(plain)(X))
    assert_same(gs.hessian(lambda x: ours(x).sum())(X), jax.hessian(lambda x: plain(x).sum())(X))
    assert_same(gs.grad(lambda x: ours(x).sum())(X), jax.grad(lambda x: plain(x).sum())(X))
    assert_same(gs.linearize(ours, X)[1](X), jax.linearize(plain, X)[1](X))
    assert_same(gs.vjp(ours, X)[1](X), jax.vjp(plain, X)[1](X))
    assert_same(jax.jvp(ours, (X,), (X,)), jax.jvp(plain, (X,), (X,)))


def test_pytrees_integers_and_keys_have_their_tangents():
    def function(pair, n, key):
        return {"x": pair[0] * pair[1]["a"] * n + jax.random.uniform(key), "n": n + 1}

    def rule(primals, tangents):
        (first, second), n, key = primals
        (of_first, of_second), of_n, of_key = tangents
        assert of_n.dtype == of_key.dtype == jax.dtypes.float0
        tangent = {"x": 10 * of_first * second["a"] + of_second["a"] * first, "n": np.zeros((), jax.dtypes.float0)}
        return function((first, second), n, key), tangent

    ours = with_rule(gs.custom_jvp, function, rule)
    pair, n, key = (2.0, {"a": 3.0}), 4, jax.random.key(0)
    value, tangent = gs.jvp(lambda pair: ours(pair, n, key), (pair,), ((1.0, {"a": 5.0}),))
    assert_same(value, function(pair, n, key))
    assert tangent["x"] == 40.0
    assert tangent["n"].dtype == jax.dtypes.float0
    assert gs.grad(lambda pair: ours(pair, n, key)["x"])(pair) == (30.0, {"a": 2.0})


def test_static_arguments_come_first():
    def rule(power, mode, primals, tangents):
        assert mode == "loud"
        return power(primals[0]), 10 * power(tangents[0])

    ours, plain = both(lambda power, x, mode: power(x), rule, nondiff_argnums=(0, 2))
    assert_same(
        gs.grad(lambda x: ours(jnp.negative, x, "loud").sum())(X),
        jax.grad(lambda x: plain(jnp.negative, x, "loud").sum())(X),
    )


def test_defjvps_has_a_rule_for_each_argument():
    def define(custom_jvp):
        ruled = custom_jvp(lambda x, y, z: x * y + z)
        ruled.defjvps(lambda t, result, x, y, z: 10 * t * y, lambda t, result, x, y, z: t * result, None)
        return ruled

    ours, plain = define(gs.custom_jvp), define(jax.custom_jvp)
    assert_same(gs.grad(ours, (0, 1, 2))(2.0, 3.0, 4.0), jax.grad(plain, (0, 1, 2))(2.0, 3.0, 4.0))
    assert_same(gs.jit(gs.grad(ours, (0, 1)))(2.0, 3.0, 4.0), jax.grad(plain, (0, 1))(2.0, 3.0, 4.0))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.complex64])
def test_every_inexact_dtype_works(dtype):
    ours, plain = both(lambda x: x * x, lambda primals, tangents: (primals[0] ** 2, primals[0] * tangents[0]))
    x = X.astype(dtype)
    assert_same(gs.jvp(ours, (x,), (x,)), jax.jvp(plain, (x,), (x,)))
    assert_same(gs.vjp(ours, x)[1](x), jax.vjp(plain, x)[1](x))


def test_every_order_of_differentiation_uses_the_rule():
    def define(custom_jvp):
        cube = custom_jvp(lambda x: x**3)
        cube.defjvp(lambda primals, tangents: (cube(*primals), 5 * cube(*primals) * tangents[0]))
        return cube

    mine, theirs = define(gs.custom_jvp), define(jax.custom_jvp)
    for derive, plain_derive in ((gs.grad, jax.grad), (gs.jacfwd, jax.jacfwd), (gs.grad, jax.grad)):
        mine, theirs = derive(mine), plain_derive(theirs)
        assert_same(mine(2.0), theirs(2.0))
        assert_same(gs.jit(mine)(2.0), theirs(2.0))


def test_a_rule_may_call_the_function_with_other_static_arguments_without_end():
    def define(custom_jvp):
        wave = custom_jvp(lambda order, x: jnp.sin(x + order * jnp.pi / 2), nondiff_argnums=(0,))

        @wave.defjvp
        def rule(order, primals, tangents):
            return wave(order, *primals), 10 * wave(order + 1, *primals) * tangents[0]

        return wave

    ours, plain = define(gs.custom_jvp), define(jax.custom_jvp)
    mine, theirs = lambda x: ours(0, x), lambda x: plain(0, x)
    for _ in range(4):
        assert_same(gs.jit(mine)(0.3), theirs(0.3))
        assert_same(gs.for_loop(mine, X), jnp.stack(list(map(theirs, X))))
        mine, theirs = gs.grad(mine), jax.grad(theirs)


def test_a_function_may_be_made_anew_in_its_rule():
    def define(custom_jvp, order):
        wave = custom_jvp(lambda x: jnp.sin(x + order * jnp.pi / 2))
        wave.defjvp(
            lambda primals, tangents: (wave(*primals), 10 * define(custom_jvp, order + 1)(*primals) * tangents[0])
        )
        return wave

    mine, theirs = define(gs.custom_jvp, 0), define(jax.custom_jvp, 0)
    for _ in range(3):
        mine, theirs = gs.grad(mine), jax.grad(theirs)
        assert_same(mine(0.3), theirs(0.3))


@pytest.mark.parametrize("jit", [gs.jit, jax.jit], ids=["graphstate", "jax"])
def test_a_rule_that_calls_the_function_compiled_leaves_nothing_in_its_cache(jit):
    def define(custom_jvp, jit):
        square = custom_jvp(lambda x: x * x)
        compiled = jit(square)
        square.defjvp(lambda primals, tangents: (compiled(*primals), 100 * compiled(*primals) * tangents[0]))
        return square, compiled

    (ours, compiled), (plain, _) = define(gs.custom_jvp, jit), define(jax.custom_jvp, jax.jit)
    for function in (ours, compiled):
        assert_same(gs.jit(gs.grad(function))(3.0), jax.grad(plain)(3.0))
        assert_same(gs.grad(gs.grad(function))(3.0), jax.grad(jax.grad(plain))(3.0))


# Nodes and States


TRANSFORMED = {
    "jit": (gs.jit, lambda f: f),
    "checkpoint": (gs.checkpoint, lambda f: f),
    "cond": (lambda f: lambda s, x: gs.cond(x.sum() > 0, f, lambda s, x: x, s, x), lambda f: f),
    "switch": (lambda f: lambda s, x: gs.switch(1, [lambda s, x: x, f], s, x), lambda f: f),
    "for_loop": (
        lambda f: lambda s, x: gs.for_loop(lambda row: f(s, row), jnp.stack([x, 2 * x])).sum(0),
        lambda f: lambda w, x: f(w, x) + f(w, 2 * x),
    ),
    "while_loop": (
        lambda f: lambda s, x: gs.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, f(s, c[1])), (0, x))[1],
        lambda f: lambda w, x: f(w, f(w, x)),
    ),
    "vmap": (
        lambda f: lambda s, x: gs.vmap(lambda row: f(s, row))(jnp.stack([x, 2 * x])).sum(0),
        lambda f: lambda w, x: f(w, x) + f(w, 2 * x),
    ),
    "map": (
        lambda f: lambda s, x: gs.map(lambda row: f(s, row), jnp.stack([x, 2 * x])).sum(0),
        lambda f: lambda w, x: f(w, x) + f(w, 2 * x),
    ),
}


@pytest.mark.parametrize("name", TRANSFORMED)
@pytest.mark.parametrize("is_compiled", [False, True], ids=["eager", "compiled"])
def test_the_rule_holds_in_every_transform(name, is_compiled):
    wrap, wrap_plain = TRANSFORMED[name]
    inner, plain_inner = wrap(scaled), wrap_plain(plain_scaled)
    scale = Scale()

    def push(scale, x):
        return gs.jvp(inner, (scale, x), (gs.state(scale, gs.ParamState), x))

    value, tangent = (gs.jit(push) if is_compiled else push)(scale, X)
    assert_same((value, tangent), jax.jvp(plain_inner, (WEIGHT, X), (WEIGHT, X)))
    assert scale.calls.value == {"for_loop": 2, "while_loop": 2}.get(name, 1)


def test_the_gradient_of_a_node_is_a_graphstate():
    scale = Scale()
    of_scale, of_x = gs.grad(lambda scale, x: scaled(scale, x).sum(), (0, 1))(scale, X)
    of_weight, plain_of_x = jax.grad(lambda weight, x: plain_scaled(weight, x).sum(), (0, 1))(WEIGHT, X)
    assert_same((of_scale["weight"], of_x), (of_weight, plain_of_x))
    rows = gs.vmap(gs.grad(lambda scale, x: scaled(scale, x).sum()), in_axes=(None, 0))(scale, jnp.stack([X, X]))
    assert_same(rows["weight"], jnp.stack([of_weight, of_weight]))
    assert scale.calls.value == 2


def test_methods_are_decorated_in_the_class_body():
    class Gate(gs.Node):
        def __init__(self):
            self.weight = gs.ParamState(2.0)

        @gs.custom_jvp
        def __call__(self, x, shift=1.0):
            return self.weight.value * x + shift

        @__call__.defjvp
        def rule(primals, tangents):  # noqa: N805
            (self, x, shift), (of_self, of_x, of_shift) = primals, tangents
            return self(x, shift), 10 * of_self["weight"] * x + 20 * of_x + 30 * of_shift

    gate = Gate()
    assert gate(3.0) == 7.0
    of_gate, of_x = gs.grad(lambda gate, x: gate(x), (0, 1))(gate, 3.0)
    assert (of_gate["weight"], of_x) == (30.0, 20.0)
    assert gs.jit(gs.grad(lambda shift: gate(3.0, shift=shift)))(1.0) == 30.0


def test_closed_over_states_are_named_by_states():
    scale = Scale()
    for states in (scale.weight, {"w": scale.weight}, scale.states(gs.ParamState)):

        def function(x):
            return scale.weight.value * x

        def rule(primals, tangents, function=function):
            of_states, (of_x,) = tangents
            (of_weight,) = jax.tree.leaves(of_states)
            return function(*primals), 10 * of_weight + 20 * of_x

        ruled = with_rule(gs.custom_jvp, function, rule, states=states)
        for transform in (lambda f: f, gs.jit):
            of_states, of_x = transform(gs.grad(lambda x, ruled=ruled: ruled(x).sum(), 0, states=states))(X)
            assert jax.tree.leaves(of_states)[0].tolist() == [10.0] * 3
            assert of_x.tolist() == [20.0] * 3


def test_what_is_written_has_the_tangent_of_its_own_operations():
    kept = gs.State(jnp.float32(0.0))

    def function(x):
        kept.value = x**2
        return x * 1.0

    ruled = with_rule(gs.custom_jvp, function, lambda primals, tangents: (ruled(*primals), 10 * tangents[0]))
    for transform in (lambda f: f, gs.jit):
        assert transform(gs.grad(lambda x: ruled(x) + kept.value))(3.0) == 16.0
        assert transform(gs.grad(ruled))(4.0) == 10.0
        assert kept.value == 16.0
        assert transform(gs.jacfwd(lambda x: ruled(x) + kept.value))(3.0) == 16.0


def test_a_state_that_adds_up_in_a_loop_is_differentiated_through_its_own_operations():
    total = gs.State(jnp.float32(0.0))

    def function(x):
        total.value = total.value + x
        return x * 1.0

    ruled = with_rule(gs.custom_jvp, function, lambda primals, tangents: (ruled(*primals), 10 * tangents[0]))
    for transform in (lambda f: f, gs.jit):
        total.value = jnp.float32(0.0)
        assert (
            transform(gs.grad(lambda x: gs.for_loop(lambda y: ruled(x * y), jnp.ones(3)).sum() + total.value))(2.0)
            == 33
        )
        assert total.value == 6.0


def test_states_are_never_stale_and_draws_advance_once():
    factor, stream = gs.State(jnp.float32(2.0)), gs.random.RandomState(0)

    def rule(primals, tangents):
        return ruled(*primals), factor.value * tangents[0]

    ruled = with_rule(gs.custom_jvp, lambda x: x + stream.normal(), rule)
    derivative = gs.jit(gs.grad(ruled))
    same = gs.random.RandomState(0)
    for value in (2.0, 3.0, 4.0):
        factor.value = jnp.float32(value)
        assert derivative(1.0) == gs.grad(ruled)(1.0) == value
        same.normal(), same.normal()
        assert stream.value == same.value


def test_the_environment_holds_in_the_rule():
    def rule(primals, tangents):
        with environ.context(fit=True):
            return ruled(*primals), tangents[0] * (30.0 if environ.get("fit") else 20.0)

    ruled = with_rule(gs.custom_jvp, lambda x: x * (3.0 if environ.get("fit") else 2.0), rule)
    assert gs.jit(gs.value_and_grad(ruled))(1.0) == gs.value_and_grad(ruled)(1.0) == (3.0, 30.0)


def test_a_rule_that_is_traced_late_finds_the_environment_of_the_call():
    def rule(order, primals, tangents):
        return power(order, *primals), power(order - 1, *primals) * tangents[0]

    power = gs.custom_jvp(lambda order, x: x**order * (2.0 if environ.get("fit") else 1.0), nondiff_argnums=0)
    power.defjvp(rule)

    def loss(x):
        with environ.context(fit=True):
            return power(3, x)

    for function in (loss, gs.jit(loss)):
        assert gs.grad(gs.grad(function))(2.0) == 4.0

    def other_rule(order, primals, tangents):
        return power(order, *primals), power(order - 1, *primals) * tangents[0] * environ.get("scale", 1.0)

    power.defjvp(other_rule)
    assert gs.grad(lambda x: power(3, x))(2.0) == 4.0
    with pytest.raises(
        RuleError, match="the rule of that call reads the setting 'scale', which the function does not read"
    ):
        gs.grad(gs.grad(lambda x: power(3, x)))(2.0)


@pytest.mark.no_leak_check("it counts traces")
def test_a_call_that_is_traced_traces_the_function_and_the_rule_once():
    runs = []

    def function(x):
        runs.append("function")
        return x * 1.0

    def rule(primals, tangents):
        runs.append("rule")
        return ruled(*primals), tangents[0]

    ruled = with_rule(gs.custom_jvp, function, rule)
    for call, expected in (
        (ruled, ["function"]),
        (gs.grad(ruled), ["function", "rule"]),
        (gs.jit(ruled), ["function", "rule"]),
    ):
        runs.clear()
        call(1.0)
        assert runs == expected
    kept = gs.State(2.0)
    ruled = with_rule(
        gs.custom_jvp, function, lambda primals, tangents: (rule(primals, tangents)[0], kept.value * tangents[0])
    )
    runs.clear()
    assert gs.grad(gs.grad(lambda x: ruled(x) * x))(1.0) == 4.0
    assert runs == ["function", "rule", "rule"]


# Errors


def test_a_derivative_by_a_state_that_is_not_declared_is_refused():
    weight = gs.ParamState(3.0)
    ruled = with_rule(
        gs.custom_jvp, lambda x: x * weight.value, lambda primals, tangents: (ruled(*primals), tangents[0])
    )
    assert gs.grad(ruled)(2.0) == 1.0
    with pytest.raises(
        RuleError, match=r"by `weight` is wanted, but its rules do not know it\. Select it with `wrt` of"
    ):
        gs.grad(lambda x: ruled(x), states=weight)(2.0)


@pytest.mark.parametrize(
    ("rule", "error", "match"),
    [
        (lambda p, t: p[0], RuleError, r"returns the pair \(result, tangent\), but it returned an array of shape \(\)"),
        (
            lambda p, t: (p[0], (t[0], t[0])),
            TangentError,
            r"takes for `result` a tangent like its value, \* with",
        ),
        (lambda p, t: (p[0], t[0] * jnp.ones(3)), TangentError, r"takes for `result` a tangent of shape \(\)"),
        (lambda p, t: ((p[0],), (t[0],)), RuleError, r"gives the result of the function, PyTreeDef\(\*\), but it gave"),
        (
            lambda p, t: (p[0] * jnp.ones(3), t[0] * jnp.ones(3)),
            RuleError,
            r"the result is float32\[\] in the function",
        ),
    ],
)
def test_rules_return_what_was_agreed(rule, error, match):
    for transform in (lambda f: f, gs.jit):
        with pytest.raises(error, match=match):
            transform(gs.grad(with_rule(gs.custom_jvp, lambda x: x * 1.0, rule)))(jnp.float32(2.0))


def test_function_and_rule_write_the_same_states():
    state = gs.State(jnp.float32(0.0))

    def write(x):
        state.value = x * 1.0
        return x * 1.0

    ruled = with_rule(gs.custom_jvp, write, lambda primals, tangents: (primals[0], tangents[0]))
    with pytest.raises(
        RuleError, match="and its rule must write the same States, but only the function writes `state`"
    ):
        gs.grad(ruled)(2.0)
    ruled = with_rule(gs.custom_jvp, lambda x: x, lambda primals, tangents: (write(*primals), tangents[0]))
    with pytest.raises(RuleError, match="only its rule writes `state`"):
        gs.grad(ruled)(2.0)
    assert state.value == 0.0


def test_a_function_without_a_rule_says_so():
    with pytest.raises(RuleError, match=r"has no rule yet\. Define it: `f\.defjvp\(rule\)`"):
        gs.custom_jvp(lambda x: x)(1.0)
    with pytest.raises(RuleError, match=r"A rule of .* is a function, but it is '3' of type int"):
        gs.custom_jvp(lambda x: x).defjvps(3)


def test_a_rule_cannot_differentiate_its_own_function():
    ruled = with_rule(gs.custom_jvp, lambda x: x * x, lambda primals, tangents: gs.jvp(ruled, primals, tangents))
    with pytest.raises(RuleError, match=r"A rule of .* differentiates .* itself, for which it would need that rule"):
        gs.grad(ruled)(2.0)


def test_the_structure_of_a_node_stays_as_it_is():
    def function(scale, x):
        scale.extra = x
        return x * 1.0

    scale = Scale()
    ruled = with_rule(gs.custom_jvp, function, lambda primals, tangents: (ruled(*primals), tangents[1]))
    with pytest.raises(StructureError, match=r"changed inside of `custom_jvp` by .*\n  scale\.extra: missing -> array"):
        gs.jit(lambda scale, x: ruled(scale, x))(scale, 1.0)
    assert not hasattr(scale, "extra")
