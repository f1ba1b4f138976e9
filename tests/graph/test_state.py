"""State types, and what a State refuses."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate.graph as g
from graphstate.errors import StateTypeError, StructureError, TraceContextError
from graphstate.graph import BatchState, HiddenState, LongTermState, Node, ParamState, ShortTermState, State

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def test_the_types_form_a_tree():
    assert issubclass(ParamState, LongTermState)
    assert issubclass(BatchState, LongTermState)
    assert issubclass(HiddenState, ShortTermState)
    assert LongTermState.__base__ is ShortTermState.__base__ is State


def test_identity_is_equality():
    one, two = State(1), State(1)
    assert one != two
    assert one == one
    assert len({one, two, one}) == 2
    assert one in [two, one]


def test_tags_and_metadata_are_read_only():
    state = State(jnp.ones(2), tags=("frozen", "encoder"), unit="m")
    assert state.tags == {"frozen", "encoder"}
    assert State(0, tags="frozen").tags == {"frozen"}
    assert state.metadata == {"unit": "m"}
    with pytest.raises(TypeError):
        state.metadata["unit"] = "s"
    with pytest.raises(AttributeError):
        state.tags = ()


def test_another_shape_may_be_written():
    state = State(jnp.ones(2))
    state.value = jnp.ones((3, 3))
    assert state.value.shape == (3, 3)


@pytest.mark.parametrize("value", ["text", object(), [jnp.ones(2), "text"]])
def test_a_value_with_other_leaves_is_refused(value):
    with pytest.raises(StateTypeError, match="holds an array, a number or a pytree of these, but"):
        State(value)


def test_a_state_as_value_is_refused():
    with pytest.raises(StateTypeError, match=r"Take its `\.value`"):
        State(State(1))


def test_metadata_that_cannot_be_hashed_is_refused():
    with pytest.raises(StructureError, match=r"must be hashable, but shape='\[1\]' is a list\. Use a tuple"):
        State(1, shape=[1])


@pytest.mark.parametrize("item", [State(1), Node()])
def test_metadata_that_can_change_is_refused(item):
    with pytest.raises(
        StructureError, match=r"Metadata of a State is static, but owner is a (State|Node), which can change"
    ):
        State(1, owner=item)


def test_a_state_is_no_pytree_and_no_number():
    state = State(jnp.ones(2))
    assert jax.tree.leaves(state) == [state]
    with pytest.raises(TypeError):
        state + 1


def test_repr_shows_type_shape_and_labels():
    state = ParamState(jnp.ones((2, 3)), tags="frozen", unit="m", scale=2)
    assert repr(state) == "ParamState(f32[2,3], tags=['frozen'], unit='m', scale=2)"


def test_repr_of_what_has_no_value_says_so():
    kept = []

    @jax.jit
    def leak():
        kept.append(State(jnp.ones(2)))
        return 0

    deleted = State(jnp.ones(2))
    deleted.value.delete()
    changed = State({"a": jnp.ones(2)})
    changed.value["b"] = 1
    leak()
    assert repr(kept[0]) == "State(no value: its trace has ended)"
    assert repr(deleted) == "State(f32[2] deleted)"
    assert repr(changed) == "State(changed in place)"


class Meter(State):
    def __init__(self, value, unit):
        super().__init__(value)
        self.unit = unit


class Slotted(State):
    __slots__ = ("__secret", "unit")

    def __init__(self, value, unit):
        super().__init__(value)
        self.unit = unit
        self.__secret = unit

    def secret(self):
        return self.__secret


@pytest.mark.parametrize("kind", [Meter, Slotted])
def test_a_subclass_keeps_its_attributes(kind):
    node = Node()
    node.length = kind(jnp.ones(2), "m")
    copies = [g.clone(node), copy.deepcopy(node), pickle.loads(pickle.dumps(node)), g.merge(*g.split(node))]
    for copied in [*copies, *(each.length for each in copies), copy.copy(node.length)]:
        length = copied.length if isinstance(copied, Node) else copied
        assert type(length) is kind
        assert length.unit == "m"
        assert kind is Meter or length.secret() == "m"


def test_an_attribute_of_a_subclass_that_changed_is_seen():
    node = Node()
    node.length = Meter(jnp.ones(2), "m")
    before = g.graphdef(node)
    node.length.unit = "km"
    assert g.graphdef(node) != before
    assert g.diff(before, g.graphdef(node)) == ["length: attribute unit='m' -> attribute unit='km'"]


def test_an_attribute_of_a_subclass_that_cannot_be_hashed_is_refused():
    node = Node()
    node.length = Meter(jnp.ones(2), ["m"])
    with pytest.raises(
        StructureError, match="at `length` there is a Meter and its attribute 'unit' cannot be hashed: <list>"
    ):
        g.split(node)


def test_an_attribute_of_a_subclass_that_is_a_state_is_refused():
    node = Node()
    node.length = Meter(jnp.ones(2), State(1))
    with pytest.raises(StructureError, match="The Meter at `length` holds a State"):
        g.split(node)


def test_copy_makes_a_state_with_the_same_value():
    state = ParamState(np.ones(2), tags="a", unit=1)
    shallow, deep = copy.copy(state), copy.deepcopy(state)
    assert shallow is not state
    assert shallow.value is state.value
    assert deep.value is not state.value
    assert repr(shallow) == repr(deep) == repr(state)
    deep.value[0] = 5
    assert state.value[0] == 1


def test_a_key_is_pickled_as_data_and_comes_back_typed():
    for impl in ("threefry2x32", "rbg"):
        state = State({"key": jax.random.key(3, impl=impl)})
        data = pickle.dumps(state)
        assert b"PRNGKeyArray" not in data
        key = pickle.loads(data).value["key"]
        assert key.dtype == state.value["key"].dtype
        assert (jax.random.key_data(key) == jax.random.key_data(state.value["key"])).all()


def test_a_key_that_is_an_attribute_is_pickled_as_data_too():
    node = Node()
    node.key = jax.random.key(3)
    data = pickle.dumps(node)
    assert b"PRNGKeyArray" not in data
    assert pickle.loads(data).key == node.key


def test_a_tracer_is_not_pickled():
    @jax.jit
    def fails(x):
        pickle.dumps(State(x))

    with pytest.raises(TraceContextError, match=r"A value that is being traced \(f32\[2\] traced\) cannot be pickled"):
        fails(jnp.ones(2))
