"""What `restore` compares, what it changes, and what it leaves alone."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import graphstate as gs
from graphstate import checkpoint
from graphstate.errors import CheckpointError, FilterError, PartialRestoreWarning, UpdateError
from graphstate.filters import PathContains

from .kept import all_bits, array, bits, mesh, spread, tied


class Model(gs.Node):
    """An encoder, a head, and a static number."""

    def __init__(self, seed: int, classes: int = 3, heads: int = 2) -> None:
        self.encoder = [gs.ParamState(array(seed, 2, 2), tags="slow"), gs.BatchState(array(seed, 2))]
        self.head = gs.ParamState(array(seed, 2, classes))
        self.heads = heads


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of a model of seed 0."""
    checkpoint.save(tmp_path / "it", Model(0))
    return tmp_path / "it"


# Differences


def renamed():
    model = Model(1)
    model.tail = model.head
    del model.head
    return model


def shared_head():
    model = Model(1)
    model.head = model.encoder[0]
    return model


OTHERS = {
    "another shape": (lambda: Model(1, classes=4), ["head: needs f64[2,4] numpy, the checkpoint has f64[2,3]"]),
    "a missing and an unknown path": (renamed, ["tail: not in the checkpoint", "head: in the checkpoint only"]),
    "another static number": (lambda: Model(1, heads=4), ["heads: 2 in the checkpoint, 4 here (a static value)"]),
    "a State that is shared here only": (shared_head, ["head: one with `encoder/0` here, but not in the checkpoint"]),
}


@pytest.mark.parametrize(("make", "differences"), OTHERS.values(), ids=OTHERS)
def test_a_graph_that_does_not_fit_is_left_as_it_was_and_told_all_differences(make, differences, tmp_path):
    saved = Model(0)
    for cell in saved.states().values():
        cell.value = cell.value.astype("float64")
    checkpoint.save(tmp_path, saved)
    other = make()
    for cell in other.states().values():
        cell.value = cell.value.astype("float64")
    before = all_bits(other)
    with pytest.raises(UpdateError, match=r"needs a checkpoint that fits the graph, but .* does not") as caught:
        checkpoint.restore(tmp_path, other)
    assert list(caught.value.differences) == differences
    assert all_bits(other) == before


def test_another_dtype_is_a_difference_and_no_cast(tmp_path):
    checkpoint.save(tmp_path, {"count": gs.State(jnp.asarray(2**24 + 1))})
    other = {"count": gs.State(jnp.zeros(()))}
    with pytest.raises(UpdateError, match=r"count: needs f32\[\], the checkpoint has i32\[\]"):
        checkpoint.restore(tmp_path, other)
    assert other["count"].value == 0


@pytest.mark.parametrize(
    ("value", "other", "text"),
    [
        ([array(0, 2)], (array(0, 2),), r"needs \(f32\[2\] numpy,\), the checkpoint has \[f32\[2\]\]"),
        ({"a": array(0, 2)}, {"b": array(0, 2)}, r"needs {'b': f32\[2\] numpy}, the checkpoint has {'a': f32\[2\]}"),
        (array(0, 2), {"a": array(0, 2)}, r"needs {'a': f32\[2\] numpy}, the checkpoint has f32\[2\]"),
        (None, array(0, 2), r"needs f32\[2\] numpy, the checkpoint has None"),
        (1, 1.0, r"needs 1.0, the checkpoint has 1"),
        (True, jnp.ones((), int), r"needs i32\[\], the checkpoint has True"),
    ],
)
def test_another_structure_of_a_value_is_a_difference(value, other, text, tmp_path):
    checkpoint.save(tmp_path, gs.State(value))
    with pytest.raises(UpdateError, match=rf"\(root\): {text}"):
        checkpoint.restore(tmp_path, gs.State(other))


def test_keys_of_another_kind_are_a_difference(tmp_path):
    checkpoint.save(tmp_path, gs.State(jax.random.key(0)))
    with pytest.raises(UpdateError, match=r"needs key<rbg>\[\], the checkpoint has key<fry>\[\]"):
        checkpoint.restore(tmp_path, gs.State(jax.random.key(0, impl="rbg")))


def test_a_number_and_an_array_of_its_kind_take_each_others_place(tmp_path):
    checkpoint.save(tmp_path, {"a": gs.State(jnp.asarray(np.int32(7))), "b": gs.State(7)})
    other = checkpoint.restore(tmp_path, {"a": gs.State(0), "b": gs.State(jnp.asarray(np.int32(0)))})
    assert (other["a"].value, other["b"].value) == (7, 7)


