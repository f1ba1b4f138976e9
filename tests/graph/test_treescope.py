"""Pictures in notebooks."""

import jax.numpy as jnp
import pytest
import treescope  # noqa: TID253, only the package itself imports it late

import graphstate.graph as g
from graphstate.graph import Node, ParamState, State
from tests.graph.graphs import Branch, Leaf, chain

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def sample():
    node = Leaf()
    node.inner = Branch()
    node.inner.weight = ParamState(jnp.ones(2), tags="a", unit="m")
    node.tied = node.inner
    node.tied_weight = node.inner.weight
    node.me = node
    return node


def test_a_picture_shows_nodes_states_and_their_labels():
    text = treescope.render_to_text(sample())
    assert text.startswith("Leaf(")
    assert "weight=ParamState(" in text
    assert "tags=['a']" in text
    assert "unit='m'" in text


def test_what_is_shared_is_drawn_once():
    text = treescope.render_to_text(sample())
    assert text.count("jax.Array") == 1
    assert "tied=Branch(-> .inner)" in text
    assert "tied_weight=ParamState(-> .inner.weight)" in text
    assert "cyclic reference" in text


def test_two_pictures_do_not_know_of_each_other():
    node = sample()
    assert treescope.render_to_text(node) == treescope.render_to_text(node)
    assert treescope.render_to_html(node)


def test_a_graphstate_is_drawn_with_its_paths():
    text = treescope.render_to_text(g.state(sample()))
    assert text.startswith("GraphState({")
    assert "'inner/weight':" in text


def test_a_chain_is_cut():
    assert "Leaf(...)" in treescope.render_to_text(chain(10_000))


def test_a_state_without_a_value_is_drawn():
    state = State({"a": jnp.ones(1)})
    state.value["b"] = 1
    node = Node()
    node.state = state
    assert "changed in place" in treescope.render_to_text(node)
