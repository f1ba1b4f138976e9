"""Every call and its inverse, on random graphs with sharing, cycles and every kind of part."""

import copy
import pickle

import cloudpickle
import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import graphstate.graph as g
from graphstate.errors import StructureError
from graphstate.filters import PathContains
from graphstate.graph import GraphState, ParamState, State
from graphstate.graph._layout import layout_of
from tests.graph.graphs import Oracle, Row, assert_same_graph, assert_same_value, build, reached, tables

pytestmark = pytest.mark.no_leak_check("very many eager operations")

FILTERS = st.sampled_from([State, ParamState, "even", PathContains("a"), ~PathContains("layers"), np.ndarray, None])


def same_values(one: GraphState, two: GraphState) -> None:
    assert one._layout == two._layout
    for left, right in zip(one.values(), two.values(), strict=True):
        assert_same_value(left, right)


@given(tables())
def test_merge_undoes_split(table):
    node = build(table)
    graphdef, state = g.split(node)
    assert_same_graph(node, g.merge(graphdef, state))
    again, values = g.split(g.merge(graphdef, state))
    assert again == graphdef
    assert hash(again) == hash(graphdef)
    same_values(state, values)


@given(tables(), st.lists(FILTERS, max_size=3))
def test_merge_takes_the_parts_of_a_filtered_split_in_any_order(table, filters):
    node = build(table)
    graphdef, *parts = g.split(node, *filters, ...)
    assert_same_graph(node, g.merge(graphdef, *reversed(parts)))


@given(tables(), FILTERS)
def test_the_union_of_the_parts_is_the_whole(table, chosen):
    state = g.state(build(table))
    one, rest = state.split(chosen, ...)
    same_values(one | rest, state)
    same_values(rest | one, state)
    same_values(state | one, state)
    same_values(state.filter(chosen), one)


@given(tables())
def test_from_dict_undoes_to_dict(table):
    node = build(table)
    state = g.state(node)
    same_values(GraphState.from_dict(state.to_dict(), like=node), state)
    same_values(GraphState.from_dict(state.to_dict(), like=state), state)
    same_values(GraphState.from_dict(dict(state.items()), like=g.graphdef(node)), state)


@given(tables())
def test_jax_takes_a_graphstate_apart_and_puts_it_together(table):
    state = g.state(build(table))
    leaves, treedef = jax.tree.flatten(state)
    same_values(jax.tree.unflatten(treedef, leaves), state)
    same_values(jax.tree.map(lambda _, other: other, state, state), state)


@given(tables())
def test_update_writes_what_state_reads(table):
    node, other = build(table, member=0), build(table, member=1)
    objects = dict(g.states(node))
    g.update(node, g.state(other))
    assert_same_graph(node, other)
    assert all(g.states(node)[path] is item for path, item in objects.items())


@given(tables(), FILTERS)
def test_update_takes_parts_and_nested_dicts(table, chosen):
    node, other = build(table, member=0), build(table, member=1)
    one, rest = g.split(other, chosen, ...)[1:]
    g.update(node, as_text(one.to_dict()), rest)
    assert_same_graph(node, other)


def as_text(values):
    """Nested dicts with the text of their keys, as some files give them back."""
    return {str(key): as_text(item) if isinstance(item, dict) else item for key, item in values.items()}


@given(tables(), st.data())
def test_update_takes_any_path_of_a_state(table, data):
    node, other = build(table, member=0), build(table, member=1)
    mine, yours = reached(node), list(reached(other).values())
    for (state, paths), (source, _) in zip(mine.values(), yours, strict=True):
        g.update(node, {data.draw(st.sampled_from(paths)): source.value})
        assert_same_value(state.value, source.value)


@given(tables())
def test_clone_copies_everything(table):
    node = build(table)
    assert_same_graph(node, g.clone(node))


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda item: pickle.loads(pickle.dumps(item)),
        lambda item: pickle.loads(pickle._dumps(item)),
        lambda item: cloudpickle.loads(cloudpickle.dumps(item)),
    ],
    ids=["deepcopy", "pickle", "pickle in Python", "cloudpickle"],
)
@given(table=tables(), pick=st.integers(0, 20))
def test_copies_keep_what_several_objects_share(copied, table, pick):
    node = build(table)
    part = list(g.nodes(node).values())[pick % len(g.nodes(node))]
    states = list(g.states(node).values())
    held = {"part": part, "all": [states, node]}
    oracle = Oracle()
    oracle.compare(held, copied(held))


