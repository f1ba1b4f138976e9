"""`Repeat` and `Ensemble` as lists of layers: what is taken out, and put back."""

import jax.numpy as jnp
import pytest
from jax import Array
from numpy.testing import assert_allclose, assert_array_equal

import graphstate as gs
from graphstate import nn
from graphstate.errors import AliasError, StateTypeError, StructureError

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

X = jnp.linspace(-1, 1, 6).reshape(2, 3)

each_kind = pytest.mark.parametrize("kind", [nn.Repeat, nn.Ensemble])


def weights(stacked: nn.Repeat | nn.Ensemble) -> Array:
    return gs.state(stacked.layers if isinstance(stacked, nn.Repeat) else stacked.members)["weight"]


@each_kind
def test_a_layer_that_is_taken_out_is_a_copy_until_it_is_put_back(kind: type[nn.Repeat]) -> None:
    stacked = kind(lambda: nn.Linear(3, 3), 3)
    before, layer = weights(stacked), stacked[-1]
    assert isinstance(layer, nn.Linear)
    assert_array_equal(layer.weight.value, before[2])
    layer.weight.value = jnp.ones((3, 3))
    assert weights(stacked) is before
    stacked[1] = layer
    assert_array_equal(weights(stacked), before.at[1].set(1))
    layer.weight.value = jnp.zeros((3, 3))
    assert weights(stacked)[1].all()
    with pytest.raises(IndexError):
        stacked[3]
    with pytest.raises(IndexError):
        stacked[-4] = layer
    with pytest.raises(TypeError):
        stacked[:2] = layer


def test_keys_and_statistics_are_put_back_too() -> None:
    ensemble = nn.Ensemble(lambda: nn.Sequential(nn.BatchNorm(3), nn.Dropout(0.5, rng=gs.random.RandomState(0))), 3)
    member = ensemble[0]
    member(X, fit=True)
    ensemble[2] = member
    first, last = gs.state(ensemble[2]), gs.state(member)
    assert gs.diff(ensemble[2], member) == []
    for path, value in first.items():
        assert (value == last[path]).all()


@each_kind
def test_what_is_put_back_is_like_the_others(kind: type[nn.Repeat]) -> None:
    stacked = kind(lambda: nn.Linear(3, 3), 2)
    before = weights(stacked)
    match = rf"(?s){kind.__name__} puts a layer in the place of another like it.*weight.*Nothing was changed\. Take"
    with pytest.raises(StructureError, match=match):
        stacked[0] = nn.Linear(3, 2)
    assert weights(stacked) is before


def test_a_slice_is_a_stack_of_copies_that_is_called_alike() -> None:
    repeated = nn.Repeat(lambda: nn.Linear(3, 3), 4, checkpoint=True)
    first, rest = repeated[:1], repeated[1:]
    assert (type(rest), len(rest), len(repeated), rest.checkpoint) == (nn.Repeat, 3, 4, True)
    assert_allclose(rest(first(X)), repeated(X), rtol=1e-5, atol=1e-6)
    assert_array_equal(repeated[4:](X), X)
    ensemble = nn.Ensemble(lambda: nn.Linear(3, 3), 2, in_axes=0)
    assert_allclose(ensemble[::-1](X[::-1]), ensemble(X)[::-1], rtol=1e-5, atol=1e-6)


@each_kind
def test_layers_are_made_by_a_function(kind: type[nn.Repeat]) -> None:
    match = rf"{kind.__name__} takes a function that makes a layer, .* a Linear\. Write `{kind.__name__}\(lambda: Lin"
    with pytest.raises(StateTypeError, match=match):
        kind(nn.Linear(3, 3), 2)
    with pytest.raises(StateTypeError, match=r"which can be called, but it has returned a dict\. Give it a `__call__`"):
        kind(lambda: {"layer": nn.Linear(3, 3)}, 2)


class Adding(gs.Node):
    def __init__(self) -> None:
        self.linear = nn.Linear(3, 3)

    def __call__(self, x: Array, shared: nn.Linear) -> Array:
        return self.linear(x) + shared(x)


@each_kind
def test_what_all_layers_share_is_given_to_the_call_and_has_one_gradient(kind: type[nn.Repeat]) -> None:
    stacked, shared = kind(Adding, 2), nn.Linear(3, 3)

    def loss(stacked: object, shared: nn.Linear) -> Array:
        return jnp.sum(stacked(X, shared) ** 2)

    def by_hand(layers: list[Adding], shared: nn.Linear) -> Array:
        first, second = layers
        if kind is nn.Repeat:
            return jnp.sum(second(first(X, shared), shared) ** 2)
        return jnp.sum(first(X, shared) ** 2) + jnp.sum(second(X, shared) ** 2)

    gradient, expected = gs.grad(loss, (0, 1))(stacked, shared), gs.grad(by_hand, (0, 1))(list(stacked), shared)
    assert_allclose(gradient[1]["weight"], expected[1]["weight"], rtol=1e-4, atol=1e-5)


@each_kind
def test_what_was_there_before_cannot_be_put_into_all(kind: type[nn.Repeat]) -> None:
    shared = nn.Linear(3, 3)
    match = rf"(?s)layers/0/bias.* outside .*\n{kind.__name__} has no `out_axes`: give what all .* share to each call"
    with pytest.raises(AliasError, match=match):
        kind(lambda: nn.Sequential(shared, nn.Linear(3, 3)), 2)
