"""Transforms within each other, with closed-over and argument States; and plain JAX transforms inside of them.

The oracle of a nest is the nest of the same plain JAX transforms over a pure function, or the Python loop.
"""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from tests.transform.rows import ASSOCIATIVE_SCAN, BY_NAME, ROWS, is_meaningful

X = jnp.arange(1.0, 4.0)


class Cell(gs.Node):
    """A parameter that is read, a count and a hidden value that are written, and draws where they are wanted."""

    def __init__(self):
        self.weight = gs.ParamState(jnp.float32(3.0))
        self.count = gs.BatchState(jnp.int32(0))
        self.runs = 0

    def __call__(self, x):
        self.count.value = self.count.value + 1
        return self.weight.value**2 * x


PAIRS = [
    pytest.param(outer, inner, id=f"{outer}-{inner}") for outer in ROWS for inner in ROWS if is_meaningful(outer, inner)
]
# Of these, the Node is passed to one and closed over by another; what is particular to one of a kind needs no more.
SOME = ["jit", "vmap", "grad", "for_loop", "scan", "cond", "checkpoint", "custom_jvp"]


@pytest.mark.no_leak_check("runs many eager transforms")
@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_any_transform_within_any_other(outer, inner):
    cell = Cell()
    cubic = lambda f: lambda x: f(x) ** 2  # noqa: E731, so that derivatives are of interest
    expected = outer.plain(cubic(inner.plain(lambda x: 9.0 * x**3)))(2.0)
    nested = outer.closed(cubic(inner.closed(lambda x: cell(x**3))))
    # Each transform is run eagerly in test_laws.py; here that is worth its time where the two differ most.
    calls = (nested, gs.jit(nested)) if {outer.name, inner.name} <= set(SOME) else (gs.jit(nested),)
    for number, call in enumerate(calls, start=1):
        np.testing.assert_allclose(call(jnp.float32(2.0)), expected, rtol=1e-5)
        assert cell.count.value == number * outer.steps * inner.steps
    assert cell.weight.value == 3.0


@pytest.mark.no_leak_check("runs many eager transforms")
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_any_transform_around_and_inside_an_associative_scan(row):
    state = gs.ParamState(jnp.float32(3.0))
    leaf, plain_leaf = lambda x: state.value**2 * x**3, lambda x: 9.0 * x**3
    for outer, inner in ((row, ASSOCIATIVE_SCAN), (ASSOCIATIVE_SCAN, row)):
        expected = outer.plain(inner.plain(plain_leaf))(2.0)
        nested = outer.closed(inner.closed(leaf))
        np.testing.assert_allclose(nested(jnp.float32(2.0)), expected, rtol=1e-5)
        np.testing.assert_allclose(gs.jit(nested)(jnp.float32(2.0)), expected, rtol=1e-5)


@pytest.mark.no_leak_check("runs many eager transforms")
@pytest.mark.parametrize("inner", SOME)
@pytest.mark.parametrize("outer", SOME)
@pytest.mark.parametrize("access", ["closed", "passed"])
def test_a_node_is_an_argument_of_one_transform_and_any_of_another(outer, inner, access):
    outer, inner, cell = BY_NAME[outer], BY_NAME[inner], Cell()
    inside = inner.wrap(lambda cell, x: cell(x**3), access)
    nested = outer.wrap(lambda cell, x: inside(cell, x) ** 2, "passed")
    expected = outer.plain(lambda x: inner.plain(lambda x: 9.0 * x**3)(x) ** 2)(2.0)
    np.testing.assert_allclose(nested(cell, jnp.float32(2.0)), expected, rtol=1e-5)
    assert cell.count.value == outer.steps * inner.steps


@pytest.mark.no_leak_check("runs many eager transforms")
@pytest.mark.parametrize("inner", [name for name in SOME if BY_NAME[name].passed])
@pytest.mark.parametrize("outer", [name for name in SOME if BY_NAME[name].passed])
def test_a_node_passed_to_two_transforms_may_be_read_from_the_closure(outer, inner):
    """What is written to the innermost copy is what the closure reads there."""
    outer, inner, cell = BY_NAME[outer], BY_NAME[inner], Cell()

    def innermost(argument, x):
        argument.weight.value = argument.weight.value + 1
        return (cell.weight.value - argument.weight.value + 2) * x

    call = outer.wrap(inner.wrap(innermost, "passed"), "passed")
    np.testing.assert_allclose(
        call(cell, jnp.float32(2.0)), outer.plain(inner.plain(lambda x: 2.0 * x))(2.0), rtol=1e-5
    )
    assert cell.weight.value == 3.0 + outer.steps * inner.steps


