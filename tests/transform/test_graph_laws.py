"""Every transform on graphs that `graphstate.testing` draws: what is written in it is what a Python loop writes."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphstate as gs
import graphstate.testing as gst
from graphstate.random._stream import KeyStream
from tests.graph.graphs import assert_same_graph
from tests.transform.rows import ROWS, Row

pytestmark = pytest.mark.no_leak_check("very many eager operations")

X = jnp.float32(2.0)


def changed(leaf: Any) -> Any:
    """Another value, exact in any order of the operations."""
    if jnp.issubdtype(leaf.dtype, jnp.bool_):
        return ~leaf
    if leaf.dtype == jnp.float32:
        return leaf / 2
    return leaf + 1 if jnp.issubdtype(leaf.dtype, jnp.integer) else leaf


def write(node: gs.Node, x: Any) -> Any:
    """Writes all States of a graph but its streams of random keys, which a map splits; what is held twice, once."""
    for state in gs.states(node, ~gs.filters.OfType(KeyStream)).values():
        state.value = jax.tree.map(changed, state.value)
    return x * 3


@pytest.mark.parametrize(
    ("row", "access"),
    [
        pytest.param(row, access, id=f"{row}-{access}")
        for number, row in enumerate(ROWS)
        # `passed`, a derivative wants parameters to differentiate by, which not every graph has.
        for access in [("closed", "passed")[number % 2 if row.passed and "derivative" not in row.kinds else 0]]
    ],
)
@gst.given(node=gst.graphs(), structures=4, examples=4)
def test_a_graph_of_any_form_is_written_as_by_a_loop(row: Row, access: str, node: gs.Node) -> None:
    expected = gs.clone(node)
    for _ in range(row.steps):
        write(expected, X)
    call = row.wrap(write, access)
    assert jnp.allclose(call(node, X), row.plain(lambda x: x * 3)(2.0))
    assert_same_graph(node, expected)
    call(node, X)
    for _ in range(row.steps):
        write(expected, X)
    assert_same_graph(node, expected)
    assert gs.shared(node) == gs.shared(expected)
