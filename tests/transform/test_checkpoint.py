"""`checkpoint`: gradients are those without it, and what is computed again gives the same, written once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import graphstate as gs
from graphstate import environ
from graphstate.errors import AxisError, BatchAxisError, StateTypeError, TraceContextError


class Leaf(gs.Node):
    def __init__(self, weight=2.0):
        self.weight = gs.ParamState(jnp.asarray(weight, jnp.float32))
        self.calls = gs.State(jnp.int32(0))

    def __call__(self, x):
        self.calls.value = self.calls.value + 1
        return jnp.sin(self.weight.value * x)

    @gs.checkpoint
    def method(self, x):
        return self(x)


class Tied(gs.Node):
    def __init__(self):
        self.first, self.second = Leaf(0.5), Leaf(0.0)
        self.second.weight = self.first.weight


def grad_of(function, *args, **options):
    return jax.tree.leaves(gs.grad(function, **options)(*args))


def eagerly(function):
    return function


surroundings = pytest.mark.parametrize("around", [eagerly, gs.jit])


# Values


@surroundings
def test_gradients_are_those_without(around):
    leaf, x = Leaf(), 1.5
    for function in (
        lambda leaf, x: gs.checkpoint(Leaf.__call__)(leaf, x),
        lambda leaf, x: gs.checkpoint(leaf)(x),
        lambda leaf, x: leaf.method(x),
        lambda leaf, x: gs.checkpoint(lambda: leaf(x))(),
        lambda leaf, x: gs.checkpoint(functools.partial(lambda leaf, *, x: leaf(x), leaf))(x=x),
        lambda leaf, x: gs.checkpoint(gs.jit(leaf))(x),
        lambda leaf, x: gs.checkpoint(gs.checkpoint(leaf))(x),
    ):
        calls = leaf.calls.value
        found = around(gs.grad(function, argnums=(0, 1)))(leaf, x)
        expected = jax.grad(lambda weight, x: jnp.sin(weight * x), (0, 1))(2.0, x)
        np.testing.assert_allclose([found[0]["weight"], found[1]], expected, rtol=1e-6)
        assert leaf.calls.value == calls + 1


@surroundings
def test_tied_weights_add_up_once(around):
    def apply(node, x):
        return node.second(node.first(x))

    tied = Tied()
    (found,) = jax.tree.leaves(around(gs.grad(gs.checkpoint(apply)))(tied, 1.0))
    (expected,) = grad_of(apply, tied, 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_states_of_the_closure_are_differentiated():
    leaf = Leaf()
    found = gs.grad(gs.checkpoint(lambda x: leaf(x)), states=leaf.weight)(1.5)
    np.testing.assert_allclose(found, 1.5 * jnp.cos(3.0), rtol=1e-6)


def test_pytrees_and_nothing_come_back():
    @gs.checkpoint
    def function(tree, *, other=None):
        return {"a": tree["a"] * 2, "b": (tree["b"], None)}, other

    for around in (eagerly, gs.jit, jax.jit):
        result = around(function)({"a": 1.0, "b": 2})
        assert result == ({"a": 2.0, "b": (2, None)}, None)


def test_nodes_keep_their_identity_and_may_change_their_structure():
    leaf = Leaf()

    @gs.checkpoint
    def change(leaf, x):
        leaf.flag = "changed"
        leaf.extra = gs.State(x * 2)
        return leaf, Leaf(3.0)

    for around in (eagerly, gs.jit):
        leaf.flag = None
        same, new = around(lambda leaf, x: change(leaf, x))(leaf, 2.0)
        assert same is leaf
        assert (leaf.flag, leaf.extra.value, new.weight.value) == ("changed", 4.0, 3.0)


# What is computed again


def derivative_jaxpr(function):
    return str(jax.make_jaxpr(jax.grad(function))(1.5))


def test_the_backward_pass_computes_again_what_the_policy_does_not_keep():
    def deep(x):
        y = checkpoint_name(jnp.sin(x), "first")
        return jnp.cos(jnp.exp(y))

    policies = jax.checkpoint_policies

    def sines(**options):
        """How often the sine is computed: once, and again if it is not kept."""
        ours, theirs = (
            derivative_jaxpr(checkpoint(deep, **options)).count("= sin ")
            for checkpoint in (gs.checkpoint, jax.checkpoint)
        )
        assert ours == theirs
        return ours

    without = derivative_jaxpr(deep).count("= sin ")
    again = sines()
    assert again > without
    assert sines(policy=policies.everything_saveable) == without
    assert sines(policy=policies.save_only_these_names("first")) < again
    assert sines(policy=policies.save_only_these_names("other")) == again


def test_options_reach_jax():
    jaxpr = derivative_jaxpr(gs.checkpoint(jnp.sin, prevent_cse=False))
    assert "prevent_cse=False" in jaxpr
    assert "prevent_cse=True" in derivative_jaxpr(gs.remat(jnp.sin))


@pytest.mark.no_leak_check("counts traces")
def test_the_function_runs_once_a_trace():
    runs, leaf = [], Leaf()

    @gs.checkpoint
    def apply(leaf, x):
        runs.append(x)
        return leaf(x)

    gs.grad(apply)(leaf, 1.0)
    assert len(runs) == 1
    compiled = gs.jit(gs.grad(apply))
    for _ in range(3):
        compiled(leaf, 1.0)
    assert len(runs) == 2
    assert leaf.calls.value == 4


@surroundings
def test_a_mask_is_drawn_once_and_is_the_same_in_both_passes(around):
    rng, expected = gs.random.RandomState(0), gs.random.RandomState(0)
    dropout = gs.nn.Dropout(0.5, rng=rng)

    @gs.checkpoint
    def apply(x):
        return jnp.sum(jnp.square(dropout(x)))

    x = jnp.arange(1.0, 33.0)
    with environ.context(fit=True):
        for _ in range(2):
            gradient = around(gs.grad(lambda x: apply(x)))(x)
            plain = gs.grad(lambda x: jnp.sum(jnp.square(gs.nn.Dropout(0.5, rng=expected)(x))))(x)
            np.testing.assert_allclose(gradient, plain, rtol=1e-6)
            assert rng.value == expected.value


# Reads and writes


def test_states_that_changed_between_two_calls_are_read_anew():
    leaf, factor = Leaf(), [1.0]
    apply = gs.checkpoint(lambda x: leaf.weight.value * x * factor[0])
    compiled = gs.jit(gs.grad(lambda x: apply(x)))
    for weight, factor[0] in [(2.0, 1.0), (3.0, 1.0), (3.0, 5.0)]:
        leaf.weight.value = jnp.float32(weight)
        assert apply(1.0) == gs.grad(apply)(1.0) == compiled(1.0) == weight * factor[0]


@surroundings
def test_a_failure_changes_nothing(around):
    leaf, key = Leaf(), gs.random.DEFAULT.value

    @gs.checkpoint
    def fail(leaf):
        leaf.calls.value = leaf.calls.value + 1
        gs.random.normal()
        raise KeyError("user")

    calls = leaf.calls.value
    with pytest.raises(KeyError, match="user"):
        around(gs.grad(fail))(leaf)
    assert leaf.calls.value is calls
    assert gs.random.DEFAULT.value == key


def test_a_structural_change_of_a_closed_over_node_is_an_error():
    leaf = Leaf()

    @gs.checkpoint
    def change(x):
        leaf.flag = 1
        return x

    with pytest.raises(TraceContextError, match="Attribute 'flag' of a Leaf was changed inside"):
        gs.grad(change)(1.0)
    assert not hasattr(leaf, "flag")


# In other transforms


def test_layers_in_a_scan_are_checkpointed():
    layers = gs.vmap(Leaf)(jnp.arange(1.0, 4.0))

    def loss(layers, x, wrap):
        apply = wrap(lambda layer, x: layer(x))
        return gs.scan(lambda x, layer: (apply(layer, x), None), x, layers)[0]

    for around in (eagerly, gs.jit):
        found, plain = (
            around(gs.grad(functools.partial(loss, wrap=wrap)))(layers, 1.0)
            for wrap in (functools.partial(gs.checkpoint, prevent_cse=False), eagerly)
        )
        np.testing.assert_allclose(found["weight"], plain["weight"], rtol=1e-6)
    assert layers.calls.value.tolist() == [4, 4, 4]


def test_lanes_and_choices():
    leaf, members = Leaf(), gs.vmap(Leaf)(jnp.arange(1.0, 4.0))
    xs = jnp.arange(3.0)
    apply = gs.checkpoint(lambda leaf, x: gs.cond(x > 1, leaf, lambda x: x, x))
    found = gs.vmap(gs.grad(apply))(members, xs)
    expected = jax.vmap(jax.grad(lambda weight, x: jnp.where(x > 1, jnp.sin(weight * x), x)))(jnp.arange(1.0, 4.0), xs)
    np.testing.assert_allclose(found["weight"], expected, rtol=1e-6)
    with pytest.raises(BatchAxisError, match=r"leaf.calls.* is not mapped"):
        gs.vmap(apply, in_axes=(None, 0))(leaf, xs)


def test_inside_of_plain_jax():
    leaf = Leaf()
    weight = leaf.weight
    apply = gs.checkpoint(lambda x: jnp.sin(weight.value * x))
    np.testing.assert_allclose(jax.grad(apply)(1.5), 2 * jnp.cos(3.0), rtol=1e-6)
    with pytest.raises(TraceContextError, match="was written inside of a transform of plain JAX"):
        jax.grad(gs.checkpoint(leaf))(1.5)


def test_without_compilation_the_result_is_the_same():
    with jax.disable_jit():
        leaf = Leaf()
        assert gs.checkpoint(leaf)(1.5) == jnp.sin(3.0)
        np.testing.assert_allclose(grad_of(gs.checkpoint(Leaf.__call__), leaf, 1.5), [1.5 * jnp.cos(3.0)], rtol=1e-6)


# Arguments


def test_static_arguments_are_handed_on():
    leaf = Leaf(2.0)

    def apply(leaf, power, x, mode):
        assert type(power) is int
        return leaf.weight.value**power * x if mode == "power" else x

    for numbers in ((1, 3), (1, -1), [3, 1]):
        apply_again = gs.checkpoint(apply, static_argnums=numbers)
        for around in (eagerly, gs.jit):
            grads = around(gs.grad(lambda leaf, x: apply_again(leaf, 3, x, "power")))(leaf, 1.0)  # noqa: B023, at once
            assert grads["weight"] == 12.0
    assert gs.grad(lambda x: gs.checkpoint(lambda mode, x: x * len(mode), static_argnums=0)("abc", x))(1.0) == 3.0


def test_arguments_that_do_not_fit_are_an_error():
    with pytest.raises(
        AxisError,
        match=r"`static_argnums` has 3, but `.*` was called with 2 positional arguments. Pass that",
    ):
        gs.checkpoint(lambda x, y: x, static_argnums=(0, 3))(1.0, 2.0)
    with pytest.raises(AxisError, match="`static_argnums` has -3, but"):
        gs.checkpoint(lambda x, y: x, static_argnums=-3)(1.0, 2.0)
    with pytest.raises(StateTypeError, match=r"`checkpoint` takes Nodes, .* argument `mode` of .* 'a' of type str"):
        gs.checkpoint(lambda x, mode: x)(1.0, "a")
    with pytest.raises(StateTypeError, match=r"transformed by `checkpoint` returns .* 'text' of type str"):
        gs.grad(gs.checkpoint(lambda x: "text"))(1.0)
    with pytest.raises(
        StateTypeError,
        match=r"`checkpoint` transforms a function, but it was given '3' .* `@graphstate.checkpoint",
    ):
        gs.checkpoint(3)


def test_it_is_a_decorator_with_the_name_of_its_function():
    @gs.checkpoint(prevent_cse=False)
    def apply(x):
        """Applies."""
        return x

    assert (apply.__name__, apply.__doc__, apply(1.0)) == ("apply", "Applies.", 1.0)
    assert gs.remat is gs.transform.checkpoint


def test_static_arguments_by_name_are_handed_on():
    apply = gs.checkpoint(lambda x, *, how: jnp.sin(x) if how == "sin" else x, static_argnames="how")
    assert gs.jit(gs.grad(lambda x: apply(x, how="sin")))(0.0) == 1.0
    assert gs.jit(lambda x: apply(x, how="same"))(3.0) == 3.0