@given(tables())
def test_graphdefs_and_graphstates_pickle(table):
    graphdef, state = g.split(build(table))
    again, values = pickle.loads(pickle.dumps((graphdef, state)))
    assert again == graphdef
    assert hash(again) == hash(graphdef)
    same_values(values, state)
    same_values(copy.deepcopy(state), state)
    assert copy.deepcopy(graphdef) is graphdef


@settings(max_examples=40)
@given(tables(max_rows=8), st.integers(1, 3))
def test_unstack_undoes_stack(table, count):
    members = [build(table, member) for member in range(count)]
    assume(len(g.state(members[0])))
    stacked = g.stack(members)
    for member, again in zip(members, g.unstack(stacked), strict=True):
        assert_same_graph(member, again)
    for index, member in enumerate(members):
        assert_same_graph(member, g.take(stacked, index - count))
    assert_same_graph(stacked, g.stack(g.unstack(stacked)))
    assert g.graphdef(stacked) == g.graphdef(members[0])


@settings(max_examples=30)
@given(tables(max_rows=8), st.lists(st.integers(-3, 2), max_size=3))
def test_take_with_an_array_is_a_stack_of_members(table, order):
    members = [build(table, member) for member in range(3)]
    assume(len(g.state(members[0])) and order)
    taken = g.take(g.stack(members), np.array(order))
    assert_same_graph(taken, g.stack([build(table, index % 3) for index in order]))


@given(tables(), FILTERS)
def test_pop_removes_what_state_selects(table, chosen):
    node = build(table)
    wanted = g.states(node, chosen)
    values = {path: item.value for path, item in wanted.items()}
    kept = {id(item) for item in g.states(node).values()} - {id(item) for item in wanted.values()}
    try:
        popped = g.pop(node, chosen)
    except StructureError:
        assert_same_graph(node, build(table))
        return
    assert list(popped) == list(values)
    for path in values:
        assert_same_value(popped[path], values[path])
    assert {id(item) for item in g.states(node).values()} <= kept
    assert not g.states(node, lambda path, record: record.value is None)


@given(tables())
def test_paths_are_those_that_a_long_search_finds(table):
    node = build(table)
    expected = {key: paths for key, (_, paths) in reached(node).items()}
    layout = layout_of(g.graphdef(node))
    for path, state in g.states(node).items():
        index = layout.find(path)
        assert index is not None
        found = layout.all_paths(index)
        assert len(found) == len(set(found))
        assert set(found) == set(expected[id(state)])
        assert found[0] == path == expected[id(state)][0]
        assert set(g.graphdef(node).paths(g.graphdef(node).find(path))) == set(found)
        assert all(g.states(node)[alias] is state for alias in found)
    assert {id(state) for state in g.states(node).values()} == expected.keys()


@given(tables(), st.data())
def test_diff_is_empty_where_two_graphs_are_the_same(table, data):
    number = data.draw(st.integers(0, len(table) - 1))
    row = table[number]
    seed = data.draw(st.integers(0, 9))
    below = data.draw(st.permutations(row.below))
    changed = (*table[:number], Row(row.kind, seed, tuple(below)), *table[number + 1 :])
    one, two = build(table), build(changed)
    same_structure = g.graphdef(one) == g.graphdef(two)
    assert g.diff(one, build(table, member=1)) == []
    assert (g.diff(g.graphdef(one), g.graphdef(two)) == []) == same_structure
    assert (g.diff(one, two) == []) == (same_structure and shapes(one) == shapes(two))


def shapes(node):
    return [jax.tree.flatten(jax.tree.map(jax.typeof, value)) for value in g.state(node).values()]


@given(tables())
def test_the_order_in_which_attributes_were_set_does_not_matter(table):
    node = build(table)
    for each in g.nodes(node).values():
        items = list(vars(each).items())
        vars(each).clear()
        vars(each).update(reversed(items))
    assert g.graphdef(node) == g.graphdef(build(table))


@given(tables())
def test_every_text_is_drawn(table):
    node = build(table)
    for item in (node, g.graphdef(node), g.state(node), g.states(node), g.nodes(node)):
        assert len(repr(item).splitlines()) <= 201
        assert "no text" not in repr(item)