# User code runs once per trace


@pytest.mark.no_leak_check("counts runs")
@pytest.mark.parametrize("depth", range(5))
@pytest.mark.parametrize("reads", ["closure", "hidden", "argument"])
def test_user_code_runs_once_at_any_depth(depth, reads):
    runs, cell, hidden = [], Cell(), types.ModuleType("hidden")  # no closure is looked for in a module
    hidden.state = gs.State(jnp.float32(2.0))

    def leaf(cell_or_none, x):
        runs.append(x)
        if reads == "hidden":
            hidden.state.value = hidden.state.value + 1
            return hidden.state.value * x
        return (cell if reads == "closure" else cell_or_none)(x)

    def wrap(f, kind):
        match kind % 4:
            case 0:
                return lambda node, x: gs.jit(f)(node, x)
            case 1:
                return lambda node, x: gs.vmap(f, in_axes=(None, 0))(node, x[None])[0]
            case 2:
                return lambda node, x: gs.scan(lambda node, y: (node, f(node, y)), node, x[None])[1][0]
            case 3:
                return lambda node, x: gs.grad(lambda x, node: f(node, x) * x)(x, node)

    function = leaf
    for kind in range(depth):
        function = wrap(function, kind)
    compiled = gs.jit(function)
    compiled(cell, jnp.float32(2.0))
    assert len(runs) == 1
    compiled(cell, jnp.float32(3.0))
    assert len(runs) == 1


@pytest.mark.no_leak_check("counts runs")
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_user_code_runs_once_in_an_eager_transform(row):
    runs, cell = [], Cell()

    def leaf(x):
        runs.append(None)
        return cell(x)

    row.closed(leaf)(jnp.float32(2.0))
    assert len(runs) == 1


@pytest.mark.no_leak_check("counts runs")
def test_two_inner_transforms_of_one_function_trace_it_once_each():
    runs, cell = [], Cell()

    @gs.jit
    def leaf(x):
        runs.append(x)
        return cell(x)

    outer = gs.jit(lambda x: leaf(x) + leaf(x) + gs.for_loop(leaf, x[None])[0])
    assert outer(jnp.float32(1.0)) == 27.0
    assert cell.count.value == 3
    assert len(runs) == 1
    outer(jnp.float32(1.0))
    leaf(jnp.float32(1.0))
    assert len(runs) == 1
    assert cell.count.value == 7


# Plain JAX inside of graphstate transforms


