"""Models built in their parts are those that are built whole and placed; abstract ones say where all will lie."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import graphstate as gs
from graphstate.errors import ShardingError
from graphstate.parallel import abstract, init_sharded, make_mesh, place

LINE, GRID = make_mesh(), make_mesh((2, 4), ("data", "model"))
RULES = {"embed": "data", "mlp": "model"}


class Block(gs.Node):
    def __init__(self, size=8, scale=1.0, *, rng=gs.random.DEFAULT):
        self.up = gs.ParamState(scale * rng.normal(size=(4, size)), axes=("embed", "mlp"))
        self.down = gs.ParamState(rng.normal(size=(size, 4)), axes=("mlp", "embed"))
        self.tied = self.up
        self.rest = gs.State({"count": 0, "mean": jnp.ones(3)}, tags="rest")
        self.table = jnp.arange(3)
        self.size = size


def build(size, scale=1.0):
    model = Block(size, scale)
    return {"copies": [gs.clone(model), scale], "model": model}


def placed(size, scale=1.0):
    return place(build(size, scale), GRID, RULES)


def key():
    return jax.random.key_data(gs.random.DEFAULT.value).tolist()


def arrays(tree):
    return jax.tree.leaves(gs.state(tree))


def test_a_model_is_what_it_is_when_placed_and_random_streams_advance_alike():
    gs.random.seed(5)
    wanted = placed(8, jnp.float32(2))
    after = key()
    gs.random.seed(5)
    built = init_sharded(build, GRID, RULES)(8, scale=jnp.float32(2))
    assert key() == after
    assert not gs.random.DEFAULT.value.committed
    assert gs.graph.diff(built, wanted) == []
    assert built["model"].tied is built["model"].up
    assert built["model"].up.value.sharding.spec == P("data", "model")
    for ours, theirs in zip(arrays(built), arrays(wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        assert ours.weak_type == theirs.weak_type
    for state, other in zip(gs.states(built).values(), gs.states(wanted).values(), strict=True):
        for ours, theirs in zip(jax.tree.leaves(state.value), jax.tree.leaves(other.value), strict=True):
            assert ours.sharding.is_equivalent_to(theirs.sharding, ours.ndim)


@pytest.mark.no_leak_check("compiles")
def test_no_device_makes_the_whole():
    compiled = init_sharded(lambda: Block(4096), LINE, {"mlp": "batch"}).lower().compile()
    memory = compiled.memory_analysis()
    whole = 2 * 4 * 4096 * 4
    assert whole // 8 <= memory.output_size_in_bytes < whole // 4
    assert memory.temp_size_in_bytes < whole
    assert re.findall(r"(all-gather|all-reduce|all-to-all|collective-permute)\(", compiled.as_text()) == []


def test_the_abstract_model_is_that_which_would_be_built():
    before = key()
    like = abstract(build, GRID, RULES)(8, scale=jax.ShapeDtypeStruct((), jnp.float32))
    assert key() == before
    built = init_sharded(build, GRID, RULES)(8, jnp.float32(1))
    assert gs.graph.diff(like, built) == []
    assert like["model"].tied is like["model"].up
    for struct, array in zip(arrays(like), arrays(built), strict=True):
        assert isinstance(struct, jax.ShapeDtypeStruct)
        assert (struct.shape, struct.dtype, struct.weak_type) == (array.shape, array.dtype, array.weak_type)
        assert struct.sharding.is_equivalent_to(array.sharding, array.ndim)


def test_an_array_of_numpy_becomes_what_jax_makes_of_it():
    make = lambda: gs.State(np.arange(3.0))  # noqa: E731
    assert abstract(make, LINE, {})().value.dtype == init_sharded(make, LINE, {})().value.dtype == jnp.float32


def test_what_the_caller_has_stays_where_it_is_but_for_what_comes_back():
    device = jax.devices()[3]
    rng, twin, count = gs.random.RandomState(1), gs.random.RandomState(1), gs.State(jnp.int32(0))
    count.value = jax.device_put(count.value, device)
    mine = gs.ParamState(jax.device_put(jnp.ones((8, 2)), device), axes=("mlp", None))

    def make(rng, mine):
        count.value += 1
        mine.value *= 2
        return Block(rng=rng), mine

    built, same = init_sharded(make, GRID, RULES)(rng, mine)
    np.testing.assert_allclose(built.up.value, Block(rng=twin).up.value, rtol=1e-5, atol=1e-6)
    assert rng.normal() == twin.normal()
    assert rng.value.sharding.device_set == {jax.devices()[0]}
    assert (count.value, count.value.sharding.device_set) == (1, {device})
    assert same is mine
    assert mine.value.sharding.spec == P("model", None)
    np.testing.assert_array_equal(mine.value, 2)


def test_it_may_be_called_while_a_function_is_traced():
    built = gs.jit(lambda: init_sharded(Block, GRID, RULES)())()
    assert built.up.value.sharding.is_equivalent_to(jax.NamedSharding(GRID, P("data", "model")), 2)


@pytest.mark.parametrize("make", [init_sharded, abstract])
@pytest.mark.parametrize(
    ("rules", "size", "text"),
    [
        (RULES, 6, r"Axis 0 of the State `copies/0/down` .* 4 devices \('model'\), .* \(6, 4\), and 6 is no multiple"),
        ({"mlp": "expert"}, 8, "The rule for 'mlp' names 'expert', but the axes of the mesh are 'data', 'model'"),
        ({"mlp": "model", "embed": "model"}, 8, "two axes of the State `copies/0/.*` are to lie along 'model'"),
    ],
)
def test_what_does_not_fit_is_named_and_no_state_changes(make, rules, size, text):
    before = key()
    with pytest.raises(ShardingError, match=text):
        make(build, GRID, rules)(size)
    assert key() == before


@pytest.mark.parametrize("make", [init_sharded, abstract])
def test_names_of_too_few_axes_are_an_error(make):
    with pytest.raises(ShardingError, match=r"for the State `\(root\)` they are \('mlp',\), and its shape is \(2, 8\)"):
        make(lambda: gs.State(jnp.ones((2, 8)), axes=("mlp",)), GRID, RULES)()


def test_its_repr_names_the_function():
    assert repr(init_sharded(build, GRID, RULES)) == "init_sharded(build)"
