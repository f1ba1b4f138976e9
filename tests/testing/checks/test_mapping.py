"""The checks of lanes: what they find, what they say, and that they leave everything as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
import graphstate.testing as gst
from graphstate.errors import PropertyError, StateTypeError

CHECKS = [
    gst.check_vmap,
    gst.check_permutation,
    gst.check_batch_of_one,
    gst.check_batch_size_independence,
    gst.check_empty_batch,
    gst.check_nested_vmap,
]
X = np.float32([[0, 1], [2, 4], [5, 7]])
CASE = gst.BatchCase(3, (X,))

pytestmark = pytest.mark.no_leak_check(reason="runs many eager operations")
each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


class Cell(gs.Node):
    """A linear layer with a state of its own, and a count of calls."""

    def __init__(self, seed=0):
        self.linear = gs.nn.Linear(2, 2, rng=gs.random.RandomState(seed))
        self.shared = [self.linear]
        self.calls = gs.State(jnp.int32(0))

    def __call__(self, x):
        self.calls.value += 1
        return self.shared[0](x)


def values(node):
    return [np.asarray(value).tolist() for value in gs.state(node).values()]


@each_check
def test_it_passes_a_node_that_counts_its_calls_and_leaves_it_as_it_was(check) -> None:
    cell = Cell()
    before, version = values(cell), cell._graph_version
    check(cell, CASE)
    assert values(cell) == before
    assert cell._graph_version == version


@each_check
def test_it_passes_members_in_arguments(check) -> None:
    members = gs.vmap(Cell)(jnp.arange(3))
    before = values(members)
    check(lambda cell, x: (cell(x), cell), gst.BatchCase(3, (members, X)))
    assert values(members) == before


@each_check
def test_it_passes_a_state_of_the_closure_that_is_mapped(check) -> None:
    hidden = gs.HiddenState(jnp.ones((2, 3)))

    def step(x):
        hidden.value = jnp.tanh(hidden.value + x)
        return hidden.value

    check(step, gst.BatchCase(3, (X,), out_axes=-1, state_in_axes={gs.HiddenState: -1}))
    np.testing.assert_array_equal(hidden.value, np.ones((2, 3)))


@each_check
def test_it_passes_a_function_that_draws(check) -> None:
    rng = gs.random.RandomState(0)
    key = jax.random.key_data(rng.value).tolist()
    check(lambda x: x + rng.normal(size=2), CASE)
    assert jax.random.key_data(rng.value).tolist() == key


@each_check
def test_it_passes_members_that_draw_from_streams_of_their_own(check) -> None:
    members = gs.vmap(lambda seed: gs.nn.Dropout(0.5, fit=True, rng=gs.random.RandomState(seed)))(jnp.arange(3))
    check(lambda node, x: node(x), gst.BatchCase(3, (members, X)))


@each_check
@pytest.mark.parametrize("axis", [0, -1])
def test_it_passes_a_batched_function_whose_lanes_are_apart(check, axis) -> None:
    case = gst.BatchCase(3, (np.moveaxis(X, 0, axis), {"shift": np.float32([1, 2, 3])[:2]}), in_axes=(axis, None))
    function = jax.vmap(lambda x, more: jnp.cumsum(x + more["shift"]), in_axes=(axis, None))
    check(function, case, batched=True)


@each_check
def test_it_calls_no_node_that_was_given_as_an_argument(check) -> None:
    cell = Cell()
    check(lambda cell, x: cell(x), gst.BatchCase(3, (cell, X), in_axes=(None, 0)))
    assert cell.calls.value == 0


@each_check
def test_it_raises_what_the_function_raises(check) -> None:
    def fail(x):
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match=r"on purpose"):
        check(fail, CASE)


@each_check
def test_it_needs_a_case_and_something_to_call(check) -> None:
    with pytest.raises(StateTypeError, match=f"`{check.__name__}` needs a `BatchCase` with the arguments of all lanes"):
        check(jnp.sin, X)
    with pytest.raises(StateTypeError, match=f"`{check.__name__}` calls what it checks, but got '3' of type int"):
        check(3, CASE)
    with pytest.raises(StateTypeError, match=r"`tol` is a `Tol`, as `Tol\(k=64\)`"):
        check(jnp.sin, CASE, tol=1e-3)


@pytest.mark.parametrize(
    ("check", "function", "text"),
    [
        (
            gst.check_vmap,
            lambda x: x + 1e-3 * (x.mean(0, keepdims=True) - x),
            "every lane is moved by 0.001 of the way to the mean",
        ),
        (gst.check_vmap, lambda x: x.at[2:].multiply(1 + 9e-6), "looks like: only in lane 2"),
        (gst.check_vmap, lambda x: x[::-1], "looks like: lanes reversed"),
        (gst.check_vmap, lambda x: jnp.broadcast_to(x[:1], x.shape), "every lane holds what lane 0 should"),
        (
            gst.check_vmap,
            lambda x: x.T,
            "2 entries at the lane axis 0, for 3 lanes: its shape is .*\n    looks like: the lane axis is at axis 1",
        ),
        (gst.check_vmap, lambda x: x / len(x), "too small by a factor of the batch size, 3"),
        (gst.check_permutation, lambda x: x.at[0].add(1), "lanes in another order give other results"),
        (gst.check_batch_of_one, lambda x: x.squeeze(), "a batch of one differs from its lane"),
        (gst.check_batch_size_independence, lambda x: x * len(x), "a batch of 4 .*, the batch of 3"),
        (gst.check_empty_batch, lambda x: x / (1 // len(x) + 1), "the batch works, but the empty batch raises Zero"),
        (gst.check_empty_batch, lambda x: x if len(x) else x[:, 0], r"the empty batch has float32\[0\], but float32"),
    ],
)
def test_it_finds_a_batched_function_that_mixes_lanes(check, function, text) -> None:
    with pytest.raises(PropertyError, match=text) as caught:
        check(function, CASE, batched=True)
    assert caught.value.check == check.__name__
    assert caught.value.case is CASE


def test_a_state_that_one_lane_writes_for_all_is_found() -> None:
    last = gs.State(jnp.zeros(2))

    def batch(x):
        last.value = x[-1]
        return x

    with pytest.raises(
        PropertyError, match=r"(?s)state last: lane 0: .*looks like: it is not mapped, but depends on the"
    ) as caught:
        gst.check_vmap(lambda x: batch(x), CASE, batched=True)
    assert len(caught.value.differences) == 1


def test_sharing_that_is_lost_is_found() -> None:
    def batch(cell, x):
        if x.shape[0] > 1:
            cell.shared = [gs.clone(cell.linear)]
        return x

    with pytest.raises(PropertyError, match=r"structure or sharing has changed"):
        gst.check_vmap(batch, gst.BatchCase(3, (Cell(), X), in_axes=(None, 0)), batched=True)


def test_a_crash_on_one_side_only_is_said_so() -> None:
    total = gs.State(jnp.zeros(2))

    def add(x):
        total.value += x

    with pytest.raises(PropertyError, match=r"error: the loop works, but vmap raises BatchAxisError: `total`"):
        gst.check_vmap(add, CASE)
    with pytest.raises(PropertyError, match=r"error: uncompiled works, but vmap raises BatchAxisError: `total`"):
        gst.check_permutation(add, CASE)
    with pytest.raises(PropertyError, match=r"the loop works, but vmap raises TracerBoolConversionError"):
        gst.check_vmap(lambda x: x if x.sum() > 0 else -x, CASE)
    with pytest.raises(PropertyError, match=r"batches of one raises ValueError: never alone"):
        gst.check_vmap(lambda x: x if len(x) > 1 else _raise("never alone"), CASE, batched=True)


def test_the_error_of_one_side_is_shown_as_a_whole() -> None:
    text = f"{'long ' * 100}and its way out\n" + "line\n" * 15 + "the last"
    with pytest.raises(PropertyError, match=r"(?s)and its way out\n.*the last\n  case: BatchCase\(axis_size=3"):
        gst.check_vmap(lambda x: x if len(x) == 1 else _raise(text), CASE, batched=True)


def test_what_stands_for_a_node_in_a_case_is_said() -> None:
    case = gst.BatchCase(3, (gs.nn.Linear(2, 2), X), in_axes=(None, 0))
    with pytest.raises(PropertyError) as caught:
        gst.check_vmap(lambda linear, x: linear(x) - x.mean(), case, batched=True)
    where = "`<Linear>` stands for the Linear of your case: `error.case` has it"
    assert str(caught.value).endswith(f"  case: {case!r}\n  where: {where}")


def test_a_case_is_shown_as_a_whole() -> None:
    case = gst.BatchCase(3, (np.arange(150, dtype="float32").reshape(3, 50),))
    with pytest.raises(PropertyError) as caught:
        gst.check_vmap(lambda x: x - x.mean(), case, batched=True)
    assert str(caught.value).endswith(f"  case: {case!r}")


@pytest.mark.parametrize("text", ["x" * 9000, "line\n" * 90])
def test_an_error_that_is_too_long_ends_with_dots_and_leaves_room_for_the_case(text) -> None:
    with pytest.raises(PropertyError, match=r"(x|line) \.\.\.\n  case: BatchCase\(axis_size=3") as caught:
        gst.check_vmap(lambda x: x if len(x) == 1 else _raise(text), CASE, batched=True)
    assert len(str(caught.value)) <= 6000
    assert len(str(caught.value).splitlines()) <= 60


class Last(gs.Node):
    """Keeps what it was given last."""

    def __init__(self):
        self.last = gs.State(jnp.zeros(2))

    def __call__(self, x):
        self.last.value = x


class Counter(gs.Node):
    """Counts its calls with a number of Python."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x


