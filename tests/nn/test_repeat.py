"""`Repeat` against as many separate layers."""

import jax
import jax.numpy as jnp
import pytest
from jax import Array
from numpy.testing import assert_allclose, assert_array_equal

import graphstate as gs
from graphstate import nn
from graphstate.errors import CarryError
from graphstate.graph import HiddenState, ParamState
from graphstate.random import RandomState

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

X = jax.random.normal(jax.random.key(0), (3, 4))


class Block(gs.Node):
    def __init__(self) -> None:
        self.linear = nn.Linear(4, 4)
        self.dropout = nn.Dropout(0.5)

    def __call__(self, x: Array, shift: Array | float = 0.0, *, fit: bool | None = None) -> Array:
        return jnp.tanh(self.dropout(self.linear(x), fit=fit) + shift)


@pytest.mark.parametrize("options", [{}, {"checkpoint": True}, {"policy": jax.checkpoint_policies.dots_saveable}])
def test_values_and_gradients_are_those_of_separate_layers(options: dict[str, object]) -> None:
    repeated = nn.Repeat(Block, 3, **options)

    def loss(layers: nn.Repeat | list[Block]) -> Array:
        if isinstance(layers, nn.Repeat):
            return jnp.sum(layers(X) ** 2)
        x = X
        for layer in layers:
            x = layer(x)
        return jnp.sum(x**2)

    value, grads = gs.jit(gs.value_and_grad(loss))(repeated)
    expected, alone = gs.jit(gs.value_and_grad(loss))(gs.unstack(repeated.layers))
    assert_allclose(value, expected, rtol=1e-5)
    for path, gradient in grads.items():
        assert_allclose(gradient, jnp.stack([alone[i][path[1:]] for i in range(3)]), rtol=1e-4, atol=1e-6)


def test_each_layer_is_drawn_by_itself_and_drops_by_itself() -> None:
    repeated = nn.Repeat(lambda: nn.Dropout(0.5), 2)
    weight = nn.Repeat(Block, 2).layers.linear.weight.value
    assert (weight[0] != weight[1]).any()
    with gs.random.seed_context(0):
        y = repeated(jnp.ones(1000), fit=True)
    assert 150 < int((y == 4).sum()) < 350


def test_further_arguments_go_to_every_layer() -> None:
    repeated = nn.Repeat(Block, 2)
    first, second = repeated
    assert_allclose(repeated(X, jnp.ones((3, 4))), second(first(X, 1.0), 1.0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_what_is_compiled_does_not_grow_with_the_number_of_layers(checkpoint: bool) -> None:
    def count(n: int) -> int:
        repeated = nn.Repeat(Block, n, checkpoint=checkpoint)
        return len(str(gs.make_jaxpr(gs.grad(lambda m, x: m(x).sum()))(repeated, X)).splitlines())

    assert count(4) == count(64)


def test_an_eager_call_is_traced_once() -> None:
    traces = []

    class Counting(nn.Linear):
        def __call__(self, x: Array, shift: Array | float = 0.0, *, back: bool | int = False) -> Array:
            traces.append(None)
            return super().__call__(-x if back is True else x) + shift

    for checkpoint in (False, True):
        repeated = nn.Repeat(lambda: Counting(4, 4), 2, checkpoint=checkpoint)
        first, second = repeated
        for arguments, options in (((), {}), ((jnp.ones((3, 4)),), {"back": True}), ((jnp.ones((3, 4)),), {"back": 1})):
            repeated(X, *arguments, **options)
            traces.clear()
            arguments = [2 * each for each in arguments]
            y = repeated(X, *arguments, **options)
            assert not traces
            expected = second(first(X, *arguments, **options), *arguments, **options)
            assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_layers_are_counted_and_iterated_and_their_paths_begin_with_layers() -> None:
    repeated = nn.Repeat(Block, 3)
    assert len(repeated) == 3
    assert [type(layer) for layer in repeated] == [Block] * 3
    assert list(gs.states(repeated, ParamState)) == [("layers", "linear", "bias"), ("layers", "linear", "weight")]


def test_the_recurrent_states_of_all_layers_are_reset() -> None:
    repeated = nn.Repeat(lambda: nn.GRUCell(4, 4), 2)
    nn.reset_state(repeated, batch_size=3)
    assert repeated.layers.hidden.value.shape == (2, 3, 4)
    assert repeated(X).shape == (3, 4)
    assert repeated.layers.hidden.value.any()
    nn.reset_state(repeated)
    assert [state.value.shape for state in gs.states(repeated, HiddenState).values()] == [(2, 4)]


def test_a_layer_that_changes_the_shape_is_an_error() -> None:
    with pytest.raises(CarryError):
        nn.Repeat(lambda: nn.Linear(4, 5), 2)(X)
    with pytest.raises(nn.RangeError, match=r"Repeat needs a positive whole number as `n`, but got 0"):
        nn.Repeat(Block, 0)


def test_a_given_stream_makes_equal_layers_again() -> None:
    def make() -> nn.Repeat:
        rng = RandomState(0)
        return nn.Repeat(lambda: nn.Linear(4, 4, rng=rng), 2)

    assert_array_equal(make().layers.weight.value, make().layers.weight.value)
