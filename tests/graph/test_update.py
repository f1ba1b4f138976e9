"""`update`: all the values or none, in place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate.graph as g
from graphstate._trace import Frame
from graphstate.errors import StaleReadWarning, StateTypeError, StructureError, TraceContextError, UpdateError
from graphstate.graph import GraphState, Node, ParamState, State
from tests.graph.graphs import Pair

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def sample():
    node = Node()
    node.weight = ParamState(jnp.ones((2, 3)))
    node.layers = [ParamState(jnp.zeros(2)), {"bias": State(jnp.zeros(1))}]
    node.tied = node.layers[0]
    node.count = State(0)
    node.rate = 0.5
    node.array = jnp.zeros(2)
    return node


def test_objects_stay_the_same_and_values_change():
    node = sample()
    weight, layers = node.weight, node.layers
    assert g.update(node, jax.tree.map(lambda x: x + 1, g.state(node))) is None
    assert node.weight is weight
    assert node.layers is layers
    assert (weight.value == 2).all()
    assert (node.array == 1).all()
    assert node.count.value == 1


def test_a_part_of_the_paths_will_do():
    node = sample()
    g.update(node, g.state(node, ParamState).map(jnp.ones_like), {"count": jnp.asarray(7)})
    assert node.layers[0].value.all()
    assert node.count.value == 7
    assert not node.array.any()
    g.update(node)


@pytest.mark.parametrize(
    "values",
    [
        {"layers": {1: {"bias": jnp.ones(1)}}},
        {"layers": {"1": {"bias": jnp.ones(1)}}},
        {"layers/1/bias": jnp.ones(1)},
        {("layers", 1, "bias"): jnp.ones(1)},
        {"layers": {"1/bias": jnp.ones(1)}},
        {"layers": [jnp.zeros(2), {"bias": jnp.ones(1)}]},
        GraphState.from_dict({"layers": {"1": {"bias": jnp.ones(1)}}}),
    ],
)
def test_every_way_of_writing_a_path_works(values):
    node = sample()
    g.update(node, values)
    assert node.layers[1]["bias"].value == 1


def test_an_alias_names_its_state():
    node = sample()
    node.me = node
    g.update(node, {"tied": jnp.ones(2), "me/me/count": 3})
    assert node.layers[0].value.all()
    assert node.count.value == 3


def test_aliases_with_one_value_are_taken_and_with_two_refused():
    node = sample()
    g.update(node, {"tied": jnp.ones(2), "layers/0": jnp.ones(2)})
    assert node.tied.value.all()
    with pytest.raises(UpdateError, match=r"tied: given twice, with different values \(it is the same as `layers/0`\)"):
        g.update(node, {"layers/0": jnp.zeros(2)}, {"tied": jnp.ones(2)})
    assert node.tied.value.all()


def test_equal_keys_nans_and_structs_are_one_value():
    node = Node()
    node.a = node.b = State({"k": jax.random.key(0), "x": jnp.full(1, jnp.nan)})
    value = {"k": jax.random.key(1), "x": jnp.full(1, jnp.nan)}
    g.update(node, {"a": value, "b": jax.tree.map(lambda x: x, value)})
    with pytest.raises(UpdateError, match="given twice"):
        g.update(node, {"a": value, "b": {**value, "k": jax.random.key(2)}})
    shape = jax.ShapeDtypeStruct((1,), jnp.float32)
    node.c = node.d = State(jnp.ones(1))
    g.update(node, {"c": shape, "d": jax.ShapeDtypeStruct((1,), jnp.float32)})
    with pytest.raises(UpdateError, match="given twice"):
        g.update(node, {"c": shape, "d": jnp.ones(1)})


def test_all_differences_are_listed_and_nothing_is_changed():
    node = sample()
    before = g.state(node)
    version = node._graph_version
    with pytest.raises(UpdateError) as caught:
        g.update(
            node,
            {
                "weight": jnp.ones((3, 2)),
                "layers": {0: jnp.ones(2, jnp.int32), 5: jnp.ones(1)},
                "rate": jnp.ones(1),
                "wieght": jnp.ones(1),
                "array": jnp.ones(2),
            },
        )
    assert caught.value.differences == (
        "weight: needs f32[2,3], got f32[3,2]",
        "layers/0: needs f32[2], got i32[2]",
        "layers/5: unknown",
        "rate: a static value, which is no part of the state; set the attribute",
        "wieght: unknown",
    )
    assert str(caught.value) == (
        "`update` needs values that fit the graph, but these do not:\n"
        "  weight: needs f32[2,3], got f32[3,2]\n  layers/0: needs f32[2], got i32[2]\n  layers/5: unknown\n"
        "  rate: a static value, which is no part of the state; set the attribute\n  and 1 more\n"
        "Nothing was changed. Write another shape or dtype with `state.value = ...`; `strict=False` skips unknown "
        "paths."
    )
    assert node._graph_version == version
    assert not hasattr(node, "wieght")
    for path, value in g.state(node).items():
        assert value is before[path] or path == ("count",)


def test_without_strict_unknown_paths_are_skipped():
    node = sample()
    g.update(node, {"nothing": {"deep": jnp.ones(1)}, "count": 5}, strict=False)
    assert node.count.value == 5
    with pytest.raises(UpdateError, match="weight: needs"):
        g.update(node, {"nothing": 1, "weight": jnp.ones(1)}, strict=False)


def test_a_value_for_a_container_is_refused():
    with pytest.raises(UpdateError, match="layers: a list, but one value came for it"):
        g.update(sample(), {"layers": jnp.ones(1)})
    with pytest.raises(UpdateError, match=r"layers/0: needs f32\[2\], got \(f32\[1\], 2\)"):
        g.update(sample(), {"layers": {0: (jnp.ones(1), 2)}})


@pytest.mark.parametrize("other", [Node(), 3, [1]])
def test_something_else_than_values_is_refused(other):
    with pytest.raises(
        StateTypeError, match=r"`update` takes GraphStates and nested dicts, but a (Node|int|list) came"
    ):
        g.update(sample(), other)


@pytest.mark.parametrize(
    ("held", "given", "fits"),
    [
        (0, 3, True),
        (0, jnp.asarray(3), True),
        (0, np.int64(3), True),
        (0, 3.0, False),
        (0, True, False),
        (0, jnp.asarray(3.0), False),
        (0, jnp.ones(1, jnp.int32), False),
        (0.5, jnp.float32(1), True),
        (0.5, jnp.bfloat16(1), True),
        (True, jnp.asarray(False), True),
        (True, jnp.asarray(0), False),
        (1j, jnp.complex64(1), True),
        (jnp.float32(1), 2.0, True),
        (jnp.float32(1), 2, False),
        (jnp.ones(1), 2.0, False),
        (jnp.int32(1), 2, True),
        (jnp.bool_(True), False, True),
        (jnp.float32(1), "text", False),
        (jnp.ones(2), np.ones(2, np.float32), True),
        (jnp.ones(2), np.ones(2), False),
        (jnp.ones(2), jax.ShapeDtypeStruct((2,), jnp.float32), True),
        (jax.ShapeDtypeStruct((2,), jnp.float32), jnp.ones(2), True),
        (jax.ShapeDtypeStruct((2,), jnp.float32), jnp.ones(3), False),
    ],
)
def test_numbers_fit_numbers_and_arrays_of_their_kind(held, given, fits):
    node = Node()
    node.x = State(held)
    if not fits:
        with pytest.raises(UpdateError, match="x: needs"):
            g.update(node, {"x": given})
        return
    g.update(node, {"x": given})
    if isinstance(held, jax.Array) and not isinstance(given, jax.ShapeDtypeStruct):
        assert isinstance(node.x.value, jax.Array)
        assert node.x.value.dtype == held.dtype


def test_a_value_that_is_a_pytree_compares_its_structure():
    node = Node()
    node.carry = State({"c": jnp.ones(1), "h": (jnp.ones(2), 0)})
    g.update(node, {"carry": {"c": jnp.zeros(1), "h": (jnp.zeros(2), 1)}})
    assert node.carry.value["h"][1] == 1
    with pytest.raises(
        UpdateError, match=r"carry: needs \{'c': f32\[1\], 'h': \(f32\[2\], 1\)\}, got \{'c': f32\[1\]\}"
    ):
        g.update(node, {"carry": {"c": jnp.zeros(1)}})


def test_arrays_are_set_on_what_holds_them():
    node = Node()
    node.array = jnp.zeros(1)
    node.items = [jnp.zeros(1), np.zeros(1)]
    node.table = {"a": jnp.zeros(1), 3: (jnp.zeros(1), (jnp.zeros(1), 5))}
    node.pair = Pair(jnp.zeros(1), State(jnp.zeros(1)))
    kept, items = node.pair.right, node.items
    g.update(node, jax.tree.map(lambda x: x + 1, g.state(node)))
    assert all(value.all() for value in g.state(node).values())
    assert node.items is items
    assert type(node.items[1]) is np.ndarray
    assert type(node.pair) is Pair
    assert node.pair.right is kept
    assert node.table[3][1][1] == 5


def test_a_numpy_array_stays_one_outside_of_traces():
    node = Node()
    node.table = np.zeros(2, np.float32)
    node.state = State(np.zeros(2, np.float32))
    g.update(node, {"table": jnp.ones(2), "state": jnp.ones(2)})
    assert type(node.table) is type(node.state.value) is np.ndarray


def test_an_array_that_nothing_can_be_set_on_is_refused():
    node = sample()
    with pytest.raises(StructureError, match="but `1` is held by the tuple that was given, which cannot be changed"):
        g.update((node, jnp.ones(2)), {0: {"count": 3}, 1: jnp.zeros(2)})
    assert node.count.value == 0
    g.update((node, State(1)), {0: {"count": 3}, "1": 2})
    assert node.count.value == 3


def test_setting_an_array_is_seen_by_the_version_and_an_equal_one_is_not_set():
    node = sample()
    version = node._graph_version
    g.update(node, {"array": node.array})
    assert node._graph_version == version
    g.update(node, {"array": node.array + 1})
    assert node._graph_version > version


def test_a_state_that_outlived_its_trace_lives_again():
    node = Node()

    @jax.jit
    def leak():
        inner = Node()
        inner.state = State(jnp.ones(2))
        vars(node)["state"] = inner.state
        return 0

    leak()
    with pytest.raises(TraceContextError, match="was read after the trace that it was created in had ended"):
        g.state(node)
    assert "its trace has ended" in repr(node)
    g.update(node, {"state": jnp.zeros(3)})
    assert node.state.value.shape == (3,)


def test_under_plain_jax_nothing_is_written():
    node = sample()

    @jax.jit
    def writes(x):
        g.update(node, {"array": x})

    with pytest.raises(TraceContextError, match="Attribute 'array' of a Node was changed inside of a transform"):
        writes(jnp.ones(2))

    @jax.jit
    def writes_state(x):
        g.update(node, {"weight": x})

    with pytest.warns(StaleReadWarning), pytest.raises(TraceContextError, match="Nothing was changed"):
        writes_state(jnp.zeros((2, 3)))
    assert node.weight.value.all()


def test_in_a_frame_the_values_go_into_the_frame():
    node = sample()
    frame = Frame()

    def body(x):
        with frame:
            g.update(node, {"weight": x})
            return node.weight.value

    assert jax.eval_shape(body, node.weight.value).shape == (2, 3)
    assert isinstance(node.weight.value, jax.Array)
    assert node.weight.value.all()
