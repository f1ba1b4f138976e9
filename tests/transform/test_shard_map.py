"""`shard_map`: blocks of arguments and States; what shards may write; streams; meshes; what does not fit."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import graphstate as gs
from graphstate import random
from graphstate.errors import AliasError, AxisError, BatchAxisError, StateTypeError, StructureError, TraceContextError

MESH = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
GRID = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
XS = jnp.arange(16.0)


def split(function=None, **options):
    """`shard_map` of one argument that is split, as is the result."""
    return gs.shard_map(function, **{"mesh": MESH, "in_specs": P("x"), "out_specs": P("x"), **options})


class Cell(gs.Node):
    def __init__(self, hidden, weight=2.0):
        self.hidden = gs.HiddenState(hidden)
        self.weight = gs.ParamState(jnp.asarray(weight, jnp.float32))


BY_FILTER = gs.StateAxes({gs.HiddenState: P("x"), ...: None})


# Blocks


def test_a_function_of_arrays_is_that_of_jax():
    def step(x, y):
        return x + jax.lax.psum(y, "x"), jax.lax.axis_index("x")[None]

    options = {"mesh": MESH, "in_specs": (P("x"), P()), "out_specs": (P("x"), P("x"))}
    ours, theirs = gs.shard_map(step, **options), jax.jit(jax.shard_map(step, **options))
    arguments = XS, jnp.float32(1.0)
    jax.tree.map(np.testing.assert_array_equal, ours(*arguments), theirs(*arguments))
    assert ours(*arguments)[0].sharding == theirs(*arguments)[0].sharding


def test_a_spec_holds_for_all_states_of_a_node_and_state_axes_choose():
    cell = Cell(jnp.zeros(16))

    def step(cell, x):
        assert (cell.hidden.value.shape, cell.weight.value.shape) == ((2,), ())
        cell.hidden.value = cell.hidden.value + cell.weight.value * x
        return cell.hidden.value.sum()[None]

    out = gs.shard_map(step, mesh=MESH, in_specs=(BY_FILTER, P("x")), out_specs=P("x"))(cell, XS)
    np.testing.assert_array_equal(cell.hidden.value, 2 * XS)
    np.testing.assert_array_equal(out, (2 * XS).reshape(8, 2).sum(1))
    assert cell.hidden.value.sharding.spec == P("x")
    whole = gs.shard_map(lambda cell: cell.hidden.value.sum(), mesh=MESH, in_specs=None, out_specs=P())
    assert whole(cell) == 2 * XS.sum()


def test_states_of_the_closure_are_split_by_filter():
    cell = Cell(jnp.zeros(16))
    seen = gs.ShortTermState(jnp.zeros(()))

    @split(state_in_specs={gs.HiddenState: P("x")}, state_out_specs={gs.ShortTermState: P("x")})
    def step(x):
        cell.hidden.value = cell.hidden.value + cell.weight.value * x
        seen.value = x.max()[None]
        return x

    for _ in range(2):
        step(XS)
    np.testing.assert_array_equal(cell.hidden.value, 4 * XS)
    np.testing.assert_array_equal(seen.value, XS[1::2])


def test_a_state_that_is_found_late_is_whole_or_split_as_the_filters_say():
    hidden = types.ModuleType("hidden")  # no closure is looked for in a module
    hidden.state = gs.HiddenState(XS)
    np.testing.assert_array_equal(split(lambda x: x + hidden.state.value.sum())(XS), XS + XS.sum())
    step = split(lambda x: x + hidden.state.value, state_in_specs={gs.HiddenState: P("x")})
    np.testing.assert_array_equal(step(XS), 2 * XS)


def test_two_axes_of_a_mesh_split_two_axes_of_an_array():
    table = gs.State(jnp.zeros((4, 8)))
    values = jnp.arange(32.0).reshape(4, 8)

    @gs.shard_map(mesh=GRID, in_specs=P("a", "b"), out_specs=P(("a", "b")), state_in_specs={gs.State: P("a", "b")})
    def step(block):
        assert block.shape == (2, 2)
        table.value = 2 * block
        return block.sum()[None]

    blocks = [values[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].sum() for i in range(2) for j in range(4)]
    np.testing.assert_array_equal(step(values), blocks)
    np.testing.assert_array_equal(table.value, 2 * values)


def test_keyword_arguments_have_the_spec_of_their_position():
    def step(x, y, z=1.0):
        return x * y + z

    mapped = gs.shard_map(step, mesh=MESH, in_specs=(P("x"), None), out_specs=P("x"))
    np.testing.assert_array_equal(mapped(y=jnp.float32(2.0), x=XS), 2 * XS + 1)
    every = split(lambda *, x: x)
    np.testing.assert_array_equal(every(x=XS), XS)
    with pytest.raises(AxisError, match=r"was given `z`, which has no position"):
        gs.shard_map(lambda x, *, z: x, mesh=MESH, in_specs=(P("x"), P()), out_specs=P("x"))(XS, z=XS)


def test_a_method_is_decorated():
    class Model(gs.Node):
        def __init__(self):
            self.weight = gs.ParamState(jnp.float32(3.0))

        @gs.shard_map(mesh=MESH, in_specs=(None, P("x")), out_specs=P("x"))
        def apply(self, x):
            return self.weight.value * x

    np.testing.assert_array_equal(Model().apply(XS), 3 * XS)
    model = Model()
    np.testing.assert_array_equal(split(lambda x: model.weight.value + x)(XS), 3 + XS)


# What shards may write


def test_what_does_not_vary_over_shards_is_written_once():
    total, number = gs.State(jnp.float32(0.0)), gs.State(0)

    @split
    def step(x):
        number.value += 1
        total.value = total.value + jax.lax.psum(x.sum(), "x")
        return x

    step(XS)
    assert (float(total.value), int(number.value)) == (120.0, 1)


def test_a_value_that_varies_over_shards_cannot_be_written_to_a_whole_state():
    total = gs.State(jnp.float32(1.0))

    @split
    def step(x):
        total.value = x.sum()
        return x

    with pytest.raises(
        BatchAxisError,
        match=r"`total` \(State, created at test_shard_map.py:\d+\) has one value for all shards along 'x', but a "
        r"value that varies over them.*`jax.lax.pmean\(value, 'x'\)`.*`state_in_specs`",
    ):
        step(XS)
    assert total.value == 1.0


def test_a_value_that_varies_over_one_axis_more_than_its_state_is_split_by_is_an_error():
    cell = Cell(jnp.zeros(8))

    def step(cell, x):
        cell.hidden.value = x

    mapped = gs.shard_map(step, mesh=GRID, in_specs=(P("a"), P(("a", "b"))), out_specs=P())
    with pytest.raises(AxisError, match=r"`cell.weight` is split by P\('a',\), which has an entry for axis 0, but its"):
        mapped(cell, XS)
    axes = gs.StateAxes({gs.HiddenState: P("a"), ...: P()})
    mapped = gs.shard_map(step, mesh=GRID, in_specs=(axes, P(("a", "b"))), out_specs=P())
    with pytest.raises(BatchAxisError, match=r"`cell.hidden` \(.*has one value for all shards along 'b'"):
        mapped(cell, XS)
    np.testing.assert_array_equal(cell.hidden.value, jnp.zeros(8))


def test_without_check_vma_a_write_has_to_be_promised():
    total = gs.State(jnp.float32(0.0))

    def step(x):
        total.value = jax.lax.psum(x.sum(), "x")
        return x

    with pytest.raises(
        BatchAxisError, match=r"`total` .*With `check_vma=False` JAX does not tell.*`state_out_specs=\{filter"
    ):
        split(step, check_vma=False)(XS)
    split(step, check_vma=False, state_out_specs={gs.State: P()})(XS)
    assert total.value == 120.0
    cell = Cell(jnp.zeros(16))

    def write(cell, x):
        cell.hidden.value = x

    gs.shard_map(write, mesh=MESH, in_specs=(BY_FILTER, P("x")), out_specs=None, check_vma=False)(cell, XS)
    np.testing.assert_array_equal(cell.hidden.value, XS)


def test_without_check_vma_a_new_state_of_a_whole_node_is_an_error():
    cell = Cell(jnp.zeros(16))

    def grow(cell, x):
        cell.extra = gs.State(x)

    mapped = gs.shard_map(grow, mesh=MESH, in_specs=(None, P("x")), out_specs=None, check_vma=False)
    with pytest.raises(
        BatchAxisError, match=r"may vary \(`check_vma=False` does not tell\) over 'x' went into the new"
    ):
        mapped(cell, XS)


def test_a_result_that_varies_needs_the_axis_in_its_spec():
    with pytest.raises(AxisError, match=r"`out_specs` does not name 'x' for a result that varies over it"):
        split(lambda x: x.sum(), out_specs=P())(XS)


def test_a_state_that_would_grow_is_an_error():
    seen = gs.ShortTermState(jnp.zeros(8))

    def step(x):
        seen.value = seen.value + x.sum()
        return x

    with pytest.raises(BatchAxisError, match=r"is split by `state_out_specs` only, but it was also read"):
        split(step, state_out_specs={gs.ShortTermState: P("x")})(XS)


# Streams


def test_each_shard_draws_from_a_stream_of_its_own():
    rng, reference = random.RandomState(0), random.RandomState(0)
    base = reference.split_key()
    out = split(lambda x: rng.normal(size=x.shape))(XS)
    expected = [random.RandomState(jax.random.fold_in(base, i)).normal(size=(2,)) for i in range(8)]
    np.testing.assert_array_equal(out, np.concatenate(expected))
    assert rng.value == reference.value


@pytest.mark.parametrize("check_vma", [True, False])
def test_the_number_of_a_shard_counts_all_split_axes_of_the_mesh(check_vma):
    rng, reference = random.RandomState(0), random.RandomState(0)
    spec = P(("a", "b"))
    over_grid = gs.shard_map(
        lambda rng, x: rng.normal(size=x.shape), mesh=GRID, in_specs=(None, spec), out_specs=spec, check_vma=check_vma
    )
    np.testing.assert_array_equal(over_grid(rng, XS), split(lambda x: reference.normal(size=x.shape))(XS))
    assert rng.value == reference.value


def test_shards_draw_alike_or_not_at_all_as_asked():
    rng = random.RandomState(0)
    out = split(lambda x: rng.normal() + 0 * x, rng="same")(XS)
    assert len(set(out.tolist())) == 1
    with pytest.raises(TraceContextError, match='drawn from inside of a map with rng="error"'):
        split(lambda x: rng.normal() + x, rng="error")(XS)
    with pytest.raises(AxisError, match="`rng` is one of 'split', 'same', 'error'"):
        split(lambda x: x, rng="none")


def test_a_draw_varies_over_shards():
    rng, noise = random.RandomState(0), gs.State(jnp.float32(0.0))

    @split
    def step(x):
        noise.value = rng.normal()
        return x

    with pytest.raises(BatchAxisError, match="`noise`"):
        step(XS)


def test_dropout_differs_from_shard_to_shard():
    drop = gs.nn.Dropout(0.5, rng=random.RandomState(0))
    with gs.environ.context(fit=True):
        out = split(drop)(jnp.ones((8, 32)))
    assert len({tuple(row) for row in out.tolist()}) == 8


# Nodes out of shards, structure, failures


def test_a_new_node_is_put_together_by_out_specs():
    made = split(lambda x: Cell(x), out_specs=BY_FILTER)(XS)
    np.testing.assert_array_equal(made.hidden.value, XS)
    assert made.weight.value.shape == ()
    with pytest.raises(BatchAxisError, match=r"varies over 'x' went into the new State `hidden`"):
        split(lambda x: Cell(x), out_specs=P())(XS)


def test_a_node_that_comes_back_is_the_same_object():
    cell = Cell(jnp.zeros(16))
    back = gs.shard_map(lambda cell: {"back": cell}, mesh=MESH, in_specs=(BY_FILTER,), out_specs=BY_FILTER)
    assert back(cell)["back"] is cell
    with pytest.raises(AxisError, match=r"`cell` is returned as it came in, so it keeps its spec.*`out_specs` None"):
        gs.shard_map(lambda cell: cell, mesh=MESH, in_specs=(BY_FILTER,), out_specs=None)(cell)


def test_a_change_of_structure_comes_out():
    cell = Cell(jnp.zeros(16))

    def grow(cell, x):
        cell.extra = gs.HiddenState(2 * x)
        del cell.weight

    gs.shard_map(grow, mesh=MESH, in_specs=(BY_FILTER, P("x")), out_specs=None)(cell, XS)
    np.testing.assert_array_equal(cell.extra.value, 2 * XS)
    assert not hasattr(cell, "weight")


def test_a_change_of_structure_of_the_closure_is_an_error():
    cell = Cell(jnp.zeros(16))

    @split
    def grow(x):
        cell.extra = 1
        return x

    with pytest.raises((TraceContextError, StructureError), match="argument"):
        grow(XS)


def test_an_outer_node_may_come_out_whole_only():
    trunk = Cell(jnp.zeros(2))
    assert split(lambda x: trunk, out_specs=None)(XS) is trunk
    with pytest.raises(AliasError, match=r"`hidden` split by P\('x',\), but that is .*the same object in all shards"):
        split(lambda x: trunk)(XS)


def test_a_failure_leaves_everything_as_it_was():
    cell, rng = Cell(jnp.zeros(16)), random.RandomState(0)
    key = rng.value

    def step(cell, x):
        cell.hidden.value = x * rng.normal()
        cell.extra = 1
        raise RuntimeError("as it was")

    with pytest.raises(RuntimeError, match="as it was"):
        gs.shard_map(step, mesh=MESH, in_specs=(BY_FILTER, P("x")), out_specs=None)(cell, XS)
    assert (rng.value == key, float(cell.hidden.value.sum()), hasattr(cell, "extra")) == (True, 0.0, False)


# Specs that do not fit


def test_a_spec_that_does_not_divide_a_shape_names_path_shape_spec_and_mesh():
    cell = Cell(jnp.zeros(9))
    with pytest.raises(
        AxisError,
        match=r"`cell.hidden` is split by P\('x',\), which makes 8 blocks along its axis 0, but its shape is \(9,\), "
        r"and 9 is no multiple of 8. The mesh is \{'x': 8\}",
    ):
        gs.shard_map(lambda cell: None, mesh=MESH, in_specs=(BY_FILTER,), out_specs=None)(cell)


def test_a_spec_that_is_longer_than_a_shape_is_an_error():
    with pytest.raises(
        AxisError, match=r"`x` is split by P\('x',\), which has an entry for axis 0, but its shape is \(\)"
    ):
        split(lambda x: x)(jnp.float32(0.0))
    with pytest.raises(AxisError, match=r"a result is split by P\('x',\).*its shape is \(\).*`value\[None\]`"):
        split(lambda x: x.sum())(XS)


def test_an_axis_that_the_mesh_does_not_have_is_an_error():
    with pytest.raises(
        AxisError,
        match=r"`in_specs` of `shard_map` names 'z' in P\('z',\), but it splits over 'x'; the mesh is \{'x': 8",
    ):
        split(lambda x: x, in_specs=P("z"))
    with pytest.raises(AxisError, match=r"`state_in_specs` of `shard_map` names 'z'"):
        split(lambda x: x, state_in_specs={...: P("z")})
    with pytest.raises(AxisError, match=r"`axis_names` of `shard_map` names 'z', but the axes of the mesh are 'x'"):
        split(lambda x: x, axis_names={"z"})
    with pytest.raises(AxisError, match=r"`out_specs` of `shard_map` names 'b' in P\('b',\), but it splits over 'a'"):
        gs.shard_map(lambda x: x, mesh=GRID, in_specs=P("a"), out_specs=P("b"), axis_names={"a"})


def test_what_is_no_spec_is_an_error():
    with pytest.raises(AxisError, match=r"`in_specs` of `shard_map` holds PartitionSpecs.*in it is 0 of type int"):
        split(lambda x: x, in_specs=0)
    with pytest.raises(AxisError, match=r"`state_in_specs` of `shard_map` is a mapping from filter to PartitionSpec"):
        split(lambda x: x, state_in_specs={gs.State: 0})
    with pytest.raises(
        AxisError, match=r"`in_specs` must have an entry for each argument of `.*lambda>`.* 2, and 1 arg"
    ):
        split(lambda x: x, in_specs=(P("x"), P("x")))(XS)
    with pytest.raises(AxisError, match=r"`out_specs` must be a prefix of the result"):
        split(lambda x: x, out_specs=(P("x"), P("x")))(XS)
    with pytest.raises(AxisError, match=r"`StateAxes` chooses among the States of a Node, but in `in_specs` it stands"):
        split(lambda x: x, in_specs=(BY_FILTER,))(XS)
    with pytest.raises(AxisError, match=r"`out_specs` of `shard_map` holds .*`StateAxes` of these, but in it is 0 of"):
        split(lambda x: x, out_specs=gs.StateAxes({...: 0}))
    with pytest.raises(StateTypeError, match="`shard_map` transforms a function"):
        gs.shard_map(3, mesh=MESH, in_specs=P(), out_specs=P())


def test_specs_are_no_lane_axes():
    cell = Cell(jnp.zeros((8, 2)), jnp.zeros(8))
    with pytest.raises(AxisError, match=r"`StateAxes` gives `hidden` \(HiddenState\) the P\('x',\), .*for `shard_map`"):
        gs.vmap(lambda cell: 0, in_axes=BY_FILTER)(cell)
    with pytest.raises(AxisError, match=r"for `shard_map`; a lane axis is an int or None"):
        gs.unstack(cell, axis=BY_FILTER)
    with pytest.raises(AxisError, match=r"A lane axis is an int or None, but one is P\('x',\)"):
        gs.vmap(lambda x: x, state_in_axes={...: P("x")})


def test_one_state_with_two_specs_is_an_error_naming_both():
    cell = Cell(XS, XS)
    mapped = gs.shard_map(lambda a, b: None, mesh=MESH, in_specs=(P("x"), P()), out_specs=None)
    with pytest.raises(
        AliasError,
        match=r"one spec, but `a.hidden` and `b.hidden` are the same State, and the first is split by P\('x',\), the "
        r"second whole in every shard",
    ):
        mapped(cell, cell)
    gs.shard_map(lambda a, b: None, mesh=MESH, in_specs=(P("x"), P(("x",), None)), out_specs=None)(cell, cell)


def test_a_state_of_an_argument_with_another_spec_in_the_closure_is_an_error():
    cell = Cell(XS)

    def step(argument):
        return cell.hidden.value.sum()

    mapped = gs.shard_map(step, mesh=MESH, in_specs=(None,), out_specs=P(), state_in_specs={gs.HiddenState: P("x")})
    with pytest.raises(AliasError, match=r"`argument.hidden` is whole in every shard.*split by P\('x',\) by `state_in"):
        mapped(cell)


# Meshes


def test_the_mesh_may_be_that_of_the_context():
    step = gs.shard_map(lambda x: jax.lax.psum(x, "x"), in_specs=P("x"), out_specs=P())
    with pytest.raises(AxisError, match=r"`shard_map` needs a mesh. Give one as `mesh=`"):
        step(XS)
    with jax.set_mesh(MESH):
        np.testing.assert_array_equal(step(XS), XS.reshape(8, 2).sum(0))


def test_an_axis_may_be_left_to_the_compiler():
    rng, cell = random.RandomState(0), Cell(jnp.zeros((2, 8)))

    @gs.shard_map(
        mesh=GRID, in_specs=P("a"), out_specs=P("a"), axis_names={"a"}, state_in_specs={gs.HiddenState: P("a")}
    )
    def step(x):
        assert x.shape == (1, 8)
        cell.hidden.value = cell.hidden.value + x
        return x + rng.normal()

    x = jax.device_put(jnp.ones((2, 8)), NamedSharding(GRID, P("a", "b")))
    out = step(x)
    np.testing.assert_array_equal(cell.hidden.value, jnp.ones((2, 8)))
    assert len(set(out.ravel().tolist())) == 2


def test_one_shard_map_in_another_splits_another_axis():
    total = gs.State(jnp.float32(0.0))
    inner = gs.shard_map(
        lambda x: x + jax.lax.axis_index("b").astype(x.dtype), in_specs=P("b"), out_specs=P("b"), axis_names={"b"}
    )

    @gs.shard_map(mesh=GRID, in_specs=P("a"), out_specs=P("a"), axis_names={"a"})
    def outer(x):
        total.value += jax.lax.psum(x.sum(), "a")
        return inner(x)

    np.testing.assert_array_equal(outer(jnp.ones(16)), 1 + np.tile(np.repeat(np.arange(4.0), 2), 2))
    assert total.value == 16.0


# With other transforms


@pytest.mark.no_leak_check(reason="counts traces")
def test_called_again_nothing_is_traced_or_compiled(caplog):
    cell, traces = Cell(jnp.zeros(16)), []

    def step(cell, x):
        traces.append(1)
        cell.hidden.value = cell.hidden.value + x

    def call():
        gs.shard_map(step, mesh=MESH, in_specs=(BY_FILTER, P("x")), out_specs=None)(cell, XS)

    call()
    call()  # the State is sharded by now: another type for JAX, which compiles the same program again
    with jax.log_compiles():
        call()
    assert len(traces) == 1
    assert "Compiling" not in caplog.text
    np.testing.assert_array_equal(cell.hidden.value, 3 * XS)


@pytest.mark.no_leak_check(reason="`jax.grad` of `jax.jit(jax.shard_map(...))` fails under it")
def test_it_runs_in_jit_and_under_grad():
    layer = gs.nn.Linear(2, 3, rng=random.RandomState(0))
    x = jax.random.normal(jax.random.key(1), (16, 2))

    def plain(layer):
        return jnp.mean(layer(x) ** 2)

    @gs.shard_map(mesh=MESH, in_specs=(None, P("x")), out_specs=P())
    def sharded(layer, x):
        return jax.lax.pmean(jnp.mean(layer(x) ** 2), "x")

    expected = gs.grad(plain)(layer)
    for transform in (lambda f: f, gs.jit):
        got = transform(gs.grad(lambda layer: sharded(layer, x)))(layer)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, expected)


def test_a_gradient_inside_is_that_of_the_whole_batch():
    layer = gs.nn.Linear(2, 1, rng=random.RandomState(0))
    x = jax.random.normal(jax.random.key(1), (16, 2))

    @gs.shard_map(mesh=MESH, in_specs=(None, P("x")), out_specs=P())
    def gradient(layer, x):
        return gs.grad(lambda layer: jnp.sum(layer(x) ** 2))(layer)

    expected = gs.grad(lambda layer: jnp.sum(layer(x) ** 2))(layer)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), gradient(layer, x), expected)


def test_vmap_scan_and_map_run_inside():
    total, rng = gs.State(jnp.float32(0.0)), random.RandomState(0)

    def add(x):
        total.value = total.value + jax.lax.psum(x, "x")
        return total.value

    def step(x):
        sums = gs.for_loop(add, x)
        lanes = gs.vmap(lambda x: x + rng.normal())(x)
        batches = gs.map(lambda x: x + rng.normal(), x, batch_size=1)
        return lanes, batches, sums

    lanes, batches, sums = split(step, out_specs=(P("x"), P("x"), P()))(XS)
    assert len({*(lanes - XS).tolist(), *(batches - XS).tolist()}) == 32
    first, both = XS[::2].sum(), XS.sum()
    np.testing.assert_array_equal(sums, [first, both])
    assert total.value == both


def test_it_runs_in_the_lanes_of_vmap():
    members = gs.vmap(lambda x: Cell(x))(jnp.zeros((3, 16)))

    @gs.shard_map(mesh=MESH, in_specs=(BY_FILTER, P("x")), out_specs=P("x"))
    def step(cell, x):
        cell.hidden.value = cell.hidden.value + x
        return cell.hidden.value * cell.weight.value

    for transform in (lambda f: f, gs.jit):
        out = transform(gs.vmap(step, in_axes=(0, None)))(members, XS)
    np.testing.assert_array_equal(members.hidden.value, [2 * XS] * 3)
    np.testing.assert_array_equal(out, [4 * XS] * 3)
