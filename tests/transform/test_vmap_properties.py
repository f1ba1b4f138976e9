"""`vmap` over drawn `in_axes` and `out_axes` equals the Python loop, and `jax.vmap` where the function is pure.

Few structures and many values: the structure of arguments is drawn from a short list, each of whose entries is made
of one kind of prefix tree, while axes, Nones and numbers are free. What is compared is asymmetric by construction:
every lane differs from the others, and every element has its own weight, so that no two axes can be confused.
"""

import functools
from collections import namedtuple
from typing import Any, NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import graphstate as gs

pytestmark = pytest.mark.no_leak_check("runs very many eager operations")

LANES = 3
Point = namedtuple("Point", ["x", "y"])

# Each structure is one argument; a leaf stands for an array of its rank, lane axis not counted.
STRUCTURES: list[Any] = [
    0,
    2,
    (1, 0),
    {"a": 1, "b": (2, None)},
    [1, {"k": 0}],
    Point(1, 2),
    {"deep": [{"er": (1,)}, 0]},
]


class Case(NamedTuple):
    """Arguments of a mapped function, and its axes.

    Attributes:
        args, kwargs: the arguments; arrays of all lanes where they are mapped.
        in_axes: as handed to `vmap`: a prefix tree.
        leaf_axes: the axis of each leaf of `args`.
        out_axes: the axis of each of the two results.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    in_axes: Any
    leaf_axes: list[int | None]
    out_axes: Any


def _array(rank: int, seed: int, axis: int | None) -> np.ndarray:
    """Numbers that differ in every element; with an axis of lanes where it is mapped."""
    shape = tuple(range(2, 2 + rank))
    if axis is not None:
        position = axis % (rank + 1)
        shape = (*shape[:position], LANES, *shape[position:])
    return np.float32(seed) + np.sin(np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape) + seed)


def _is_rank(leaf: Any) -> bool:
    return isinstance(leaf, int)


@st.composite
def _argument(draw: st.DrawFn) -> tuple[Any, Any, list[int | None]]:
    """One argument: the arrays, its axes as a prefix tree, and the axis of each leaf."""
    structure = draw(st.sampled_from(STRUCTURES))
    ranks = jax.tree.leaves(structure)
    whole = draw(st.sampled_from(["leaf by leaf", "one axis", "none"]))
    if whole == "none":
        prefix, axes = None, [None] * len(ranks)
    elif whole == "one axis":
        axis = draw(st.integers(-1, min(ranks)))
        prefix, axes = axis, [axis] * len(ranks)
    else:
        axes = [draw(st.none() | st.integers(-rank - 1, rank)) for rank in ranks]
        prefix = jax.tree.unflatten(jax.tree.structure(structure), axes)
    seeds = [draw(st.integers(1, 50)) for _ in ranks]
    arrays = [_array(rank, seed, axis) for rank, seed, axis in zip(ranks, seeds, axes, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(structure), arrays), prefix, axes


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Cases with at least one mapped leaf."""
    drawn = draw(st.lists(_argument(), min_size=1, max_size=3))
    args, prefixes, axes = zip(*drawn, strict=True)
    leaf_axes = [axis for part in axes for axis in part]
    kwargs = {"shift": _array(1, draw(st.integers(1, 9)), 0)} if draw(st.booleans()) else {}
    hypothesis.assume(kwargs or any(axis is not None for axis in leaf_axes))
    one_axis = isinstance(prefixes[0], int) and prefixes.count(prefixes[0]) == len(prefixes)
    in_axes = prefixes[0] if one_axis and draw(st.booleans()) else draw(st.sampled_from([tuple, list]))(prefixes)
    out_axes = draw(st.sampled_from([0, 1, -1, (2, 1), [1, {"total": 0}], (-3, {"total": -1})]))
    return Case(args, kwargs, in_axes, leaf_axes, out_axes)


def probe(*args: Any, shift: Any = None) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Two results, of ranks 2 and 1; every element of every leaf has its own part in them."""
    total = jnp.float32(0.0)
    for number, leaf in enumerate(jax.tree.leaves((args, shift))):
        weights = jnp.cos(jnp.arange(leaf.size, dtype=jnp.float32) + number).reshape(leaf.shape)
        total = total + jnp.sum(jnp.tanh(leaf) * weights)
    return total * jnp.arange(1.0, 7.0).reshape(2, 3), {"total": total + jnp.arange(2.0)}


def _lane(case: Case, lane: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of one lane, as a Python loop would take them."""
    leaves, treedef = jax.tree.flatten(case.args)
    taken = [
        leaf if axis is None else np.take(leaf, lane, axis) for leaf, axis in zip(leaves, case.leaf_axes, strict=True)
    ]
    return jax.tree.unflatten(treedef, taken), {name: value[lane] for name, value in case.kwargs.items()}