@pytest.mark.no_leak_check("JAX keeps its caches only without it")
class TestPlainJax:
    """A plain `jax.jit` or `lax.scan` inside of a compiled transform that reads States is never stale."""

    @pytest.fixture(params=["jit", "scan", "checkpoint", "cond", "map"])
    def inner(self, request):
        return {
            "jit": lambda f: jax.jit(f),
            "scan": lambda f: lambda x: jax.lax.scan(lambda carry, y: (carry + f(y), None), 0 * x, x[None])[0],
            "checkpoint": jax.checkpoint,
            "cond": lambda f: lambda x: jax.lax.cond(x > 0, f, lambda x: x, x),
            "map": lambda f: lambda x: jax.lax.map(f, x[None])[0],
        }[request.param]

    @pytest.fixture(params=["closure", "hidden", "argument", "made inside"])
    def where(self, request):
        return request.param

    def test_it_sees_what_was_written_between_two_calls(self, inner, where):
        hidden = types.ModuleType("hidden")
        outer_state = hidden.state = gs.State(jnp.float32(2.0))
        held = {"closure": outer_state}

        def step(argument, x):
            state = {"closure": outer_state, "hidden": hidden.state, "argument": argument}.get(where) or gs.State(
                x * 0 + 2.0
            )
            function = inner(lambda y: state.value * y)
            first = function(x)
            state.value = state.value + 1
            return first, function(x)

        compiled = gs.jit(step)
        argument = gs.State(jnp.float32(2.0))
        assert compiled(argument, 1.0) == (2.0, 3.0)
        assert compiled(argument, 1.0) == ((2.0, 3.0) if where == "made inside" else (3.0, 4.0))
        assert held["closure"].value == (4.0 if where in ("closure", "hidden") else 2.0)

    def test_it_is_right_in_a_second_trace_and_in_other_transforms(self, inner):
        state = gs.ParamState(jnp.float32(2.0))
        function = inner(lambda y: state.value * y)
        compiled = gs.jit(lambda x: function(x))
        assert compiled(1.0) == 2.0
        state.value = jnp.float32(3.0)
        assert compiled(1.0) == 3.0
        assert gs.jit(lambda x: function(x) + 1)(1.0) == 4.0
        assert gs.jit(lambda x: gs.grad(function)(x) + gs.grad(function, states=state)(x))(2.0) == 5.0
        assert gs.jit(lambda x: gs.vmap(function)(x))(X).tolist() == (3 * X).tolist()
        assert gs.for_loop(function, X).tolist() == (3 * X).tolist()
        state.value = jnp.float32(5.0)
        assert compiled(1.0) == 5.0
        assert gs.for_loop(function, X).tolist() == (5 * X).tolist()

    def test_it_sees_each_step_of_a_loop(self, inner):
        state = gs.State(jnp.float32(2.0))
        function = inner(lambda y: state.value * y)

        def step(x):
            before = function(x)
            state.value = state.value + 1.0
            return before + function(x)

        assert gs.for_loop(step, jnp.ones(3)).tolist() == [5.0, 7.0, 9.0]
        assert gs.jit(lambda: gs.for_loop(step, jnp.ones(3)))().tolist() == [11.0, 13.0, 15.0]

    def test_it_sees_each_lane(self, inner):
        state = gs.State(X)
        function = inner(lambda y: jnp.sum(state.value) * y)

        def step(x):
            before = function(x)
            state.value = state.value + 1.0
            return before + function(x)

        @gs.jit
        def both(x):
            return function(x), gs.vmap(step, state_in_axes=gs.State)(x * jnp.ones(3)), function(x)

        before, lanes, after = both(1.0)
        assert before == 6.0
        assert lanes.tolist() == [3.0, 5.0, 7.0]
        assert after == 9.0
        before, lanes, after = both(1.0)
        assert (before, lanes.tolist(), after) == (9.0, [5.0, 7.0, 9.0], 12.0)

    def test_it_sees_what_an_inner_transform_wrote(self, inner):
        state = gs.State(jnp.float32(2.0))
        function = inner(lambda y: state.value * y)

        def add(x):
            state.value = state.value + x
            return function(x)

        @gs.jit
        def step(x):
            first = function(x)
            second = gs.jit(add)(x)
            third = function(x)
            fourth = gs.grad(add)(x)
            return first, second, third, fourth, function(x), gs.for_loop(add, x[None])[0], function(x)

        expected, value = [], 2.0
        for _ in range(2):
            expected.append([value, value + 1, value + 1, value + 2 + 1, value + 2, value + 3, value + 3])
            value += 3
        results = [[float(part) for part in step(jnp.float32(1.0))] for _ in range(2)]
        # The derivative of `add` is that of (state + x) * x.
        assert results == expected


@pytest.mark.no_leak_check("the cache of a plain `jax.jit` holds what its function closed over")
def test_a_plain_jit_is_right_after_the_transform_that_read_it_first():
    state = gs.State(jnp.float32(2.0))
    inner = jax.jit(lambda x: state.value * x)
    assert gs.jit(lambda x: inner(x))(1.0) == 2.0
    with pytest.warns(gs.errors.StaleReadWarning, match="Plain JAX .* is tracing a program that it will cache"):
        assert inner(1.0) == 2.0
    state.value = jnp.float32(3.0)
    assert gs.jit(lambda x: inner(x))(1.0) == 3.0


@pytest.mark.no_leak_check("the cache of a plain `jax.jit` holds what its function closed over")
@pytest.mark.parametrize("transform", [gs.vmap, gs.grad])
def test_a_value_of_an_eager_trace_is_not_handed_to_a_program_that_jax_caches(transform):
    state = gs.ParamState(jnp.ones(2) if transform is gs.vmap else jnp.float32(2.0))
    inner = jax.jit(lambda x: state.value * x)
    mapped = gs.vmap(inner, state_in_axes=gs.State) if transform is gs.vmap else gs.grad(inner, states=state)
    argument = jnp.ones(2) if transform is gs.vmap else 1.0
    with pytest.raises(
        gs.errors.TraceContextError,
        match=r"A program that plain JAX caches .* read .* inside of an eager graphstate transform, .* Use "
        r"the transform of the same name .*`graphstate.jit`",
    ):
        mapped(argument)
    compiled = gs.jit(mapped)(argument)
    assert compiled.tolist() == ([1.0, 1.0] if transform is gs.vmap else 1.0)


def test_plain_jax_around_graphstate_reads_and_refuses_writes():
    cell = Cell()
    per_lane = jax.vmap(lambda x: gs.grad(lambda y: cell.weight.value * y**2)(x))(X)
    np.testing.assert_array_equal(per_lane, 6 * X)
    with pytest.raises(gs.errors.TraceContextError, match="written inside of a transform of plain JAX"):
        jax.vmap(gs.jit(cell))(X)
    with pytest.raises(gs.errors.TraceContextError, match="written inside of a transform of plain JAX"):
        jax.grad(lambda x: gs.for_loop(cell, x[None])[0])(1.0)
    assert cell.count.value == 0


