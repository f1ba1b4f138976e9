"""`stack`, `unstack` and `take`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate.graph as g
from graphstate.errors import AliasError, AxisError, FilterError, StateTypeError, StructureError, UpdateError
from graphstate.filters import PathContains
from graphstate.graph import BatchState, Node, ParamState, State, StateAxes
from tests.graph.graphs import assert_same_graph

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def make(number=0, size=2):
    node = Node()
    node.weight = ParamState(jnp.full((size, 3), float(number)))
    node.count = State(number)
    node.key = State(jax.random.key(number))
    node.carry = State({"c": jnp.full(1, number), "h": (jnp.zeros(2),)})
    node.tied = [node.weight]
    node.table = np.full(2, number)
    node.rate = 0.5
    return node


def make_many(count=3):
    return [make(number) for number in range(count)]


def test_states_arrays_keys_and_numbers_get_a_leading_axis():
    stacked = g.stack(make_many())
    assert stacked.weight.value.shape == (3, 2, 3)
    assert stacked.count.value.tolist() == [0, 1, 2]
    assert stacked.key.value.shape == (3,)
    assert stacked.carry.value["h"][0].shape == (3, 2)
    assert type(stacked.table) is np.ndarray
    assert stacked.table.shape == (3, 2)
    assert stacked.tied[0] is stacked.weight
    assert type(stacked.weight) is ParamState
    assert stacked.rate == 0.5


def test_members_come_back():
    members = make_many()
    for member, again in zip(members, g.unstack(g.stack(members)), strict=True):
        assert g.diff(member, again) == []
        assert again.count.value == member.count.value
        assert (again.weight.value == member.weight.value).all()
        assert (jax.random.key_data(again.key.value) == jax.random.key_data(member.key.value)).all()


@pytest.mark.parametrize(("axis", "shape"), [(1, (2, 3, 3)), (-1, (2, 3, 3)), (-2, (2, 3, 3)), (2, (2, 3, 3))])
def test_the_lane_axis_goes_where_it_is_asked_for(axis, shape):
    axes = StateAxes({ParamState: axis, ...: 0})
    stacked = g.stack(make_many(), axes)
    assert stacked.weight.value.shape == shape
    for member, again in zip(make_many(), g.unstack(stacked, axes), strict=True):
        assert (again.weight.value == member.weight.value).all()
    assert (g.take(stacked, 1, axes).weight.value == 1).all()
    assert g.take(stacked, jnp.array([2, 0]), axes).weight.value.shape == tuple(
        2 if position == axis % 3 else size for position, size in enumerate(shape)
    )


def test_take_gives_one_member_or_a_stack():
    stacked = g.stack(make_many())
    for index in (1, -2, np.int32(1), jnp.asarray(1)):
        one = g.take(stacked, index)
        assert one.count.value == 1
        assert one.weight.value.shape == (2, 3)
    some = g.take(stacked, [2, 0, -1])
    assert some.count.value.tolist() == [2, 0, 2]
    assert some.tied[0] is some.weight


def test_take_and_update_copy_members_over_others():
    population = g.stack(make_many())
    weight = population.weight
    g.update(population, g.state(g.take(population, jnp.array([2, 2, 0]))))
    assert population.weight is weight
    assert population.count.value.tolist() == [2, 2, 0]


def test_an_index_may_be_traced():
    graphdef, state = g.split(g.stack(make_many()))
    one = jax.jit(lambda index, state: g.state(g.take(g.merge(graphdef, state), index)))(-1, state)
    assert one["count"] == 2
    some = jax.jit(lambda index, state: g.state(g.take(g.merge(graphdef, state), index)))(jnp.array([1, 0]), state)
    assert some["count"].tolist() == [1, 0]


def test_a_traced_index_takes_from_numpy_arrays_too():
    node = Node()
    node.table = np.arange(6).reshape(3, 2)
    taken = jax.jit(lambda index: g.state(g.take(node, index)))(-1)
    assert taken["table"].tolist() == [4, 5]


def test_abstract_members_stack_and_unstack():
    node = g.abstract(make)
    stacked = g.stack([node, g.clone(node)])
    assert stacked.weight.value == jax.ShapeDtypeStruct((2, 2, 3), jnp.float32)
    assert g.unstack(stacked)[0].weight.value == jax.ShapeDtypeStruct((2, 3), jnp.float32)
    assert g.take(stacked, [0, 0, 1]).weight.value.shape == (3, 2, 3)


def test_a_pytree_of_nodes_is_stacked():
    model, count = g.stack([(make(0), State(0)), (make(1), State(1))])
    assert model.weight.value.shape == (2, 2, 3)
    assert count.value.tolist() == [0, 1]


def test_members_of_another_structure_are_refused_with_the_first_difference():
    other = make()
    other.rate = 0.25
    other.tied = [ParamState(other.weight.value)]
    with pytest.raises(StructureError) as caught:
        g.stack([make(), make(), other])
    assert str(caught.value) == (
        "`stack` needs Nodes of one structure, but number 2 differs from the first:\n"
        "  rate: 0.5 -> 0.25\n  weight: shared with `tied/0` -> ParamState of its own\n"
        "Build all members by the same constructor; what shall differ between them belongs into a State."
    )
    assert len(caught.value.differences) == 2


def test_members_of_other_shapes_are_refused_with_their_paths():
    other = make(size=4)
    other.carry.value = {"c": jnp.full(1, 0), "h": (jnp.zeros(7),)}
    with pytest.raises(UpdateError, match="`stack` needs states of one shape and dtype, but these differ") as caught:
        g.stack([make(), other])
    assert caught.value.differences == (
        "`carry`: {'c': i32[1], 'h': (f32[2],)} in the first, {'c': i32[1], 'h': (f32[7],)} in number 1",
        "`tied/0`: f32[2,3] in the first, f32[4,3] in number 1",
    )


def test_nothing_and_one_node_are_refused():
    with pytest.raises(StructureError, match="`stack` needs at least one Node, but the sequence is empty"):
        g.stack([])
    with pytest.raises(
        StateTypeError, match=r"needs a sequence of Nodes, but one Node came. Write `stack\(\[node\]\)`"
    ):
        g.stack(make())


def test_a_shared_state_is_an_alias_error():
    members = make_many(2)
    members[1].count = members[0].count
    with pytest.raises(AliasError, match="`count` of number 0 and `count` of number 1 are the same State"):
        g.stack(members)
    with pytest.raises(AliasError, match=r"`stack\(nodes, StateAxes\(\{filter: None, \.\.\.: 0\}\)\)`"):
        g.stack([members[0], members[0]])


class Trunk(Node):
    def __init__(self):
        self.weight = ParamState(jnp.ones(2))
        self.config = (1, 2)
        self.act = Node()


def with_trunk(count=3):
    trunk, members = Trunk(), make_many(count)
    for member in members:
        member.trunk = trunk
    return trunk, members


AXES = StateAxes({PathContains("trunk"): None, ...: 0})


def test_a_shared_trunk_stays_the_same_object():
    trunk, members = with_trunk()
    version = trunk._graph_version
    stacked = g.stack(members, AXES)
    assert stacked.trunk is trunk
    assert stacked.weight.value.shape == (3, 2, 3)
    again = g.unstack(stacked, AXES)
    assert all(member.trunk is trunk for member in again)
    assert g.take(stacked, 1, AXES).trunk is trunk
    assert g.take(stacked, [1, 0], AXES).trunk is trunk
    assert trunk._graph_version == version
    assert again[0].tied is not again[1].tied


def test_a_shared_state_in_nodes_of_their_own_stays_the_same_object():
    members = make_many(2)
    shared = BatchState(jnp.ones(4))
    for member in members:
        member.holder = Node()
        member.holder.statistics = shared
    axes = StateAxes({BatchState: None, ...: 0})
    stacked = g.stack(members, axes)
    assert stacked.holder.statistics is shared
    assert stacked.holder is not members[0].holder
    assert [member.holder.statistics is shared for member in g.unstack(stacked, axes)] == [True, True]


def test_without_an_axis_members_must_share():
    with pytest.raises(
        AxisError, match="`count` has axis None, so that all members must share it, but they have 3 different"
    ):
        g.stack(make_many(), StateAxes({PathContains("count"): None, ...: 0}))
    members = make_many()
    for member in members:
        member.table = np.arange(2)
        member.array = jnp.ones(1)
    stacked = g.stack(members, StateAxes({(np.ndarray, jax.Array): None, ...: 0}))
    assert stacked.table.tolist() == [0, 1]
    assert stacked.array.shape == (1,)


def test_an_axis_that_a_state_does_not_have_is_an_error():
    with pytest.raises(
        AxisError, match=r"`carry` has shape \(1,\), which leaves no lane axis at 2\. Choose another axis"
    ):
        g.stack(make_many(), 2)
    with pytest.raises(AxisError, match=r"`count` has shape \(\), which leaves no lane axis at 0"):
        g.unstack(make())
    with pytest.raises(StateTypeError, match="`axis` is an int, None or a `StateAxes`, but True of type bool came"):
        g.stack(make_many(), True)


def test_unequal_sizes_are_an_error_with_paths():
    stacked = g.stack(make_many())
    stacked.count.value = jnp.zeros(5)
    with pytest.raises(AxisError) as caught:
        g.unstack(stacked)
    assert str(caught.value).startswith(
        "`unstack` needs one number of members, but the states have 2 different sizes at their lane axes:\n"
        "  3 in `carry` at axis 0, of shape (3, 1)\n  3 in `carry` at axis 0, of shape (3, 2)\n"
        "  5 in `count` at axis 0, of shape (5,)\n"
    )


def test_nothing_with_a_lane_axis_is_an_error():
    for node, axis in ((Node(), 0), (g.stack(make_many()), None)):
        with pytest.raises(AxisError, match="`unstack` needs a state with a lane axis"):
            g.unstack(node, axis)
        with pytest.raises(AxisError, match="`take` needs a state with a lane axis"):
            g.take(node, 0, axis)


@pytest.mark.parametrize("index", [3, -4, [0, 3], np.array([-4])])
def test_an_index_out_of_range_is_an_error(index):
    with pytest.raises(AxisError, match=r"asked for member (3|-4), but there are 3 members\. Indices go from 0 to 2"):
        g.take(g.stack(make_many()), index)


@pytest.mark.parametrize("index", [1.0, True, [True, False, True], np.zeros((2, 2), int), "one", None])
def test_an_index_of_another_kind_is_an_error(index):
    with pytest.raises(StateTypeError, match="`take` needs an int, or a one-dimensional array of ints, but"):
        g.take(g.stack(make_many()), index)


def test_state_axes_choose_by_the_first_filter():
    axes = StateAxes({PathContains("tied"): 1, ParamState: 0, ...: None})
    assert repr(axes) == "StateAxes({PathContains('tied'): 1, ParamState: 0, ...: None})"
    assert axes == StateAxes({PathContains("tied"): 1, ParamState: 0, ...: None})
    assert hash(axes) == hash(StateAxes({PathContains("tied"): 1, ParamState: 0, ...: None}))
    assert axes != StateAxes({ParamState: 0, PathContains("tied"): 1, ...: None})
    assert jax.tree.leaves(axes) == [axes]
    assert g.stack([make()], StateAxes({PathContains("tied"): 1, ...: 0})).weight.value.shape == (2, 1, 3)


def test_a_state_that_no_filter_matches_is_an_error():
    with pytest.raises(AxisError, match=r"but `carry` \(State\) is matched by none.*Add `\.\.\.: None` as the last"):
        g.stack(make_many(), StateAxes({ParamState: 0}))


def test_state_axes_refuse_what_is_no_axis():
    for axis in (1.0, True, "x"):
        with pytest.raises(AxisError, match="An axis in `StateAxes` is an int or None, but one is"):
            StateAxes({...: axis})
    with pytest.raises(FilterError, match="must be the last filter"):
        StateAxes({...: 0, ParamState: 1})


def test_stacking_does_not_touch_the_members():
    members = make_many()
    before = [g.clone(member) for member in members]
    stacked = g.stack(members)
    stacked.weight.value = stacked.weight.value + 1
    stacked.tied.append(1)
    for member, copied in zip(members, before, strict=True):
        assert_same_graph(member, copied)