def test_a_state_that_was_shared_and_is_not_here_is_a_difference(tmp_path):
    checkpoint.save(tmp_path, tied(0))
    other = tied(1)
    other.b = gs.ParamState(other.a.value + 1)
    before = all_bits(other)
    with pytest.raises(UpdateError, match="b: one with `a` in the checkpoint, but not here"):
        checkpoint.restore(tmp_path, other)
    assert all_bits(other) == before
    with pytest.warns(PartialRestoreWarning, match="b: one with `a` in the checkpoint, but not here"):
        checkpoint.restore(tmp_path, other, strict=False)
    assert bits(other.a.value) == bits(other.b.value) == bits(tied(0).a.value)


def test_a_shared_state_is_found_by_any_of_the_paths_that_it_had(tmp_path):
    saved = tied(0)
    checkpoint.save(tmp_path, saved)
    other = tied(1)
    inner = checkpoint.restore(tmp_path, {"b": other.b, "inner": {"listed": other.inner.listed}})
    assert bits(inner["b"].value) == bits(saved.a.value)
    round_the_cycle = {"inner": {"up": {"inner": {"listed": [gs.ParamState(jnp.zeros(2))]}}}}
    checkpoint.restore(tmp_path, round_the_cycle, PathContains("up"))
    assert bits(round_the_cycle["inner"]["up"]["inner"]["listed"][0].value) == bits(saved.a.value)


# Parts


def test_what_fits_is_restored_if_asked_for_and_the_rest_is_said(saved):
    other = Model(1, classes=4)
    head = bits(other.head.value)
    with pytest.warns(PartialRestoreWarning, match="head: needs") as caught:
        assert checkpoint.restore(saved, other, strict=False) is other
    assert caught[0].message.differences == ("head: needs f32[2,4] numpy, the checkpoint has f32[2,3]",)
    assert caught[0].filename == __file__
    assert [bits(cell.value) for cell in other.encoder] == [bits(cell.value) for cell in Model(0).encoder]
    assert bits(other.head.value) == head


def test_a_checkpoint_of_which_nothing_fits_is_refused_in_any_case(saved):
    other = {"weight": gs.State(jnp.zeros(2))}
    with pytest.raises(UpdateError, match=r"Nothing of the checkpoint .* fits"):
        checkpoint.restore(saved, other, strict=False)


@pytest.mark.parametrize("filters", [[PathContains("encoder")], ["slow", gs.BatchState]], ids=["one", "several"])
def test_filters_restore_a_part_and_look_at_nothing_else(filters, saved):
    other = Model(1, classes=4, heads=8)
    head = bits(other.head.value)
    checkpoint.restore(saved, other, *filters)
    assert [bits(cell.value) for cell in other.encoder] == [bits(cell.value) for cell in Model(0).encoder]
    assert bits(other.head.value) == head


def test_what_a_filter_would_select_in_the_checkpoint_must_be_in_the_graph(saved):
    other = Model(1)
    del other.encoder[1]
    with pytest.raises(UpdateError, match="encoder/1: in the checkpoint only"):
        checkpoint.restore(saved, other, PathContains("encoder"))
    with pytest.raises(UpdateError, match="encoder/1: in the checkpoint only"):
        checkpoint.restore(saved, other, gs.BatchState, "slow")
    checkpoint.restore(saved, other, gs.ParamState)


def test_the_filter_for_all_leaves_static_values_alone(saved):
    other = checkpoint.restore(saved, Model(1, heads=8), ...)
    assert all_bits(other) == all_bits(Model(0))
    assert other.heads == 8


def test_a_part_goes_to_a_model_that_calls_it_otherwise(saved):
    backbone = Model(1).encoder
    checkpoint.restore(saved, {"encoder": backbone}, PathContains("encoder"))
    assert [bits(cell.value) for cell in backbone] == [bits(cell.value) for cell in Model(0).encoder]


def test_filters_that_select_nothing_are_an_error(saved):
    with pytest.raises(
        FilterError, match=r"needs filters that select States of `like`, but .*HiddenState.* match none"
    ):
        checkpoint.restore(saved, Model(1), gs.HiddenState)
    with pytest.raises(FilterError, match="Filters select States of `like`, but there is none"):
        checkpoint.restore(saved, None, gs.ParamState)


# New graphs, other devices


def test_an_abstract_graph_is_left_alone_and_a_new_one_is_made(tmp_path):
    def make(seed):
        node = tied(seed)
        node.table = array(seed, 2, dtype="float64")
        node.rng = gs.random.RandomState(seed)
        return node

    checkpoint.save(tmp_path, make(0))
    like = gs.abstract(make, 1)
    new = checkpoint.restore(tmp_path, like)
    assert all_bits(new) == all_bits(make(0))
    assert new.a is new.b is new.inner.listed[0]
    assert new.inner.up is new
    assert bits(new.table) == bits(make(0).table)
    assert like.a.value == jax.ShapeDtypeStruct((2,), "float32")