def _stack(results: list[Any], out_axes: Any) -> Any:
    """What the lanes returned, each leaf stacked at its axis."""
    first, second = out_axes if isinstance(out_axes, tuple | list) else (out_axes, out_axes)
    second = second["total"] if isinstance(second, dict) else second
    return np.stack([r[0] for r in results], axis=first), {
        "total": np.stack([r[1]["total"] for r in results], axis=second)
    }


def assert_same(result: Any, expected: Any) -> None:
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    for mine, theirs in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-5)


@hypothesis.settings(max_examples=25)
@hypothesis.given(case=cases())
def test_a_pure_function_is_mapped_as_jax_maps_it_and_as_the_loop_runs(case):
    plain_out_axes = tuple(case.out_axes) if isinstance(case.out_axes, list) else case.out_axes
    expected = jax.vmap(probe, in_axes=case.in_axes, out_axes=plain_out_axes)(*case.args, **case.kwargs)
    result = gs.vmap(probe, in_axes=case.in_axes, out_axes=case.out_axes)(*case.args, **case.kwargs)
    assert_same(result, expected)
    lanes = [_lane(case, lane) for lane in range(LANES)]
    assert_same(result, _stack([probe(*args, **kwargs) for args, kwargs in lanes], case.out_axes))


class Holder(gs.Node):
    """A Node made of a structure: States for half of its leaves, arrays for the others; the tree is kept as it is."""

    def __init__(self, tree):
        leaves, treedef = jax.tree.flatten(tree)
        held = [
            gs.State(jnp.asarray(leaf)) if number % 2 == 0 else jnp.asarray(leaf) for number, leaf in enumerate(leaves)
        ]
        self.tree = jax.tree.unflatten(treedef, held)
        self.count = gs.BatchState(jnp.int32(0))

    def values(self):
        return jax.tree.map(lambda part: part.value if isinstance(part, gs.State) else part, self.tree)


def work(holder, x, closed):
    """Reads everything, writes some of it, and returns what shows the order of lanes and elements."""
    result, rest = probe(holder.values(), x, closed.value)
    for part in jax.tree.leaves(holder.tree):
        if isinstance(part, gs.State):
            part.value = part.value * 2 + rest["total"][1]
    closed.value = closed.value + jnp.sum(result)
    holder.count.value = holder.count.value + 1
    return result, rest


@st.composite
def node_cases(draw: st.DrawFn) -> tuple[Any, int, int, int, int]:
    """A structure, the axis of its leaves, the axis of the closed-over State, a seed, and the axis of the results."""
    structure = draw(st.sampled_from(STRUCTURES))
    axis = draw(st.integers(-1, min(jax.tree.leaves(structure))))
    return structure, axis, draw(st.integers(-2, 1)), draw(st.integers(1, 50)), draw(st.integers(-2, 1))


@hypothesis.settings(max_examples=25)
@hypothesis.given(case=node_cases(), compiled=st.booleans())
def test_nodes_and_closed_over_states_are_mapped_as_the_loop_runs(case, compiled):
    structure, axis, closed_axis, seed, out_axis = case
    ranks, treedef = jax.tree.flatten(structure)
    values = [_array(rank, seed + number, axis) for number, rank in enumerate(ranks)]
    xs, closed = _array(1, seed, 0), _array(1, seed + 7, closed_axis)

    # The loop: each lane starts from what was there, and leaves its slice behind.
    results, after, closed_after = [], [], []
    for lane in range(LANES):
        holder = Holder(jax.tree.unflatten(treedef, [np.take(value, lane, axis) for value in values]))
        state = gs.State(jnp.asarray(np.take(closed, lane, closed_axis)))
        results.append(work(holder, xs[lane], state))
        after.append(jax.tree.leaves(holder.values()))
        closed_after.append(state.value)

    holder, state = Holder(jax.tree.unflatten(treedef, values)), gs.State(jnp.asarray(closed))
    axes = gs.StateAxes({gs.BatchState: None, ...: axis})
    mapped = gs.vmap(
        lambda holder, x: work(holder, x, state),
        in_axes=(axes, 0),
        out_axes=out_axis,
        state_in_axes={gs.State: closed_axis},
    )
    assert_same((gs.jit(mapped) if compiled else mapped)(holder, xs), _stack(results, out_axis))
    assert_same(jax.tree.leaves(holder.values()), [np.stack(parts, axis) for parts in zip(*after, strict=True)])
    assert_same(state.value, np.stack(closed_after, closed_axis))
    assert holder.count.value == 1