def test_an_error_calls_objects_as_users_do() -> None:
    with pytest.raises(PropertyError, match=r"vmap raises BatchAxisError: `last` \(State, created") as caught:
        gst.check_vmap(Last(), CASE)
    assert "__wrapped__" not in "".join(caught.value.differences)
    with pytest.raises(PropertyError, match=r"but the Node \(`Counter`\) was made outside of it"):
        gst.check_vmap(Counter(), CASE)


LANES = {name for name in gst.__all__ if name.startswith("check_")} - {"check_module", "check_ensemble_step"}


@pytest.mark.parametrize("name", sorted(LANES))
@pytest.mark.parametrize("batched", [False, True])
def test_each_check_says_what_works_uncompiled_only(name, batched) -> None:
    with pytest.raises(PropertyError, match=rf"(?s){name}: .* TraceContextError: .*Pass the Node as an argument"):
        getattr(gst, name)(Counter(), CASE, batched=batched)


def _raise(text):
    raise ValueError(text)


def test_an_operation_that_differs_from_itself_is_said_so() -> None:
    generator = np.random.default_rng(0)

    def noise(x):
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        return x + jax.pure_callback(lambda: np.float32(generator.normal()), shape, vmap_method="sequential")

    with pytest.raises(
        PropertyError, match=r"note: two identical runs of vmap differ: an operation gives something else"
    ):
        gst.check_vmap(noise, CASE)