class Up(gs.Node):
    """A layer whose axes have names."""

    def __init__(self, size: int) -> None:
        self.weight = gs.ParamState(gs.random.normal(size=(2, size)), axes=("embed", "mlp"))
        self.rng = gs.random.RandomState(size)


def test_a_model_is_restored_where_rules_say_that_it_lies(tmp_path):
    saved = Up(16)
    checkpoint.save(tmp_path, saved)
    for size in (2, 8):
        new = checkpoint.restore(tmp_path, gs.parallel.abstract(Up, mesh(size), {"mlp": "x"})(16))
        np.testing.assert_array_equal(new.weight.value, saved.weight.value)
        assert new.weight.value.sharding == NamedSharding(mesh(size), P(None, "x"))
        assert new.weight.metadata["axes"] == ("embed", "mlp")
        assert new.rng.value == saved.rng.value


def test_of_an_abstract_graph_what_is_not_restored_stays_abstract(saved):
    like = gs.abstract(Model, 1)
    new = checkpoint.restore(saved, like, PathContains("encoder"))
    assert bits(new.encoder[0].value) == bits(Model(0).encoder[0].value)
    assert new.head.value == like.head.value


@pytest.mark.parametrize(("before", "after"), [(1, 8), (8, 1), (8, 2), (2, 4)])
def test_it_goes_from_any_number_of_devices_to_any_other(before, after, tmp_path):
    rows, keys = array(0, 8, 2), jax.random.split(jax.random.key(0), 8)
    checkpoint.save(
        tmp_path, {"rows": gs.State(spread(rows, before, "x")), "rng": gs.random.RandomState(spread(keys, before, "x"))}
    )
    place = NamedSharding(mesh(after), P("x"))
    like = {
        "rows": gs.State(jax.ShapeDtypeStruct((8, 2), "float32", sharding=place)),
        "rng": gs.State(jax.ShapeDtypeStruct((8,), keys.dtype, sharding=place)),
    }
    new = checkpoint.restore(tmp_path, like)
    assert all_bits(new) == {("rows",): bits(spread(rows, after, "x")), ("rng",): bits(spread(keys, after, "x"))}
    assert len(new["rng"].value.sharding.device_set) == after


def test_an_array_that_jax_put_somewhere_stays_free_to_be_put_elsewhere(tmp_path):
    checkpoint.save(tmp_path, {"a": gs.State(spread(array(0, 8), 8, "x"))})
    other = checkpoint.restore(tmp_path, {"a": gs.State(jnp.zeros(8))})
    assert not other["a"].value.committed
    assert (other["a"].value + spread(array(0, 8), 8, "x")).shape == (8,)


def test_what_jax_cannot_hold_here_is_not_made_narrower(tmp_path):
    with jax.enable_x64(True):
        checkpoint.save(tmp_path, {"a": gs.State(jnp.asarray(np.array([2.0**53 + 2])))})
    like = {"a": gs.State(jax.ShapeDtypeStruct((1,), "float64"))}
    with pytest.raises(CheckpointError, match=r"'a' was saved as float64\[1\], but JAX makes float32\[1\] of it here"):
        checkpoint.restore(tmp_path, like)
    with jax.enable_x64(True):
        assert checkpoint.restore(tmp_path, like)["a"].value.tolist() == [2.0**53 + 2]


def test_a_state_that_has_lost_its_value_gets_one(tmp_path):
    checkpoint.save(tmp_path, {"a": gs.State(jnp.asarray(array(0, 4)))})
    other = {"a": gs.State(jnp.asarray(array(1, 4)))}

    def fail(cell):
        cell.value = jax.pure_callback(lambda x: 1 / 0, jax.ShapeDtypeStruct((4,), "float32"), cell.value)

    with pytest.raises(jax.errors.JaxRuntimeError):
        gs.jit(fail, donate_states=True)(other["a"])
    checkpoint.restore(tmp_path, other)
    np.testing.assert_array_equal(other["a"].value, array(0, 4))


def test_a_warning_that_is_an_error_comes_before_anything_is_written(saved):
    other = Model(1, classes=4)
    before = all_bits(other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PartialRestoreWarning, match=r"Of .*/v1 not all is restored, or it does not fit"):
            checkpoint.restore(saved, other, strict=False)
    assert all_bits(other) == before


def test_nothing_is_said_where_all_is_well(saved):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint.restore(saved, Model(1), strict=False)