@hypothesis.settings(max_examples=30)
@hypothesis.given(outer=st.integers(-2, 1), out_axis=st.integers(-2, 1), seed=st.integers(1, 50))
def test_two_maps_are_a_double_loop(outer, out_axis, seed):
    """One State is mapped by both maps, another by the outer one only."""
    values = _array(1, seed, 0)
    rows = np.arange(1.0, 1 + LANES, dtype=np.float32) * seed
    state, row = gs.State(jnp.asarray(np.moveaxis(values, 0, outer))), gs.HiddenState(jnp.asarray(rows))

    def cell(x):
        state.value = state.value * x + row.value
        return state.value - row.value

    def line(xs):
        return gs.vmap(cell, state_in_axes={gs.HiddenState: None, gs.State: -1})(xs)

    xs = np.float32([[10.0, 20.0], [30.0, 40.0], [50.0, 60.0]])
    mapped = gs.vmap(line, state_in_axes={gs.HiddenState: 0, gs.State: outer}, out_axes=out_axis)
    assert_same(mapped(xs), np.moveaxis(values * xs + rows[:, None] - rows[:, None], 0, out_axis))
    assert_same(state.value, np.moveaxis(values * xs + rows[:, None], 0, outer))


@hypothesis.settings(max_examples=30)
@hypothesis.given(axis=st.integers(-3, 2), kept=st.sets(st.sampled_from(["a", "b", "c"])), seed=st.integers(1, 50))
def test_a_mapped_constructor_is_the_stack_of_the_members(axis, kept, seed):
    """States at a drawn axis; those in `kept` are the same in all lanes and come out unmapped."""
    numbers = jnp.arange(1.0, 1 + LANES) * seed

    class Model(gs.Node):
        def __init__(self, x):
            shift = jnp.arange(6.0).reshape(2, 3)
            self.a, self.b, self.c = (gs.State(shift + (seed if name in kept else x)) for name in "abc")
            self.parts = [self.a, {"again": self.b}]

    axes = gs.StateAxes({lambda path, state: path[-1] in kept: None, ...: axis}) if kept else axis
    stacked, members = gs.vmap(Model, out_axes=axes)(numbers), [Model(x) for x in numbers]
    assert stacked.parts[0] is stacked.a
    assert stacked.parts[1]["again"] is stacked.b
    for name in "abc":
        lanes = [getattr(member, name).value for member in members]
        expected = lanes[0] if name in kept else np.stack(lanes, axis)
        np.testing.assert_array_equal(getattr(stacked, name).value, expected)


@hypothesis.settings(max_examples=25)
@hypothesis.given(data=st.data())
def test_each_lane_is_isolated(data):
    """With all other lanes filled with NaN, a lane's result and States are bit for bit what they were."""
    case = data.draw(node_cases())
    structure, axis, closed_axis, seed, _ = case
    ranks, treedef = jax.tree.flatten(structure)
    values = [_array(rank, seed + number, axis) for number, rank in enumerate(ranks)]
    xs, closed = _array(1, seed, 0), _array(1, seed + 7, closed_axis)
    lane = data.draw(st.integers(0, LANES - 1))

    def run(poison):
        def prepared(array, axis):
            poisoned = np.full_like(array, np.nan)
            index = [slice(None)] * array.ndim
            index[axis] = lane
            poisoned[tuple(index)] = array[tuple(index)]
            return poisoned if poison else array

        holder = Holder(jax.tree.unflatten(treedef, [prepared(value, axis) for value in values]))
        state = gs.State(jnp.asarray(prepared(closed, closed_axis)))
        axes = gs.StateAxes({gs.BatchState: None, ...: axis})
        mapped = gs.vmap(
            lambda holder, x: work(holder, x, state), in_axes=(axes, 0), state_in_axes={gs.State: closed_axis}
        )
        results = mapped(holder, prepared(xs, 0))
        kept = [(leaf, axis) for leaf in jax.tree.leaves(holder.values())]
        kept += [(state.value, closed_axis), *((leaf, 0) for leaf in jax.tree.leaves(results))]
        return [np.take(np.asarray(leaf), lane, axis).tobytes() for leaf, axis in kept]

    assert run(poison=True) == run(poison=False)


@hypothesis.settings(max_examples=25)
@hypothesis.given(lanes=st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True), seed=st.integers(0, 99))
def test_draws_depend_on_the_key_and_the_lane_only(lanes, seed):
    """Seeded in the lane, a lane draws what the loop draws; unseeded, the number of lanes does not matter."""

    def draw(number):
        gs.random.seed(number)
        return gs.random.uniform(size=2)

    with gs.random.seed_context(seed):
        seeded = gs.vmap(draw)(jnp.asarray(lanes))
        for row, number in zip(seeded, lanes, strict=True):
            np.testing.assert_allclose(row, draw(number), rtol=1e-6)
    rng = gs.random.RandomState(seed)
    key = rng.value
    few = gs.vmap(functools.partial(rng.uniform, size=2), axis_size=len(lanes))()
    rng.value = key
    np.testing.assert_array_equal(gs.vmap(functools.partial(rng.uniform, size=2), axis_size=5)()[: len(lanes)], few)
