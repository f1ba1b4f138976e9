"""Faulty maps, layers and steps: each has one mistake that a check has to find.

A mutant is a function together with the check that finds it, and the kind of case that it takes. Unless it says
`lane`, it is a batched function: it takes all lanes, and is compared with itself on batches of one.
"""

import itertools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

import graphstate as gs
import graphstate.testing as gst

VECTORS = np.float32([[0.5, 1, -1], [2, 4, 3], [5, -7, 1]])
KEYS = jax.random.split(jax.random.key(0), 3)


def members():
    return gs.vmap(lambda seed: gs.nn.Linear(3, 1, rng=gs.random.RandomState(seed)))(jnp.arange(3))


def optimizers(layers):
    return gs.vmap(lambda layer: gs.optim.Optimizer(layer, optax.sgd(0.1, momentum=0.9)))(layers)


def ensemble_case():
    layers = members()
    return gst.BatchCase(3, (layers, optimizers(layers), VECTORS[0]), in_axes=(0, 0, None))


CASES: dict[str, Callable[[], list[gst.BatchCase]]] = {
    "vector": lambda: [gst.BatchCase(3, (VECTORS,)), gst.BatchCase(2, (VECTORS[1:],))],
    "pair": lambda: [gst.BatchCase(3, (VECTORS, VECTORS[::-1] + 1))],
    "keyed": lambda: [gst.BatchCase(3, (jax.random.key(0), VECTORS), in_axes=(None, 0))],
    "members": lambda: [ensemble_case()],
    "node": lambda: [gst.BatchCase(3, (Tied(), VECTORS), in_axes=(None, 0))],
    "none": lambda: [None],
}


@dataclass(frozen=True)
class Mutant:
    """A mistake.

    Attributes:
        name: what it is.
        check: the check that finds it.
        make: makes the faulty function or Node.
        kind: of case.
        batched: whether it takes all lanes.
    """

    name: str
    check: str
    make: Callable[[], Any]
    kind: str = "vector"
    batched: bool = True

    def run(self, case: gst.BatchCase | None) -> None:
        """The check of the mutant, which should raise."""
        getattr(gst, self.check)(self.make(), case, batched=self.batched)


MUTANTS: list[Mutant] = []


def mutant(check: str, kind: str = "vector", *, batched: bool = True) -> Callable[[Any], Any]:
    """Enters what makes a faulty function into the table."""

    def enter(make: Callable[[], Any]) -> Callable[[], Any]:
        MUTANTS.append(Mutant(make.__name__, check, make, kind, batched))
        return make

    return enter


def simple(check: str, name: str, function: Callable[..., Any], kind: str = "vector", *, batched: bool = True) -> None:
    """Enters a faulty function that needs no making."""

    def make() -> Any:
        return lambda *args: function(*args)

    MUTANTS.append(Mutant(name, check, make, kind, batched))


def layer(x):
    """What the faulty maps map: position by position another weight."""
    return jnp.tanh(x) * jnp.arange(1, 4, dtype=x.dtype)


# Maps

