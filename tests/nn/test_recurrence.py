"""`RNN` and `Bidirectional` against a Python loop over steps."""

import jax
import jax.numpy as jnp
import pytest
from jax import Array
from numpy.testing import assert_allclose, assert_array_equal

import graphstate as gs
from graphstate import nn
from graphstate.graph import HiddenState
from graphstate.random import RandomState

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

XS = jax.random.normal(jax.random.key(0), (2, 4, 3))


def make(**options: bool) -> nn.RNN:
    return nn.RNN(nn.LSTMCell(3, 2, rng=RandomState(0)), **options)


def loop(xs: Array) -> Array:
    """The outputs for one sequence, step by step."""
    cell = make().cell
    return jnp.stack([cell(x) for x in xs])


def test_it_is_the_loop_over_steps_and_leaves_the_cell_alone() -> None:
    rnn = make()
    rnn.cell.hidden.value = jnp.array([7.0, 8.0])
    assert_allclose(rnn(XS[0]), loop(XS[0]), rtol=1e-5, atol=1e-6)
    assert_array_equal(rnn.cell.hidden.value, jnp.array([7.0, 8.0]))


def test_an_eager_call_is_traced_once() -> None:
    traces = []

    class Counting(nn.GRUCell):
        def __call__(self, x: Array) -> Array:
            traces.append(None)
            return super().__call__(x)

    rnn, lengths = nn.RNN(Counting(3, 2)), jnp.array([4, 2])
    both = nn.Bidirectional(Counting(3, 2), Counting(3, 2))
    for _ in range(2):
        traces.clear()
        results = rnn(XS), rnn(XS, lengths=lengths), both(XS)
    assert not traces
    rnn.cell.from_input.weight.value *= 2
    assert (rnn(XS) != results[0]).any()


def test_reversed_it_begins_at_the_end() -> None:
    assert_allclose(make(reverse=True)(XS[0]), loop(XS[0, ::-1])[::-1], rtol=1e-5, atol=1e-6)


def test_a_stateful_one_goes_on_where_the_last_call_has_ended() -> None:
    rnn = make(stateful=True)
    nn.reset_state(rnn, batch_size=2)
    windows = jnp.concatenate([rnn(XS[:, :3]), rnn(XS[:, 3:])], 1)
    assert_allclose(windows, make()(XS), rtol=1e-5, atol=1e-6)


def test_the_last_state_can_be_returned_and_begun_with() -> None:
    rnn = make()
    first, state = rnn(XS[:, :3], return_state=True)
    assert_allclose(state["hidden"], first[:, -1])
    rest = rnn(XS[:, 3:], initial=state)
    assert_allclose(rest, make()(XS)[:, 3:], rtol=1e-5, atol=1e-6)
    assert rnn.cell.hidden.value.shape == (2,)


def test_a_beginning_for_a_state_that_there_is_not_is_an_error() -> None:
    match = r"RNN takes as `initial` values of the states that its cell carries, hidden, memory, but got one called 'h'"
    with pytest.raises(gs.errors.UpdateError, match=match):
        make()(XS, initial={"h": jnp.zeros((2, 2))})


@pytest.mark.parametrize("reverse", [False, True])
def test_steps_beyond_the_length_change_nothing_and_give_zeros(reverse: bool) -> None:
    rnn = make(reverse=reverse)
    ys, state = rnn(XS, lengths=jnp.array([4, 2]), return_state=True)
    short, last = rnn(XS[1, :2], return_state=True)
    assert_allclose(ys[1, :2], short, rtol=1e-5, atol=1e-6)
    assert not ys[1, 2:].any()
    assert_allclose(state["memory"][1], last["memory"], rtol=1e-5, atol=1e-6)
    assert_allclose(ys[0], rnn(XS[0]), rtol=1e-5, atol=1e-6)


def test_several_cells_are_one_cell() -> None:
    cells = nn.Sequential(nn.GRUCell(3, 2, rng=RandomState(0)), nn.tanh, nn.RNNCell(2, 1, rng=RandomState(1)))
    by_layer = nn.RNN(cells[2])(jnp.tanh(nn.RNN(cells[0])(XS)))
    assert_allclose(nn.RNN(cells)(XS), by_layer, rtol=1e-5, atol=1e-6)


def test_both_directions_are_joined() -> None:
    cells = [nn.GRUCell(3, size, rng=RandomState(size)) for size in (2, 1)]
    ys, (last, first) = nn.Bidirectional(*cells)(XS, return_state=True)
    expected = [nn.RNN(cells[0])(XS), nn.RNN(cells[1], reverse=True)(XS)]
    assert_allclose(ys, jnp.concatenate(expected, -1), rtol=1e-5, atol=1e-6)
    assert_allclose(last["hidden"], ys[:, -1, :2])
    assert_allclose(first["hidden"], ys[:, 0, 2:])


