"""`add_lora` and `merge_lora` for whole models."""

import jax
import jax.numpy as jnp
import pytest
from jax import Array
from numpy.testing import assert_allclose

import graphstate as gs
from graphstate import nn
from graphstate.errors import FilterError, StructureError
from graphstate.filters import PathContains
from graphstate.random import RandomState

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

X = jax.random.normal(jax.random.key(0), (2, 5, 4))


class Model(gs.Node):
    """Linears in an attribute, a tuple, a dict, a stack of stacks, a cell and another layer; one of them twice."""

    def __init__(self) -> None:
        self.first = nn.Linear(4, 4)
        self.parts = (self.first, {"normed": nn.WeightNorm(nn.Linear(4, 4))})
        self.deep = nn.Repeat(lambda: nn.Sequential(nn.MultiHeadAttention(4, 2), nn.tanh), 2)
        self.rnn = nn.RNN(nn.GRUCell(4, 4))
        self.heads = nn.Ensemble(lambda: nn.Linear(4, 1), 3)

    def __call__(self, x: Array) -> Array:
        x = self.parts[1]["normed"](self.parts[0](self.first(x)))
        return self.heads(self.rnn(self.deep(x)))


def test_all_linears_of_a_model_are_tuned_wherever_they_are_and_plain_again_once_merged() -> None:
    model = Model()
    before, y = gs.graphdef(model), model(X)
    nn.add_lora(model, 2, rng=RandomState(0))
    assert_allclose(model(X), y, rtol=1e-4, atol=1e-5)
    tuned = gs.states(model, nn.LoRAState)
    assert [path[:-1] for path in tuned if path[-1] == "up"] == [
        *[("deep", "layers", "layers", 0, name) for name in ("key", "out", "query", "value")],
        ("first",),
        ("heads", "members"),
        ("rnn", "cell", "from_hidden"),
        ("rnn", "cell", "from_input"),
    ]
    assert model.parts[0] is model.first
    down = tuned["deep/layers/layers/0/key/down"].value
    assert (down.shape, bool((down[0] != down[1]).any())) == ((2, 4, 2), True)
    for path, each in tuned.items():
        if path[-1] == "up":
            each.value = jnp.full_like(each.value, 0.1)
    changed = model(X)
    assert float(jnp.abs(changed - y).max()) > 0.01
    nn.merge_lora(model)
    assert gs.diff(before, gs.graphdef(model)) == []
    assert_allclose(model(X), changed, rtol=1e-4, atol=1e-4)


def test_a_filter_selects_layers_by_their_weights_and_those_that_are_tuned_stay() -> None:
    model = nn.Sequential(nn.MultiHeadAttention(4, 2), nn.Linear(4, 1))
    nn.add_lora(model, 1, PathContains("query") | PathContains("value"))
    first = model[0].query
    nn.add_lora(model, 2)
    assert model[0].query is first
    assert [each.rank for each in gs.nodes(model, nn.LoRA).values()] == [2, 2, 1, 1, 2]
    with pytest.raises(FilterError, match=r"(?s)`add_lora` needs Linears whose weights .* selects none:\n  \(none\)"):
        nn.add_lora(model, 2)
    nn.merge_lora(model)
    with pytest.raises(FilterError, match=r"(?s)selects none:\n  layers/0/key\n .*and 1 more"):
        nn.add_lora(model, 2, PathContains("elsewhere"))


def test_members_of_a_map_are_tuned_in_a_map() -> None:
    members = gs.vmap(lambda: nn.Sequential(nn.Linear(4, 2)), axis_size=3)()
    with pytest.raises(nn.ShapeError, match=r"of shape \(4, 2\), but it is float32\[3,4,2\]\. Call a stack"):
        nn.add_lora(members, 1)
    gs.vmap(lambda member: nn.add_lora(member, 1))(members)
    assert members[0].down.value.shape == (3, 4, 1)


def test_a_layer_itself_cannot_be_replaced() -> None:
    with pytest.raises(StructureError, match=r"A Linear that is part of a model .* Call `LoRA\(layer, rank\)`"):
        nn.add_lora(nn.Linear(3, 2), 1)
    with pytest.raises(StructureError, match=r"A LoRA that is part of .* or `layer\.merged\(\)`"):
        nn.merge_lora(nn.LoRA(nn.Linear(3, 2), 1))
    with pytest.raises(nn.RangeError, match=r"add_lora needs a positive whole number as `rank`, but got 0"):
        nn.add_lora(Model(), 0)
