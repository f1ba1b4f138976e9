"""`graphs` and `modules`: every feature is drawn, and shrinks to the smallest object that has it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
import graphstate.testing as gst
from tests.testing.strategies.searching import simplest, some

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def cyclic(node: gs.Node) -> bool:
    """Whether a Node is reached from itself."""

    def visit(value: Any, above: tuple[int, ...]) -> bool:
        if id(value) in above:
            return True
        parts = vars(value).values() if isinstance(value, gs.Node) else value
        parts = parts.values() if isinstance(parts, dict) else parts
        if not isinstance(value, gs.Node | list | dict):
            return False
        return any(visit(part, (*above, id(value))) for part in parts)

    return visit(node, ())


def shared_states(node: gs.Node) -> dict[Any, Any]:
    states = gs.states(node)
    return {path: others for path, others in gs.shared(node).items() if path in states}


def shape_of(node: gs.Node) -> str:
    return str(gs.graphdef(node))


def test_graphs_have_sharing_and_cycles_in_part_of_all_draws() -> None:
    graphs = some(gst.graphs(), 300)
    assert 0.1 < np.mean([cyclic(node) for node in graphs]) < 0.5
    assert np.mean([bool(shared_states(node)) for node in graphs]) > 0.15
    assert np.mean([len(gs.nodes(node)) > 1 for node in graphs]) > 0.2
    assert max(len(gs.nodes(node)) for node in graphs) <= 5
    assert np.mean([len(gs.states(node)) > 0 for node in graphs]) > 0.6


def test_graphs_have_states_of_all_types_tags_and_values() -> None:
    states = [state for node in some(gst.graphs(), 300) for state in gs.states(node).values()]
    assert {type(state).__name__ for state in states} == {
        "State", "ParamState", "BatchState", "HiddenState", "RandomState",
    }  # fmt: skip
    assert {tuple(state.tags) for state in states} == {(), ("tagged",)}
    assert {len(jax.tree.leaves(state.value)) for state in states} == {1, 2}


def test_graphs_can_be_trees() -> None:
    for node in some(gst.graphs(sharing=False, cycles=False), 200):
        assert gs.shared(node) == {}
    assert not any(cyclic(node) for node in some(gst.graphs(cycles=False), 200))
    assert not any(shared_states(node) for node in some(gst.graphs(sharing=False), 200))


def test_the_simplest_graph_is_one_node() -> None:
    assert len(gs.nodes(simplest(gst.graphs()))) == 1


def test_a_cycle_shrinks_to_a_node_that_holds_itself() -> None:
    node = simplest(gst.graphs(), cyclic)
    assert vars(node) == {"a": node}


def test_a_shared_state_shrinks_to_two_attributes() -> None:
    node = simplest(gst.graphs(), shared_states)
    assert vars(node) == {"a": node.a, "b": node.a}
    assert type(node.a) is gs.State
    assert node.a.value == 0


def test_a_shared_node_shrinks_to_one_that_two_attributes_hold() -> None:
    def diamond(node: gs.Node) -> bool:
        return any(path in gs.shared(node) for path in gs.nodes(node) if path) and not cyclic(node)

    node = simplest(gst.graphs(), diamond)
    assert len(gs.nodes(node)) == 2
    assert len(gs.states(node)) <= 2


def test_a_list_in_a_deep_node_is_found() -> None:
    def deep(node: gs.Node) -> bool:
        return any(
            isinstance(part, list) for path, each in gs.nodes(node).items() if path for part in vars(each).values()
        )

    node = simplest(gst.graphs(), deep)
    assert len(gs.nodes(node)) == 2
    assert len(gs.states(node)) <= 3


def test_a_table_makes_the_same_graph_again() -> None:
    rows = [
        [("node", 1), ("list", ("state", 0), ("static", 2)), ("dict", ("array", np.ones(2)))],
        [("state", 0), ("node", 0)],
    ]
    states = [("RandomState", 3, ("tagged",))]
    one, two = gst.graph_of(rows, states), gst.graph_of(rows, states)
    assert gs.diff(one, two) == []
    assert one.a.b is one
    assert one.b[0] is one.a.a
    assert one.b[1] == 2
    assert one.c["a"].tolist() == [1, 1]
    assert one.a.a.tags == {"tagged"}


def test_modules_take_and_return_their_features() -> None:
    for features in (2, 3):
        for module in some(gst.modules(features), 20):
            y = module(jnp.linspace(-1.0, 1.0, features))
            assert (y.shape, y.dtype) == ((features,), jnp.float32)


def test_modules_have_all_that_a_transform_can_get_wrong() -> None:
    modules = some(gst.modules(), 200)
    types = {type(state).__name__ for module in modules for state in gs.states(module).values()}
    assert types == {"ParamState", "BatchState", "HiddenState", "RandomState"}
    assert any(gs.shared(module) for module in modules)
    assert {type(layer).__name__ for module in modules for layer in module.layers} == {
        "_Bias", "_Matrix", "_Activation", "_RunningMean", "_Cell", "_Chain", "Dropout",
    }  # fmt: skip


def test_parts_of_modules_can_be_left_out() -> None:
    modules = some(gst.modules(statistics=False, dropout=False, recurrent=False), 100)
    assert {type(state) for module in modules for state in gs.states(module).values()} == {gs.ParamState}


def test_a_bias_is_the_simplest_module() -> None:
    module = simplest(gst.modules())
    assert list(gs.states(module)) == [("layers", 0, "bias")]
    assert not np.any(module.layers[0].bias.value)


@pytest.mark.parametrize(
    ("kind", "feature"),
    [
        ("dropout", lambda module: gs.states(module, gs.random.RandomState)),
        ("mean", lambda module: gs.states(module, gs.BatchState)),
        ("cell", lambda module: gs.states(module, gs.HiddenState)),
    ],
)
def test_a_feature_of_modules_shrinks_to_a_layer_that_has_it(kind: str, feature: Any) -> None:
    assert len(simplest(gst.modules(), feature).layers) == 1


def test_a_shared_layer_shrinks_to_two_places() -> None:
    module = simplest(gst.modules(), gs.shared)
    assert len(module.layers) == 2
    assert module.layers[0] is module.layers[1]


def test_a_module_does_what_its_layers_say() -> None:
    module = gst.module_of(
        [
            ("matrix", np.float32([[2, 0], [0, 3]])),
            ("skip", [("bias", np.float32([1, 1])), ("again", 0), ("activation", "relu")]),
            ("mean", np.float32([4, 0])),
            ("cell", np.float32([[1, 0], [0, 1]])),
        ]
    )
    x = np.float32([1, -1])
    y = x * [2, 3]
    y = y + np.maximum((y + 1) * [2, 3], 0)
    mean = 0.75 * np.float32([4, 0]) + 0.25 * y
    np.testing.assert_allclose(module(x), np.tanh(y - mean), rtol=1e-6)
    assert int(module.layers[2].count.value) == 1
    np.testing.assert_allclose(module.layers[3].hidden.value, np.tanh(y - mean), rtol=1e-6)
