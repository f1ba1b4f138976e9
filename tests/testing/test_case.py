"""`BatchCase`: its lanes, its other forms, and its repr, which makes it again."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import AxisError
from graphstate.testing import BatchCase

Pair = collections.namedtuple("Pair", "left right")
CASE = BatchCase(
    2,
    (np.float32([[0, 1], [2, 3], [4, 5]]), {"shared": np.ones(3)}),
    kwargs={"mask": np.array([True, False])},
    in_axes=(-1, None),
)


def values(case):
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves((case.args, case.kwargs))]


def members(size):
    return gs.vmap(lambda seed: gs.nn.Linear(2, 3, rng=gs.random.RandomState(seed)))(jnp.arange(size))


def test_a_lane_has_the_slices_of_what_is_mapped_and_all_of_the_rest() -> None:
    assert values(CASE.lane(1)) == [[1, 3, 5], [1, 1, 1], False]


def test_permuted_puts_lanes_in_another_order() -> None:
    assert values(CASE.permuted([1, 0]))[0] == [[1, 0], [3, 2], [5, 4]]


@pytest.mark.parametrize(("size", "first"), [(0, []), (1, [0]), (2, [0, 1]), (5, [0, 1, 0, 1, 0])])
def test_with_batch_keeps_the_first_lanes_and_repeats_them(size, first) -> None:
    case = CASE.with_batch(size)
    assert (case.axis_size, values(case)[0][0]) == (size, first)


def test_poisoned_leaves_one_lane_as_it_was() -> None:
    case = CASE.poisoned(1)
    assert np.isnan(case.args[0][:, 0]).all()
    assert values(case.lane(1)) == values(CASE.lane(1))
    assert case.kwargs["mask"].tolist() == [False, False]


def test_astype_casts_real_numbers_and_nothing_else() -> None:
    case = BatchCase(1, (np.ones(1), np.ones(1, np.int32), np.ones(1, np.complex64))).astype("bfloat16")
    assert [str(leaf.dtype) for leaf in case.args] == ["bfloat16", "int32", "complex64"]
    assert case.astype(np.float64).args[2].dtype == np.complex128


def test_the_lanes_of_a_node_are_nodes_and_the_node_stays_as_it_was() -> None:
    model = members(3)
    before = np.asarray(model.weight.value)
    case = BatchCase(3, (model, [model]), in_axes=(0, 0))
    one, [same] = case.lane(2).args
    assert one is same
    assert one is not model
    np.testing.assert_array_equal(one.weight.value, before[2])
    poisoned = case.poisoned(2)
    assert np.isnan(poisoned.args[0].weight.value[0]).all()
    np.testing.assert_array_equal(poisoned.lane(2).args[0].weight.value, before[2])
    np.testing.assert_array_equal(model.weight.value, before)


def test_a_single_key_of_a_node_has_no_lane_axis() -> None:
    case = BatchCase(2, (gs.nn.Dropout(0.5, rng=gs.random.RandomState(0)),), in_axes=0)
    assert case.lane(1).args[0].rng.value.shape == ()


@pytest.mark.parametrize(
    "case",
    [
        CASE,
        CASE.with_batch(0),
        CASE.astype("bfloat16"),
        BatchCase(2, (np.float32([np.nan, np.inf]), [np.array([-np.inf, 0.1])], 2.5), in_axes=(0, 0, None)),
        BatchCase(9, (np.zeros((9, 2)), np.ones(9, np.complex64) * 2j)),
        BatchCase(2, (jax.random.split(jax.random.key(3)), jax.random.key(0, impl="rbg")), in_axes=[0, None]),
        BatchCase(2, (Pair(np.arange(2), None),), out_axes={"a": 1}, state_in_axes={...: None, gs.HiddenState: 0}),
    ],
)
def test_its_repr_is_code_that_makes_it(case) -> None:
    names = {"np": np, "jax": jax, "BatchCase": BatchCase, "Pair": Pair, "HiddenState": gs.HiddenState}
    made = eval(repr(case), names)
    assert repr(made) == repr(case)
    for one, other in zip(jax.tree.leaves(made.args), jax.tree.leaves(case.args), strict=True):
        assert jnp.asarray(one).dtype == jnp.asarray(other).dtype
        assert np.shape(one) == np.shape(other)


def test_hypothesis_prints_its_repr() -> None:
    pretty = pytest.importorskip("hypothesis.vendor.pretty", reason="hypothesis is an extra")
    assert pretty.pretty(CASE) == repr(CASE)


def test_a_node_stands_in_the_repr_by_its_type() -> None:
    assert repr(BatchCase(3, (members(3),))) == "BatchCase(axis_size=3, args=(<Linear>,))"


def test_an_axis_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AxisError, match=r"needs the lane axis 1 in every mapped array, but one has the shape \(2,\)"):
        BatchCase(2, (np.ones(2),), in_axes=1)
    with pytest.raises(AxisError, match=r"needs 2 lanes in every mapped array, but one of shape \(3,\) has 3 at axis"):
        BatchCase(2, (np.ones(3),))
    with pytest.raises(AxisError, match="must have an entry for each of the 1 positional arguments of `BatchCase`"):
        BatchCase(2, (np.ones(2),), in_axes=(0, 0))


def test_a_lane_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AxisError, match="needs a lane from 0 to 1, but was asked for 2"):
        CASE.lane(2)
    with pytest.raises(AxisError, match=r"`with_batch\(1\)` needs a lane to repeat, but the case has none"):
        CASE.with_batch(0).with_batch(1)