def test_each_direction_begins_with_its_state() -> None:
    both = nn.Bidirectional(nn.GRUCell(3, 2), nn.GRUCell(3, 1))
    _, last = both(XS, return_state=True)
    expected = [both.forward(XS, initial=last[0]), both.backward(XS, initial=last[1])]
    assert_allclose(both(XS, initial=last), jnp.concatenate(expected, -1), rtol=1e-5, atol=1e-6)


def test_a_call_that_fails_leaves_the_cell_as_it_was() -> None:
    rnn = make()
    with pytest.raises(nn.ShapeError, match=r"LSTMCell \(RNN\.cell\) takes activations .* but got float32\[2,4\]"):
        rnn(jnp.ones((2, 5, 4)))
    assert rnn.cell.hidden.value.shape == (2,)


def test_a_stateful_call_that_fails_does_not_keep_the_state_that_it_was_to_begin_with() -> None:
    rnn = make(stateful=True)
    before = gs.state(rnn, HiddenState)
    with pytest.raises(nn.ShapeError, match=r"takes activations of shape"):
        rnn(jnp.ones((5, 4)), initial={"hidden": jnp.ones(2), "memory": jnp.ones(2)})
    jax.tree.map(assert_array_equal, gs.state(rnn, HiddenState), before)


def test_what_stands_in_steps_that_do_not_count_reaches_no_gradient() -> None:
    def loss(rnn: nn.RNN, xs: Array) -> Array:
        return jnp.sum(rnn(xs, lengths=jnp.array([4, 2])))

    gradient = gs.jit(gs.grad(loss))
    expected, actual = (gradient(make(), XS.at[1, 2:].set(padding)) for padding in (0.0, jnp.nan))
    jax.tree.map(assert_array_equal, actual, expected)


@pytest.mark.parametrize("wrong", [5, -1])
def test_a_length_is_a_number_of_steps_and_where_it_cannot_be_known_more_are_all(wrong: int) -> None:
    rnn, match = make(), rf"RNN takes as `lengths` numbers from 0 to 4, the number of steps, but got {wrong}\. Are"
    with pytest.raises(nn.RangeError, match=match):
        rnn(XS, lengths=jnp.array([4, wrong]))
    if wrong > 4:
        ys = gs.jit(lambda lengths: rnn(XS, lengths=lengths))(jnp.array([4, wrong]))
        assert_allclose(ys, rnn(XS), rtol=1e-5, atol=1e-6)


def test_what_is_no_sequence_is_an_error() -> None:
    with pytest.raises(nn.ShapeError, match=r"RNN takes sequences of shape \(\.\.\., time, features\), but got"):
        make()(jnp.ones(3))
    with pytest.raises(nn.DtypeError, match=r"RNN takes floats, but got int32\[4,3\]"):
        make()(jnp.ones((4, 3), int))
    with pytest.raises(nn.ShapeError, match=r"RNN takes as `lengths` one number .* \(2,\) for xs of .*got \(2, 4\)"):
        make()(XS, lengths=jnp.ones((2, 4), int))
    with pytest.raises(nn.DtypeError, match=r"RNN takes whole numbers as `lengths`, but got bool\[2\]\. A mask"):
        make()(XS, lengths=jnp.ones(2, bool))


class Counter(gs.Node):
    def __init__(self) -> None:
        self.count = HiddenState(3)


class Resetting(Counter):
    def reset_state(self, batch_size: int | None = None) -> None:
        self.count.value = 0 if batch_size is None else jnp.zeros(batch_size, int)


def test_every_recurrent_state_of_a_model_is_reset() -> None:
    counter = Resetting()
    model = {"rnn": make(), "parts": [counter, nn.GRUCell(2, 3)]}
    nn.reset_state(model, batch_size=5)
    assert {state.value.shape[0] for state in gs.states(model, HiddenState).values()} == {5}
    nn.reset_state(model)
    assert counter.count.value == 0


def test_a_state_that_nobody_resets_is_an_error_and_nothing_is_changed() -> None:
    model = nn.Sequential(nn.GRUCell(2, 3), len)
    model.counter = Counter()
    match = r"(?s)`reset_state` resets every HiddenState .* there is none above:\s+counter/count\s+Give a Node such"
    with pytest.raises(gs.errors.StructureError, match=match):
        nn.reset_state(model, batch_size=5)
    assert model[0].hidden.value.shape == (3,)
