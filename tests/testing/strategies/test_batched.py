"""`batched`: lanes that differ, of one structure, at every axis."""

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import strategies as st

import graphstate as gs
import graphstate.testing as gst
from graphstate.errors import StrategyError
from graphstate.testing import BatchCase
from tests.testing.strategies.searching import simplest, some

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def lanes_of(case: BatchCase) -> list[bytes]:
    def data(leaf: Any) -> bytes:
        key = isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if key else leaf).tobytes()

    lanes = [case.lane(index) for index in range(case.axis_size)]
    return [b"".join(map(data, jax.tree.leaves((lane.args, lane.kwargs)))) for lane in lanes]


@pytest.mark.parametrize(
    "strategy",
    [
        gst.arrays(),
        gst.arrays("bfloat16", 3),
        gst.arrays("int8"),
        gst.pytrees(max_leaves=2),
        gst.keys(),
        st.integers(0, 99),
    ],
    ids=["scalars", "rows", "integers", "pytrees", "keys", "numbers of Python"],
)
def test_lanes_are_pairwise_different(strategy: st.SearchStrategy[Any]) -> None:
    for case in some(gst.batched(strategy), 100):
        if jax.tree.leaves(case.args):
            assert len(set(lanes_of(case))) == case.axis_size


def test_lanes_are_as_different_as_a_dtype_allows() -> None:
    cases = some(gst.batched(gst.arrays("bool"), axis_size=3, in_axes=0), 20)
    assert {len(set(lanes_of(case))) for case in cases} <= {1, 2}
    assert np.mean([len(set(lanes_of(case))) == 2 for case in cases]) > 0.7


def test_two_lanes_of_0_and_1_are_what_is_left_after_shrinking() -> None:
    case = simplest(gst.batched(gst.arrays()), lambda case: case.axis_size > 1)
    assert repr(case) == "BatchCase(axis_size=2, args=(np.array([0.0, 1.0], 'float32'),))"


def test_all_lanes_have_the_structure_of_the_first() -> None:
    cases = some(gst.batched(gst.arrays(gst.dtypes(), gst.shapes()), gst.pytrees()), 100)
    assert len({(case.args[0].shape, case.args[0].dtype) for case in cases}) > 20
    assert len({str(jax.tree.structure(case.args[1])) for case in cases}) > 10


def test_axes_of_all_forms_are_drawn_and_unmapped_arguments_have_no_lanes() -> None:
    cases = some(gst.batched(gst.arrays(shape=(4,)), gst.arrays(shape=())), 200)
    assert {case.axis_size for case in cases} == {1, 2, 3}
    shapes = {(case.in_axes[0], case.args[0].ndim) for case in cases if isinstance(case.in_axes, tuple)}
    assert shapes == {(0, 2), (1, 2), (-1, 2), (-2, 2), (None, 1)}


def test_axes_and_sizes_may_be_given() -> None:
    (case,) = some(gst.batched(gst.arrays(shape=3), gst.arrays(), axis_size=3, in_axes=(1, None), out_axes=-1), 1)
    assert (case.axis_size, case.in_axes, case.out_axes) == (3, (1, None), -1)
    assert (case.args[0].shape, case.args[1].shape) == ((3, 3), ())
    pair = gst.batched(st.tuples(gst.arrays(), gst.arrays(shape=2)), in_axes=((None, 1),), axis_size=st.just(2))
    assert [leaf.shape for leaf in some(pair, 1)[0].args[0]] == [(), (2, 2)]


def test_there_may_be_no_lanes() -> None:
    case = simplest(gst.batched(gst.arrays(shape=3), gst.keys(), axis_size=0, in_axes=(1, 0), scale=gst.arrays()))
    assert (case.args[0].shape, case.args[1].shape, case.kwargs["scale"].shape) == ((3, 0), (0,), (0,))


def test_keyword_arguments_are_mapped_at_axis_0() -> None:
    cases = some(gst.batched(gst.arrays(), scale=gst.arrays(shape=2)), 20)
    assert all(case.kwargs["scale"].shape == (case.axis_size, 2) for case in cases)


def test_nodes_are_stacked_members_and_may_be_unmapped() -> None:
    case = some(gst.batched(gst.modules(), gst.arrays(shape=2), axis_size=3), 2)[-1]
    members = gs.unstack(case.args[0])
    assert len(members) == 3
    assert len({str(jax.tree.leaves(gs.state(member, gs.ParamState))) for member in members}) > 1
    (shared,) = some(gst.batched(gst.modules(), gst.arrays(shape=2), axis_size=3, in_axes=(None, 0)), 1)
    assert shared.args[0](np.zeros(2, np.float32)).shape == (2,)


def test_lanes_whose_structures_differ_are_an_error() -> None:
    ragged = st.integers(1, 3).flatmap(lambda size: gst.arrays(shape=size))
    with pytest.raises(StrategyError, match=r"needs lanes of one structure, but a strategy drew lanes that differ in"):
        some(gst.batched(ragged, axis_size=3), 100)
