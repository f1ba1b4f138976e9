"""`axis_sizes`, `in_axes` and `out_axes`: what `jax.vmap` takes, in every form."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphstate as gs
import graphstate.testing as gst
from graphstate.testing.strategies._pytrees import Pair
from tests.testing.strategies.searching import simplest, some

pytestmark = pytest.mark.no_leak_check("very many eager operations")

EXAMPLE = (np.zeros((2, 3)), {"a": np.zeros(4), "b": [np.zeros(()), None]})


def test_two_lanes_are_the_simplest_number_and_none_is_drawn_too() -> None:
    assert simplest(gst.axis_sizes()) == 2
    assert set(some(gst.axis_sizes())) == {2, 3, 1, 0}
    assert set(some(gst.axis_sizes(allow_empty=False))) == {2, 3, 1}
    assert set(some(gst.axis_sizes((5, 4), allow_empty=False))) == {5, 4}


def test_axis_0_for_all_is_the_simplest() -> None:
    assert simplest(gst.in_axes(EXAMPLE)) in (0, (0, 0))
    assert simplest(gst.out_axes(EXAMPLE)) == 0


def test_all_axes_that_an_array_can_have_are_drawn() -> None:
    drawn = some(gst.in_axes((np.zeros((2, 3)), np.zeros(()))), 300)
    assert {axes[0] for axes in drawn if isinstance(axes, tuple)} == {0, 1, 2, -1, -2, -3, None}
    assert {axes[1] for axes in drawn if isinstance(axes, tuple)} == {0, -1, None}
    assert {axes for axes in drawn if isinstance(axes, int)} >= {0, -1}


def test_a_prefix_may_stand_for_a_tree_and_a_tree_may_be_given_in_full() -> None:
    drawn = [axes for axes in some(gst.in_axes(EXAMPLE), 300) if isinstance(axes, tuple)]
    assert {type(axes[1]) for axes in drawn} == {int, dict, type(None)}
    full = some(gst.in_axes(EXAMPLE, prefix=False))
    assert all(isinstance(axes, tuple) and isinstance(axes[1]["b"], list) for axes in full)


def test_none_and_negative_axes_can_be_left_out() -> None:
    drawn = some(gst.in_axes((np.zeros((2, 3)),), none=False, negative=False))
    assert {axes if isinstance(axes, int) else axes[0] for axes in drawn} == {0, 1, 2}
    assert set(some(gst.out_axes(np.zeros(2), negative=False))) == {0, 1}


def test_nodes_and_states_are_mapped_at_axis_0() -> None:
    drawn = some(gst.in_axes((gs.nn.Linear(2, 3), np.zeros(2), [gs.State(1.0)])))
    assert {axes[0] for axes in drawn if isinstance(axes, tuple)} == {0}
    assert {str(axes[2]) for axes in drawn if isinstance(axes, tuple)} == {"0", "[0]"}


def test_arguments_without_arrays_have_axis_0() -> None:
    assert set(map(str, some(gst.in_axes(({}, [])), 20))) == {"0"}
    assert simplest(gst.in_axes(())) == 0


def full(example: Any, axes: Any) -> Any:
    """Arrays with two lanes, where a prefix of axes says."""
    if axes is None or isinstance(axes, int):
        return jax.tree.map(lambda leaf: leaf if axes is None else np.stack([leaf, leaf], axes), example)
    if isinstance(example, dict):
        return {key: full(example[key], axes[key]) for key in example}
    parts = [full(part, axis) for part, axis in zip(example, axes, strict=True)]
    return Pair(*parts) if isinstance(example, Pair) else type(example)(parts)


@pytest.mark.no_leak_check("very many eager operations")
@settings(max_examples=60)
@given(st.data())
def test_jax_takes_what_is_drawn_and_finds_the_lanes_there(data: st.DataObject) -> None:
    example = data.draw(
        st.sampled_from([EXAMPLE, (Pair(np.zeros(2), {"k": np.zeros((2, 2))}), np.zeros(())), (np.zeros(3),)])
    )
    axes = data.draw(gst.in_axes(example))
    ends = data.draw(gst.out_axes(example))
    seen = []

    def function(*args: Any) -> Any:
        seen.append(jax.tree.map(jnp.shape, args))
        return args

    spread = (axes,) * len(example) if isinstance(axes, int) else axes
    out = jax.vmap(function, axes, ends)(*full(example, spread))
    assert seen == [jax.tree.map(np.shape, example)]
    expected = full(example, (ends,) * len(example) if isinstance(ends, int) else ends)
    assert jax.tree.map(jnp.shape, out) == jax.tree.map(np.shape, expected)