simple("check_vmap", "out_axes_wrong", lambda x: jax.vmap(layer, out_axes=1)(x))
simple("check_vmap", "in_axes_wrong", lambda x: jax.vmap(layer, in_axes=1)(x) if x.shape[0] == 3 else layer(x[0])[None])
simple("check_vmap", "lanes_reversed", lambda x: jax.vmap(layer)(x)[::-1])
simple("check_vmap", "lanes_rolled", lambda x: jnp.roll(jax.vmap(layer)(x), 1, 0))
simple("check_permutation", "first_lane_apart", lambda x: jax.vmap(layer)(x).at[0].multiply(2))
simple("check_permutation", "lane_numbers_added", lambda x: x + jnp.arange(len(x), dtype=x.dtype)[:, None])
simple(
    "check_vmap", "last_lane_dropped", lambda x: jax.vmap(layer)(x).at[-1].set(0) if len(x) > 1 else jax.vmap(layer)(x)
)
simple("check_vmap", "mean_leaks_by_a_thousandth", lambda x: x + 1e-3 * (x.mean(0, keepdims=True) - x))
simple("check_lane_isolation", "mean_leaks_by_a_billionth", lambda x: x + 1e-9 * x.mean(0, keepdims=True))
simple("check_vmap", "argument_broadcast", lambda x, y: jax.vmap(lambda a, b: layer(a) + b, (0, None))(x, y[0]), "pair")
simple("check_vmap", "arguments_swapped", lambda x, y: jax.vmap(lambda a, b: layer(a) - b)(x, y[::-1]), "pair")
simple("check_vmap", "lane_axis_lost", lambda x: jax.vmap(layer)(x).sum(0))
simple("check_vmap", "lane_axis_added", lambda x: jax.vmap(layer)(x)[None])
simple(
    "check_vmap",
    "chunks_without_the_rest",
    lambda x: jnp.zeros_like(x).at[: len(x) // 2 * 2].set(x[: len(x) // 2 * 2]) if len(x) > 1 else x,
)
simple("check_batch_of_one", "batch_of_one_squeezed", lambda x: jnp.squeeze(jax.vmap(layer)(x)))
simple("check_batch_of_one", "second_lane_needed", lambda x: x + 0 * x[[1] if len(x) > 1 else _no_lane()])
simple("check_batch_size_independence", "divided_by_batch_size", lambda x: layer(x[0])[None] / len(x) + 0 * x)
simple("check_batch_size_independence", "large_batches_changed", lambda x: x if len(x) < 4 else 0.99 * x)
simple("check_empty_batch", "empty_batch_divides", lambda x: x * (6 // len(x)))
simple("check_empty_batch", "empty_batch_of_another_shape", lambda x: x if len(x) else x[:, :1])
simple("check_empty_batch", "empty_batch_of_another_dtype", lambda x: x if len(x) else x.astype(jnp.bfloat16))
simple("check_empty_batch", "first_lane_indexed", lambda x: x + 0 * _first(x))


def _no_lane():
    raise IndexError("there is no second lane")


def _first(x):
    if not len(x):
        raise IndexError("there is no first lane")
    return x[:1]


@mutant("check_vmap", batched=False)
def rule_of_a_map_reverses():
    @jax.custom_batching.custom_vmap
    def function(x):
        return layer(x)

    @function.def_vmap
    def rule(axis_size, in_batched, x):
        return jax.vmap(layer)(x)[::-1], True

    return lambda x: function(x)


@mutant("check_vmap", batched=False)
def callback_sums_over_lanes():
    def total(x):
        return np.broadcast_to(np.sum(x), x.shape).astype(x.dtype)

    return lambda x: jax.pure_callback(total, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims")


@mutant("check_nested_vmap", batched=False)
def rule_that_holds_once_only():
    @jax.custom_batching.custom_vmap
    def inner(x):
        return jnp.zeros_like(x)

    @inner.def_vmap
    def wrong(axis_size, in_batched, x):
        return x, True

    @jax.custom_batching.custom_vmap
    def outer(x):
        return layer(x)

    @outer.def_vmap
    def right(axis_size, in_batched, x):
        return jax.vmap(layer)(x) + inner(x[0])[None], True

    return lambda x: outer(x)


@mutant("check_pmap", "pair", batched=False)
def rule_that_counts_the_lanes_of_a_device():
    @jax.custom_batching.custom_vmap
    def function(x):
        return x

    @function.def_vmap
    def rule(axis_size, in_batched, x):
        return x * axis_size, True

    return lambda x, y: function(x) + y


# Layers

simple("check_vmap", "softmax_over_the_batch", lambda x: jax.nn.softmax(x, axis=0))
simple("check_vmap", "normalised_over_the_batch", lambda x: jax.nn.standardize(x, axis=0))
simple("check_vmap", "sorted_over_the_batch", lambda x: jnp.sort(x, axis=0))
simple("check_vmap", "summed_up_over_the_batch", lambda x: jnp.cumsum(x, axis=0))
simple(
    "check_lane_isolation",
    "largest_of_the_batch_taken_off",
    lambda x: jnp.exp(x - x.max()) / jnp.exp(x - x.max()).sum(1, keepdims=True),
)
simple(
    "check_lane_isolation",
    "attention_over_the_batch",
    lambda x: jax.nn.softmax(x @ x.T - 1e9 * (1 - jnp.eye(len(x), dtype=x.dtype))) @ x,
)
simple("check_lane_isolation", "nan_masked_leak", lambda x: x + 0.1 * jnp.where(jnp.isnan(x).any(), 0, x.sum()))


@mutant("check_vmap")
def statistic_written_by_the_last_lane():
    last = gs.BatchState(jnp.zeros(3))

    def function(x):
        last.value = x[-1]
        return 2 * x

    return function


@mutant("check_lane_isolation")
def statistic_of_the_batch():
    mean = gs.BatchState(jnp.zeros(3))

    def function(x):
        mean.value = 0.9 * mean.value + 0.1 * x.mean(0)
        return 2 * x

    return function


@mutant("check_vmap", batched=False)
def lane_written_to_a_shared_state():
    total = gs.State(jnp.zeros(3))

    def function(x):
        total.value += x
        return x

    return function


class Tied(gs.Node):
    """Two names for one layer."""

    def __init__(self):
        self.one = gs.nn.Linear(3, 3, rng=gs.random.RandomState(0))
        self.other = self.one


@mutant("check_vmap", "node")
def weight_unshared():
    def function(node, x):
        if len(x) > 1:
            node.other = gs.clone(node.one)
        return node.one(x)

    return function


# Random numbers


@mutant("check_rng", "keyed")
def one_key_for_all_lanes():
    return lambda key, x: x + jax.random.normal(key, (3,))[None]


@mutant("check_rng", "keyed")
def keys_that_know_the_number_of_lanes():
    def function(key, x):
        keys = jax.vmap(lambda lane: jax.random.fold_in(key, lane))(len(x) * (1 + jnp.arange(len(x))))
        return x + jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)

    return function


@mutant("check_rng", "keyed")
def neighbours_share_a_key():
    def function(key, x):
        keys = jax.vmap(lambda lane: jax.random.fold_in(key, lane))(jnp.arange(len(x)) // 2)
        return x + jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)

    return function


@mutant("check_rng")
def stream_not_advanced():
    rng = gs.random.RandomState(0)
    return lambda x: x + jax.random.normal(rng.value, x.shape)


@mutant("check_rng")
def one_mask_for_all_lanes():
    dropout = gs.nn.Dropout(0.5, fit=True, rng=gs.random.RandomState(0))
    return lambda x: x + dropout(jnp.ones((1, 3)))


# Compiling


@mutant("check_jit", batched=False)
def branch_on_a_value():
    return lambda x: x if x.sum() > 0 else -x


@mutant("check_jit", batched=False)
def another_result_when_compiled():
    return lambda x: 2 * x if isinstance(x, jax.core.Tracer) else x


@mutant("check_jit", batched=False)
def number_of_the_trace():
    serial = itertools.count()
    return lambda x: x + float(next(serial))


@mutant("check_jit", batched=False)
def noise_of_numpy():
    generator = np.random.default_rng(0)
    return lambda x: x + np.float32(generator.normal())


@mutant("check_jit", batched=False)
def traced_at_each_call():
    calls = {"number": 0}

    def count(x):
        calls["number"] += 1
        return x

    return lambda x: jax.pure_callback(count, x, x) + 0 * calls["number"]


@mutant("check_dtypes", batched=False)
def state_through_bfloat16():
    mean = gs.State(jnp.zeros(3))

    def function(x):
        mean.value = mean.value.astype(jnp.bfloat16)
        return x

    return function


@mutant("check_dtypes")
def dtype_of_larger_batches():
    return lambda x: x.astype(jnp.bfloat16) if len(x) > 1 else x


@mutant("check_dtypes", batched=False)
def weak_type_when_compiled():
    return lambda x: (x, 3.0)[isinstance(x, jax.core.Tracer)] if False else _three(x)


def _three(x):
    return 3.0 if isinstance(x, jax.core.Tracer) else jnp.float32(3)


@mutant("check_no_retrace")
def state_that_grows():
    seen = gs.State(jnp.zeros(1))

    def function(x):
        seen.value = jnp.append(seen.value, 0)
        return x

    return function


@mutant("check_no_retrace", "node")
def number_that_counts_calls():
    def function(node, x):
        node.calls = getattr(node, "calls", 0) + 1
        return x

    return function


@mutant("check_no_leaks")
def tracer_in_a_list():
    kept = []

    def function(x):
        kept[:] = [x]
        return x

    return function


@mutant("check_no_leaks")
def tracer_in_an_attribute():
    holder = types.SimpleNamespace()

    def function(x):
        holder.last = 2 * x
        return x

    return function


# Derivatives


def with_rule(backward):
    @jax.custom_vjp
    def function(x):
        return jnp.sin(x)

    function.defvjp(lambda x: (jnp.sin(x), x), backward)
    return lambda x: function(x)


@mutant("check_grad")
def gradient_summed_over_lanes():
    return with_rule(lambda x, g: (jnp.broadcast_to((g * jnp.cos(x)).sum(0), x.shape),))


@mutant("check_grad")
def gradient_times_batch_size():
    return with_rule(lambda x, g: (g * jnp.cos(x) * len(x),))


@mutant("check_grad")
def gradient_stopped_in_one_lane():
    return lambda x: jnp.concatenate([jax.lax.stop_gradient(x[:1]), x[1:]]) if len(x) > 1 else x


@mutant("check_grad", "node")
def gradient_of_a_shared_weight_averaged():
    @jax.custom_vjp
    def scaled(w, x):
        return x * w[None]

    scaled.defvjp(lambda w, x: (x * w[None], (w, x)), lambda r, g: ((g * r[1]).mean(0), g * r[0][None]))
    return lambda node, x: scaled(node.one.bias.value, x)


@mutant("check_remat", batched=False)
def computed_again_otherwise():
    serial = itertools.count()
    return lambda x: x * float(next(serial))


# Steps


@mutant("check_scan", batched=False)
def carry_that_changes_its_dtype():
    state = gs.State(jnp.float32(0))

    def function(x):
        state.value = state.value.astype(jnp.bfloat16)
        return x

    return function


@mutant("check_scan", "node", batched=False)
def steps_counted_by_a_number():
    def function(node, x):
        node.calls = getattr(node, "calls", 0) + 1
        return x * node.calls

    return function


def make_ensemble_step(change):
    """A step of all members by hand, with one mistake in what becomes of the gradients."""

    def step(layers, optimizers, x):
        gradient = gs.vmap(gs.grad(lambda layer: (layer(x) ** 2).sum()))(layers)
        gs.vmap(lambda layer, optimizer, g: optimizer.update(layer, g))(layers, optimizers, change(gradient))

    return step


@mutant("check_ensemble_step", "members")
def norm_over_all_members():
    def clip(gradient):
        norm = optax.tree.norm(gradient)
        return jax.tree.map(lambda g: g / jnp.maximum(1, norm), gradient)

    return make_ensemble_step(clip)


@mutant("check_ensemble_step", "members")
def gradient_averaged_over_members():
    return make_ensemble_step(
        lambda gradient: jax.tree.map(lambda g: jnp.broadcast_to(g.mean(0, keepdims=True), g.shape), gradient)
    )


@mutant("check_ensemble_step", "members")
def members_swapped():
    return make_ensemble_step(lambda gradient: jax.tree.map(lambda g: g[::-1], gradient))


@mutant("check_ensemble_step", "members")
def momentum_averaged_over_members():
    plain = make_ensemble_step(lambda gradient: gradient)

    def step(layers, optimizers, x):
        plain(layers, optimizers, x)
        for state in gs.states(optimizers).values():
            if state.value.ndim > 1:
                state.value = jnp.broadcast_to(state.value.mean(0, keepdims=True), state.value.shape)

    return step


@mutant("check_ensemble_step", "members")
def first_member_not_trained():
    return make_ensemble_step(lambda gradient: jax.tree.map(lambda g: g.at[0].set(0) if len(g) > 1 else g, gradient))


# Graphs


class Forgetful:
    """Registered with what forgets one of its attributes."""

    def __init__(self):
        self.weight = gs.ParamState(jnp.ones(3))
        self.option = 3


gs.register_node_type(
    Forgetful,
    attributes=vars,
    set_attribute=lambda item, name, value: setattr(item, name, value) if name != "option" else None,
    create=lambda cls: cls.__new__(cls),
)


class Elsewhere(gs.Node):
    """Keeps a number where no copy of it gets."""

    numbers: ClassVar[dict[int, float]] = {}

    def __init__(self):
        self.weight = gs.ParamState(jnp.ones(3))
        Elsewhere.numbers[id(self)] = 2.0

    def __call__(self, x):
        return x * self.weight.value * Elsewhere.numbers.get(id(self), 1.0)


class Option:
    """Loses what it is when it is pickled."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return Option, (0,)

    def __eq__(self, other):
        return isinstance(other, Option) and self.number == other.number

    def __hash__(self):
        return self.number


class Optional(gs.Node):
    def __init__(self):
        self.option = Option(3)


MUTANTS += [
    Mutant("attribute_forgotten", "check_roundtrip", Forgetful, "none"),
    Mutant("value_kept_elsewhere", "check_roundtrip", Elsewhere, "vector", batched=False),
    Mutant("option_lost_in_a_pickle", "check_pickle", Optional, "none"),
    Mutant("value_kept_out_of_the_pickle", "check_pickle", Elsewhere, "vector", batched=False),
]
