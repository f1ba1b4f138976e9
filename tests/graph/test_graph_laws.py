"""The inverses of `graph` on graphs that `graphstate.testing` draws, with States of all types and random streams."""

import copy
import pickle
from collections.abc import Callable

import pytest

import graphstate as gs
import graphstate.testing as gst
from tests.graph.graphs import assert_same_graph

pytestmark = pytest.mark.no_leak_check("very many eager operations")

COPIES: dict[str, Callable[[gs.Node], gs.Node]] = {
    "merge(*split)": lambda node: gs.merge(*gs.split(node)),
    "merge(*split by filter)": lambda node: gs.merge(*gs.split(node, gs.ParamState, "tagged", ...)),
    "clone": gs.clone,
    "pickle": lambda node: pickle.loads(pickle.dumps(node)),
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("name", COPIES)
@gst.given(node=gst.graphs(), structures=64, examples=60)
def test_a_copy_has_the_same_structure_sharing_and_values_and_no_object_in_common(name: str, node: gs.Node) -> None:
    made = COPIES[name](node)
    assert_same_graph(node, made)
    assert gs.graphdef(made) == gs.graphdef(node)
    assert gs.shared(made) == gs.shared(node)


@gst.given(node=gst.graphs(), filter=gst.filters(), structures=64, examples=60)
def test_what_a_filter_selects_and_what_it_leaves_make_the_whole(node: gs.Node, filter: gs.filters.Filter) -> None:
    chosen, rest = gs.state(node, (filter,), ...)
    assert set(chosen).isdisjoint(rest)
    assert set(chosen) | set(rest) == set(gs.state(node))
    assert set(gs.states(node, filter)) == set(chosen) & set(gs.states(node))
    expected = gs.clone(node)
    gs.update(node, chosen, rest)
    assert_same_graph(node, expected)