def test_split_and_merge_are_right_inside_of_plain_jax():
    cell = Cell()

    @jax.jit
    def step(state, x):
        inside = gs.merge(gs.graphdef(cell), state)
        result = gs.jit(inside)(x)
        return result, gs.state(inside)

    result, after = step(gs.state(cell), 2.0)
    assert result == 18.0
    assert after["count"] == 1
    assert cell.count.value == 0
    _, again = step(after, 2.0)
    assert again["count"] == 2


# Randomness


@pytest.mark.no_leak_check("runs many eager transforms")
@pytest.mark.parametrize(("outer", "inner"), list(itertools.product(["jit", "vmap", "for_loop", "grad"], repeat=2)))
def test_no_two_draws_are_alike(outer, inner):
    rng = gs.random.RandomState(0)
    wrap = {
        "jit": lambda f: lambda x: gs.jit(f)(x)[None],
        "vmap": lambda f: lambda x: gs.vmap(f)(x * jnp.ones(3)),
        "for_loop": lambda f: lambda x: gs.for_loop(f, x * jnp.ones(3)),
        "grad": lambda f: lambda x: gs.grad(lambda y: (jnp.sum(f(y)), f(y)), has_aux=True)(x)[1][None],
    }
    drawn = []
    nested = wrap[outer](wrap[inner](lambda x: rng.normal() + 0 * x))
    for function in (nested, nested, gs.jit(nested)):
        drawn += np.ravel(function(jnp.float32(1.0))).tolist()
    assert len(set(drawn)) == len(drawn)


def test_draws_in_a_jitted_step_are_those_of_the_eager_one():
    compiled, eager = gs.random.RandomState(0), gs.random.RandomState(0)
    step = gs.jit(lambda: compiled.normal(size=2))
    for _ in range(3):
        np.testing.assert_allclose(step(), eager.normal(size=2), rtol=1e-6)
    assert compiled.value == eager.value


# Ensembles: one by one, and together


def test_an_ensemble_is_trained_as_its_members_are():
    class Model(gs.Node):
        def __init__(self, seed):
            self.rng = gs.random.RandomState(seed)
            self.weight = gs.ParamState(self.rng.normal(size=2))
            self.steps = gs.State(jnp.int32(0))

        def loss(self, x):
            noise = self.rng.normal(size=2)
            return jnp.sum((self.weight.value * x + noise) ** 2)

    def step(model, x):
        value, gradient = gs.value_and_grad(Model.loss)(model, x)
        model.weight.value = model.weight.value - 0.1 * gradient["weight"]
        model.steps.value = model.steps.value + 1
        return value

    members, ensemble = [Model(seed) for seed in range(3)], gs.vmap(Model)(jnp.arange(3))
    train = gs.jit(gs.vmap(step, in_axes=(0, None)))
    alone = gs.jit(step)
    for number in range(3):
        x = jnp.float32(number + 1)
        np.testing.assert_allclose(train(ensemble, x), [alone(member, x) for member in members], rtol=1e-5)
    np.testing.assert_allclose(ensemble.weight.value, np.stack([member.weight.value for member in members]), rtol=1e-5)
    assert ensemble.steps.value.tolist() == [3, 3, 3]
    assert (ensemble.rng.value == jnp.stack([member.rng.value for member in members])).all()


@pytest.mark.parametrize(
    "outer",
    [
        lambda function: gs.value_and_grad(function)(1.0)[0],
        lambda function: gs.jvp(function, (1.0,), (1.0,))[0],
        lambda function: gs.vmap(function)(jnp.ones(2))[0],
        lambda function: gs.jit(gs.vmap(function))(jnp.ones(2))[0],
    ],
    ids=["grad", "jvp", "vmap", "jit of vmap"],
)
@pytest.mark.parametrize(
    "inner",
    [lambda function: gs.jit(function)(), lambda function: gs.for_loop(lambda _: function(), jnp.ones(1))[0]],
    ids=["jit", "for_loop"],
)
def test_a_numpy_array_is_read_first_by_an_inner_transform(outer, inner):
    closed, nested = gs.State(np.ones(3, np.float32)), gs.State({"a": np.ones(2, np.float32)})

    def total():
        return closed.value.sum() + nested.value["a"].sum()

    assert outer(lambda x: x * inner(total) + total()) == 10.0
