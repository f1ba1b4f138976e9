"""`WeightNorm` and `SpectralNorm`, beside their numbers in `test_references.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import graphstate as gs
from graphstate import nn
from graphstate.errors import StateTypeError
from graphstate.graph import BatchState, ParamState
from graphstate.random import RandomState

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

X = jax.random.normal(jax.random.key(0), (4, 3))


def test_at_first_weight_norm_changes_nothing_and_its_scale_is_the_length() -> None:
    linear = nn.Linear(3, 2)
    norm = nn.WeightNorm(linear)
    assert_allclose(norm(X), linear(X), rtol=1e-5, atol=1e-6)
    weight, norm.scale.value = linear.weight.value, 2 * norm.scale.value
    assert_allclose(norm(X), 2 * X @ weight, rtol=1e-5, atol=1e-6)  # the bias is zero
    assert_array_equal(linear.weight.value, weight)
    assert len(gs.states(norm, ParamState)) == 3


def test_the_length_of_the_direction_does_not_count() -> None:
    norm = nn.WeightNorm(nn.Linear(3, 2))
    before = norm(X)
    norm.layer.weight.value *= 3
    assert_allclose(norm(X), before, rtol=1e-5, atol=1e-6)


def test_spectral_norm_makes_the_largest_singular_value_one() -> None:
    norm = nn.SpectralNorm(nn.Linear(3, 2, use_bias=False), steps=30)
    weight = norm.layer.weight.value
    y = norm(X, fit=True)
    assert_allclose(y, X @ weight / np.linalg.svd(weight)[1][0], rtol=1e-4, atol=1e-5)
    assert_allclose(norm(X), y, rtol=1e-4, atol=1e-5)


def test_the_largest_singular_value_is_nearly_known_before_the_first_step_of_training() -> None:
    norm = nn.SpectralNorm(nn.Linear(8, 8, use_bias=False, rng=RandomState(0)), rng=RandomState(1))
    assert np.linalg.svd(norm(np.eye(8, dtype=np.float32)))[1][0] == pytest.approx(1, abs=0.05)


class Counting(nn.Linear):
    calls = 0

    def __call__(self, x: object) -> object:
        self.calls += 1
        self.last = x
        return super().__call__(x)


def test_what_a_layer_sets_on_itself_is_set() -> None:
    norm = nn.WeightNorm(Counting(3, 2))
    norm(X)
    gs.jit(lambda norm: norm(X))(norm)
    assert norm.layer.calls == 2
    assert_array_equal(norm.layer.last, X)
    assert_array_equal(norm(X), norm(X))


def test_the_singular_vector_is_followed_only_while_fitting() -> None:
    norm = nn.SpectralNorm(nn.Linear(3, 2))
    before = norm.direction.value
    norm.layer.weight.value = jnp.array([[2.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    norm(X)
    assert_array_equal(norm.direction.value, before)
    with gs.environ.context(fit=True):
        norm(X)
    assert (norm.direction.value != before).any()
    assert list(gs.states(norm, BatchState)) == [("direction",)]


def test_states_of_the_layer_are_written_as_ever() -> None:
    norm = nn.WeightNorm(nn.BatchNorm(3, fit=True))
    norm(X)
    assert norm.layer.running_mean.value.any()


@pytest.mark.parametrize("kind", [nn.WeightNorm, nn.SpectralNorm])
def test_a_layer_without_such_a_weight_is_an_error(kind: type[nn.WeightNorm]) -> None:
    match = rf"{kind.__name__} normalises a State of a layer, but a Linear has none called 'kernel'\. Say which"
    with pytest.raises(StateTypeError, match=match):
        kind(nn.Linear(3, 2), name="kernel")
    with pytest.raises(StateTypeError, match=r"a Linear has none called 'bias'"):
        kind(nn.Linear(3, 2, use_bias=False), name="bias")
    with pytest.raises(StateTypeError, match=r"a function has none called 'weight'"):
        kind(nn.gelu)


def test_there_is_at_least_one_step() -> None:
    with pytest.raises(nn.RangeError, match=r"SpectralNorm needs a positive whole number as `steps`, but got 0"):
        nn.SpectralNorm(nn.Linear(3, 2), steps=0)