@pytest.mark.parametrize(("batched", "of"), [(False, "lane 0"), (True, "the batch")])
def test_a_draw_of_numpy_that_a_trace_keeps_is_said_so(batched, of) -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(PropertyError, match=rf"note: two identical runs of {of}, uncompiled, differ"):
        gst.check_vmap(lambda x: x + np.float32(generator.normal()), CASE, batched=batched)


def test_a_batched_function_that_draws_cannot_be_compared() -> None:
    rng = gs.random.RandomState(0)
    with pytest.raises(StateTypeError, match=r"draws random numbers for a batch as a whole"):
        gst.check_vmap(lambda x: x + rng.normal(size=x.shape), CASE, batched=True)


def test_rounding_is_a_warning_with_both_figures() -> None:
    def cancel(x, one):
        small = 1e-7 * x.shape[0]
        return ((one + x * small) - one) / small

    with pytest.warns(
        gst.RoundingWarning, match=r"differs by .* of the largest element at output, and by .* in double"
    ):
        gst.check_vmap(
            cancel, gst.BatchCase(3, (np.float32([0.1, 0.2, 0.7]), np.float32(1)), in_axes=(0, None)), batched=True
        )


def test_rounding_that_is_small_beside_the_other_outputs_is_none_to_warn_of() -> None:
    def cancel(x, one):
        small = 1e-7 * x.shape[0]
        near = one + x * small
        return near, (near - one) / small * 1e-7

    gst.check_vmap(
        cancel, gst.BatchCase(3, (np.float32([0.1, 0.2, 0.7]), np.float32(1)), in_axes=(0, None)), batched=True
    )


def test_in_doubles_what_is_small_beside_the_other_outputs_is_taken_for_rounding_with_a_warning() -> None:
    def leak(x):
        return x, (1e-15 * len(x)) * x

    case = gst.BatchCase(2, (np.float64([1, 2]),))
    with jax.enable_x64(True):
        with pytest.warns(gst.RoundingWarning, match=r"at output \[1\] by less than 64 units .* nothing is wider"):
            gst.check_vmap(leak, case, batched=True)
        with pytest.raises(PropertyError, match=r"output \[1\]: lane 1"):
            gst.check_vmap(lambda x: (x, (1e-12 * len(x)) * x), case, batched=True)


def test_a_larger_tolerance_can_be_given() -> None:
    gst.check_vmap(lambda x: x * (1 + 1e-4 * len(x)), CASE, batched=True, tol=gst.Tol(k=1e4))
    with pytest.raises(gs.errors.AxisError, match=r"`Tol` needs a `k` of 0 or more, in units of eps, but got -1"):
        gst.Tol(-1)


def test_a_result_that_loses_its_lane_axis_is_found() -> None:
    with pytest.raises(PropertyError, match=r"the batch of one has the shape \(\), which has no lane axis 0"):
        gst.check_batch_of_one(lambda x: jnp.squeeze(x.sum(-1)), CASE, batched=True)


def test_an_empty_case_is_compared_by_its_types() -> None:
    gst.check_vmap(jnp.cumsum, CASE.with_batch(0))
    with pytest.raises(PropertyError, match=r"the empty batch has"):
        gst.check_vmap(lambda x: jnp.ones((1, 2)), CASE.with_batch(0), batched=True)
