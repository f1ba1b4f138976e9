"""The laws that hold in every transform: one test a law, one row (see rows.py) a transform, twice each.

The Node is an argument of the transform ("passed"), or the function closes over it ("closed").
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import StructureError, TraceContextError
from tests.transform.rows import BY_NAME, ROWS

X = jnp.float32(2.0)


class Cell(gs.Node):
    """One of everything that a function may read, write or change."""

    def __init__(self):
        self.weight = gs.ParamState(jnp.float32(3.0))
        self.count = gs.BatchState(jnp.int32(0))
        self.rng = gs.random.RandomState(7)
        self.first = self.second = gs.Node()
        self.first.part = gs.HiddenState(jnp.float32(0.0))
        self.items = [gs.State(jnp.float32(1.0))]
        self.label = "old"


everywhere = pytest.mark.parametrize(
    ("row", "access"),
    [
        pytest.param(row, access, id=f"{row}-{access}")
        for row in ROWS
        for access in ("closed", "passed")
        if access == "closed" or row.passed is not None
    ],
)
eager_loops = pytest.mark.no_leak_check("runs many eager transforms")


def calls(row, access, f):
    """The transformed function, eager, and compiled as a whole."""
    transformed = row.wrap(f, access)
    return transformed, gs.jit(transformed)


def traced_calls(row, access, f):
    """As `calls`, without the eager one if that is nothing but the function itself."""
    eager, compiled = calls(row, access, f)
    return (compiled,) if row.kinds & {"itself", "transparent"} else (eager, compiled)


@everywhere
@eager_loops
def test_a_read_is_never_stale(row, access):
    cell = Cell()
    for call in calls(row, access, lambda cell, x: cell.weight.value**2 * x**3):
        for value in (3.0, 5.0):
            cell.weight.value = jnp.float32(value)
            np.testing.assert_allclose(call(cell, X), row.plain(lambda x: value**2 * x**3)(2.0), rtol=1e-5)  # noqa: B023


@everywhere
@eager_loops
def test_a_write_is_committed_once(row, access):
    cell, expected = Cell(), 0

    def add(cell, x):
        cell.count.value = cell.count.value + cell.items[0].value.astype(int)
        return cell.weight.value * x

    for call in calls(row, access, add):
        for step in (1.0, 10.0):
            cell.items[0].value = jnp.float32(step)
            call(cell, X)
            expected += row.steps * int(step)
            assert cell.count.value == expected
            assert isinstance(cell.count.value, jax.Array)
    assert cell.weight.value == 3.0


@everywhere
@eager_loops
def test_a_failure_leaves_everything_as_it_was(row, access):
    cell = Cell()
    before = {path: state.value for path, state in gs.states(cell).items()}
    definition = gs.graphdef(cell)

    def fail(cell, x):
        cell.count.value = cell.count.value + 1
        cell.rng.normal()
        if access == "passed":
            cell.items.append(gs.State(x))
            cell.label = "new"
        raise RuntimeError("it failed")

    for call in traced_calls(row, access, fail):
        with pytest.raises(RuntimeError, match="it failed"):
            call(cell, X)
        assert gs.graphdef(cell) == definition
        for path, state in gs.states(cell).items():
            assert state.value is before[path]


@everywhere
@eager_loops
def test_random_streams_advance_as_they_should(row, access):
    """Once for each step of a loop, once for all lanes, and once whatever is differentiated."""
    cell, twin = Cell(), Cell()
    for call in calls(row, access, lambda cell, x: cell.rng.normal() * x):
        values = []
        for _ in range(2):
            values.append(float(call(cell, X)))
            if "lanes" in row.kinds:
                gs.vmap(twin.rng.normal, axis_size=2)()
            else:
                draws = [float(twin.rng.normal()) for _ in range(row.steps)]
            assert cell.rng.value == twin.rng.value
            if "lanes" not in row.kinds and row.steps == 1:
                np.testing.assert_allclose(values[-1], row.plain(lambda x: draws[0] * x)(2.0), rtol=1e-5)  # noqa: B023
        assert values[0] != values[1] or row.name == "hessian"  # of what is linear


@everywhere
@eager_loops
def test_what_is_shared_stays_shared(row, access):
    cell, runs = Cell(), []

    def write(cell, x):
        runs.append(cell.first is cell.second)
        cell.first.part.value = cell.second.part.value + 1
        assert cell.first.part.value is cell.second.part.value
        return cell.weight.value * x

    for number, call in enumerate(calls(row, access, write), start=1):
        call(cell, X)
        assert cell.first is cell.second
        assert cell.second.part.value == number * row.steps
    assert all(runs)


@everywhere
@eager_loops
def test_a_change_of_structure_comes_out_or_is_refused(row, access):
    """It comes out where a Node is an argument; a loop or branch refuses it, and so does a closure."""

    def change(cell, x):
        cell.extra = gs.State(cell.weight.value + 1)
        cell.items.append(gs.State(cell.weight.value))
        cell.label = "new"
        return cell.weight.value * x

    for call in traced_calls(row, access, change):
        cell = Cell()
        before = gs.graphdef(cell)
        if access == "closed" and "transparent" not in row.kinds:
            with pytest.raises(TraceContextError, match="reached through a closure"):
                call(cell, X)
        elif row.kinds & {"loop", "branch", "rule"}:
            with pytest.raises(StructureError, match=r"extra: missing -> State"):
                call(cell, X)
        else:
            for length in (2, 3):
                call(cell, X)
                assert cell.extra.value == 4.0
                assert len(cell.items) == length
                assert cell.label == "new"
            continue
        assert gs.graphdef(cell) == before


@everywhere
@pytest.mark.no_leak_check("counts runs")
def test_user_code_runs_once_for_each_trace(row, access):
    cell, runs = Cell(), []

    def count(cell, x):
        runs.append(None)
        return cell.weight.value * x

    compiled = gs.jit(row.wrap(count, access))
    for value in (1.0, 2.0):
        compiled(cell, jnp.float32(value))
    assert len(runs) == row.runs


@pytest.mark.no_leak_check("counts runs and compilations")
@pytest.mark.parametrize("access", ["closed", "passed"])
@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.kinds & {"loop", "branch", "manual"} or row.name.startswith(("map", "pmap"))],
    ids=str,
)
def test_control_flow_that_is_called_again_traces_and_compiles_nothing(row, access, caplog):
    cell, runs = Cell(), []

    def count(cell, x):
        runs.append(None)
        return cell.weight.value * x

    call = row.wrap(count, access)
    call(cell, X)
    call(cell, X)
    runs.clear()
    with jax.log_compiles():
        for value in (3.0, 4.0):
            cell.weight.value = jnp.float32(value)
            np.testing.assert_allclose(call(cell, X), row.plain(lambda x: value * x)(2.0), rtol=1e-5)  # noqa: B023
    assert runs == []
    assert [record.message for record in caplog.records if "Compiling" in record.message] == []


# Nodes that are returned


def _second(pair):
    return pair[1]


RETURNS = {
    "jit": lambda f, cell: gs.jit(f)(cell, X),
    "vmap": lambda f, cell: gs.vmap(f, in_axes=(None, 0), out_axes=None)(cell, X * jnp.ones(2)),
    "pmap": lambda f, cell: gs.pmap(f, in_axes=(None, 0), out_axes=None)(cell, X * jnp.ones(8)),
    "grad": lambda f, cell: _second(gs.grad(lambda x, cell: (x, f(cell, x)), has_aux=True)(X, cell)),
    "vector_grad": lambda f, cell: _second(gs.vector_grad(lambda x, c: (x[None], f(c, x)), has_aux=True)(X, cell)),
    "jacrev": lambda f, cell: _second(gs.jacrev(lambda x, cell: (x, f(cell, x)), has_aux=True)(X, cell)),
    "jacfwd": lambda f, cell: _second(gs.jacfwd(lambda x, cell: (x, f(cell, x)), has_aux=True)(X, cell)),
    "hessian": lambda f, cell: _second(gs.hessian(lambda x, cell: (x, f(cell, x)), has_aux=True)(X, cell)),
    "jvp": lambda f, cell: gs.jvp(lambda x: (x, f(cell, x)), (X,), (X,), has_aux=True)[2],
    "vjp": lambda f, cell: gs.vjp(lambda x: (x, f(cell, x)), X, has_aux=True)[2],
    "linearize": lambda f, cell: gs.linearize(lambda x: (x, f(cell, x)), X, has_aux=True)[2],
    "checkpoint": lambda f, cell: gs.jit(gs.checkpoint(f))(cell, X),
    "scan": lambda f, cell: gs.scan(lambda cell, x: (f(cell, x), None), cell, X * jnp.ones(2))[0],
    "while_loop": lambda f, cell: gs.while_loop(_is_two, lambda c: (c[0] + 1, f(c[1], X)), (jnp.int32(0), cell))[1],
    "fori_loop": lambda f, cell: gs.fori_loop(0, 2, lambda i, cell: f(cell, X), cell),
    "cond": lambda f, cell: gs.cond(True, f, f, cell, X),
    "switch": lambda f, cell: gs.switch(1, [f, f], cell, X),
    "checkify": lambda f, cell: _second(gs.checkify(f)(cell, X)),
    "named_scope": lambda f, cell: gs.named_scope("scope")(f)(cell, X),
    "assert_max_traces": lambda f, cell: gs.assert_max_traces(f, 9)(cell, X),
}


def _is_two(carry):
    return carry[0] < 2


@pytest.mark.parametrize("name", RETURNS)
@eager_loops
def test_a_node_that_is_returned_is_the_node_that_was_passed(name):
    def touch(cell, x):
        cell.count.value = cell.count.value + 1
        return cell

    for _ in range(2):
        cell = Cell()
        assert RETURNS[name](touch, cell) is cell
        assert cell.count.value == BY_NAME[name].steps * (2 if name == "while_loop" else 1)
