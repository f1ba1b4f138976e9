"""`Ensemble` against a loop over its members."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from numpy.testing import assert_allclose

import graphstate as gs
from graphstate import nn

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

X = jnp.linspace(-1, 1, 12).reshape(4, 3)


@pytest.fixture
def ensemble() -> nn.Ensemble:
    return nn.Ensemble(lambda: nn.Linear(3, 2), 3)


def test_each_member_gets_the_input(ensemble: nn.Ensemble) -> None:
    assert_allclose(ensemble(X), jnp.stack([member(X) for member in ensemble]), rtol=1e-5, atol=1e-6)
    assert len({np.asarray(member.weight.value).tobytes() for member in ensemble}) == 3


def test_mean_and_spread_are_those_of_the_members(ensemble: nn.Ensemble) -> None:
    mean, spread = ensemble.predict(X)
    assert_allclose(mean, ensemble(X).mean(0), rtol=1e-5, atol=1e-6)
    assert_allclose(spread, ensemble(X).std(0), rtol=1e-5, atol=1e-6)


def test_in_axes_give_each_member_an_input_of_its_own() -> None:
    ensemble = nn.Ensemble(lambda: nn.Linear(3, 2), 4, in_axes=0)
    assert_allclose(ensemble(X), jnp.stack([m(x) for m, x in zip(ensemble, X, strict=True)]), rtol=1e-5, atol=1e-6)


def test_in_a_larger_model_members_are_trained_each_by_its_gradient(ensemble: nn.Ensemble) -> None:
    model = nn.Sequential(nn.Linear(3, 3), ensemble)

    def loss(model: nn.Sequential) -> Array:
        return jnp.sum(model(X) ** 2)

    grads = gs.grad(loss)(model)
    hidden = model[0](X)
    alone = gs.grad(lambda member: jnp.sum(member(hidden) ** 2))(ensemble[1])
    assert_allclose(grads["layers/1/members/weight"][1], alone["weight"], rtol=1e-4, atol=1e-5)


def test_what_is_random_is_so_for_each_member() -> None:
    y = nn.Ensemble(lambda: nn.Dropout(0.5), 2)(jnp.ones(100), fit=True)
    assert (y[0] != y[1]).any()


def test_recurrent_states_are_reset_for_each_member() -> None:
    ensemble = nn.Ensemble(lambda: nn.GRUCell(3, 2), 2)
    nn.reset_state(ensemble, batch_size=4)
    assert ensemble(X).shape == ensemble.members.hidden.value.shape == (2, 4, 2)


def test_there_is_at_least_one_member() -> None:
    with pytest.raises(nn.RangeError, match=r"Ensemble needs a positive whole number as `n`, but got 0"):
        nn.Ensemble(lambda: nn.Linear(1, 1), 0)
