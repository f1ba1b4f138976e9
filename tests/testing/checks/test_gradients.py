"""The checks of derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
import graphstate.testing as gst
from graphstate._trace import current_frame
from graphstate.errors import PropertyError, StateTypeError

pytestmark = pytest.mark.no_leak_check(reason="runs many eager operations")

X = np.float32([[0, 1], [2, 4], [5, 7]])
CASE = gst.BatchCase(3, (X,))


def with_rule(scale):
    """A function whose backward pass multiplies by `scale` of the batch."""

    @jax.custom_vjp
    def function(x):
        return jnp.sin(x)

    function.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x) * scale(x),))
    return function


@pytest.mark.parametrize("check", [gst.check_grad, gst.check_remat])
def test_it_passes_parameters_in_the_closure_and_in_arguments(check) -> None:
    trunk = gs.nn.Linear(2, 2)
    heads = gs.vmap(lambda seed: gs.nn.Linear(2, 1, rng=gs.random.RandomState(seed)))(jnp.arange(3))

    def function(head, x, scale, *, count):
        return head(jnp.tanh(trunk(x))) * scale["by"], count

    case = gst.BatchCase(3, (heads, X.T, {"by": np.float32(2)}), {"count": np.arange(3)}, in_axes=(0, 1, None))
    check(function, case)


@pytest.mark.parametrize("check", [gst.check_grad, gst.check_remat])
@pytest.mark.parametrize("batched", [False, True])
def test_it_passes_complex_numbers_and_what_is_written_and_drawn(check, batched) -> None:
    rng, calls = gs.random.RandomState(0), gs.State(jnp.int32(0))

    def function(x):
        calls.value += 1
        noise = jnp.float32(0) if batched else rng.normal()
        return jax.lax.complex(x * (1 + noise), 2 * x), jnp.cumsum(x, -1)

    check(function, CASE, batched=batched)


@pytest.mark.parametrize("batched", [False, True])
def test_grad_passes_a_result_that_the_lanes_share(batched) -> None:
    shift = gs.ParamState(jnp.float32([1, 2]))
    case = gst.BatchCase(3, (X,), out_axes=(0, None))
    gst.check_grad(lambda x: (x * (shift.value[None] if batched else shift.value), shift.value), case, batched=batched)


def test_grad_finds_a_rule_that_sums_over_the_batch() -> None:
    function = with_rule(lambda x: x.shape[0])
    with pytest.raises(
        PropertyError, match=r"(?s)gradient \[0\]: .*looks like: too large by a factor of the batch size, 3"
    ):
        gst.check_grad(function, CASE, batched=True)


def test_grad_finds_a_shared_parameter_whose_gradient_is_a_mean() -> None:
    weight = gs.ParamState(jnp.float32([1, 2]))

    @jax.custom_vjp
    def scaled(w, x):
        return w[None] * x

    scaled.defvjp(lambda w, x: (w[None] * x, (w, x)), lambda r, g: ((g * r[1]).mean(0), g * r[0][None]))
    with pytest.raises(PropertyError, match=r"gradient \[1\]: .*the sum over lanes"):
        gst.check_grad(lambda x: scaled(weight.value, x), CASE, batched=True)


def test_grad_needs_something_to_differentiate_by() -> None:
    with pytest.raises(
        StateTypeError, match=r"`check_grad` needs something to differentiate by, but .* is given no real"
    ):
        gst.check_grad(lambda n: 2 * n, gst.BatchCase(2, (np.arange(2),)))


def test_remat_finds_a_function_that_changes_from_run_to_run() -> None:
    def function(x):
        depth, frame = 0, current_frame()
        while frame is not None:
            depth, frame = depth + 1, frame.parent
        return x * depth

    with pytest.raises(PropertyError, match=r"check_remat: .*`checkpoint` changes it"):
        gst.check_remat(function, CASE)


def test_in_doubles_a_gradient_is_measured_by_gradients_and_not_by_what_the_function_returns() -> None:
    @jax.custom_vjp
    def large(x):
        return 1e9 + x

    def backward(size, cotangent):
        return (cotangent * (1 + 1e-9 * size),)

    large.defvjp(lambda x: (large(x), len(x)), backward)
    with jax.enable_x64(True), pytest.raises(PropertyError, match=r"gradient \[0\]: lane 0"):
        gst.check_grad(large, gst.BatchCase(2, (np.float64([1, 2]),)), batched=True)
