"""`with_axes`: parameters whose axes have names."""

import jax
import jax.numpy as jnp
import pytest
from jax.nn import initializers

import graphstate as gs
from graphstate import nn

AXES = ("in", "out")
INIT = nn.with_axes(initializers.lecun_normal(), AXES)


def named(make):
    """The names of axes that States of a layer have, by name of the State."""
    return {path[-1]: state.metadata.get("axes") for path, state in gs.states(make, gs.ParamState).items()}


def test_a_layer_draws_what_it_would_draw_without_names() -> None:
    one = nn.Linear(3, 2, weight_init=INIT, rng=gs.random.RandomState(0))
    assert one.weight.value.tolist() == nn.Linear(3, 2, rng=gs.random.RandomState(0)).weight.value.tolist()
    assert named(one) == {"weight": AXES, "bias": None}


def test_layers_of_every_kind_take_them() -> None:
    bias = nn.with_axes(initializers.zeros, ["out"])
    assert named(nn.Linear(3, 2, weight_init=INIT, bias_init=bias)) == {"weight": AXES, "bias": ("out",)}
    assert named(nn.Embedding(3, 2, weight_init=INIT)) == {"weight": AXES}
    names = (None, *AXES)
    assert named(nn.Conv1d(3, 2, 1, weight_init=nn.with_axes(initializers.normal(), names)))["weight"] == names
    cell = nn.GRUCell(3, 2, weight_init=INIT, recurrent_init=nn.with_axes(initializers.orthogonal(), AXES))
    assert [cell.from_input.weight.metadata["axes"], cell.from_hidden.weight.metadata["axes"]] == [AXES, AXES]
    assert nn.LoRA(nn.Linear(3, 2), 1, down_init=INIT).down.metadata["axes"] == AXES


def test_lanes_add_theirs_and_rules_say_where_they_lie() -> None:
    mesh = gs.parallel.make_mesh((2, 2), ("data", "model"), devices=jax.devices()[:4])
    layers = gs.vmap(lambda: nn.Linear(3, 2, weight_init=INIT), axis_size=4, axis_name="member")()
    assert layers.weight.metadata["axes"] == ("member", *AXES)
    gs.parallel.place(layers, mesh, {"member": "data", "out": "model"})
    assert layers.weight.value.sharding.shard_shape((4, 3, 2)) == (2, 3, 1)
    assert gs.vmap(lambda layer: layer(jnp.ones(3)))(layers).shape == (4, 2)


def test_names_for_more_or_fewer_axes_are_an_error() -> None:
    with pytest.raises(nn.ShapeError, match=r"`with_axes` names .* got \('in', 'out'\) for one of shape \(2,\)"):
        nn.Linear(3, 2, bias_init=INIT)
