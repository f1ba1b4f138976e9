"""The checks of compiling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
import graphstate.testing as gst
from graphstate.errors import PropertyError

pytestmark = pytest.mark.no_leak_check(reason="counts traces, and runs many eager operations")

CASE = gst.BatchCase(3, (np.float32([[0, 1], [2, 4], [5, 7]]),))
CHECKS = [gst.check_jit, gst.check_dtypes, gst.check_no_retrace, gst.check_no_leaks]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("batched", [False, True])
def test_it_passes_a_layer_that_draws_and_counts(check, batched) -> None:
    linear, dropout, calls = gs.nn.Linear(2, 2), gs.nn.Dropout(0.5, fit=True), gs.State(jnp.int32(0))

    def layer(x):
        calls.value += 1
        return dropout(linear(x)), 1.0

    check(layer, gst.BatchCase(3, CASE.args, out_axes=(0, None)), batched=batched)
    assert calls.value == 0


def test_jit_finds_a_branch_on_a_value() -> None:
    with pytest.raises(PropertyError, match=r"uncompiled works, but compiled raises TracerBoolConversionError"):
        gst.check_jit(lambda x: x if x.sum() > 2 else -x, CASE)


def test_jit_finds_a_function_that_knows_that_it_is_compiled() -> None:
    def function(x):
        return x + 1.0 * isinstance(x, jax.core.Tracer)

    with pytest.raises(PropertyError, match=r"output: index \(0,\): compiled 1.0, uncompiled 0.0"):
        gst.check_jit(function, CASE)


def test_jit_finds_a_function_that_is_traced_at_each_call() -> None:
    calls = {"number": 0}

    def count(x):
        calls["number"] += 1
        return x

    def function(x):
        return jax.pure_callback(count, x, x) + 0 * calls["number"]

    with pytest.raises(PropertyError, match=r"traces: a second call with the same types traces it again, 1 times"):
        gst.check_jit(function, CASE)


def test_dtypes_finds_a_weak_type_that_is_lost() -> None:
    def function(x):
        return 3.0 if isinstance(x, jax.core.Tracer) else jnp.float32(3.0)

    with pytest.raises(
        PropertyError, match=r"output: compiled float32 \(weak: from a Python number\), uncompiled float32"
    ):
        gst.check_dtypes(function, CASE)


def test_dtypes_finds_a_batch_with_another_dtype() -> None:
    with pytest.raises(PropertyError, match=r"output: compiled|output: the batch bfloat16, one lane float32"):
        gst.check_dtypes(lambda x: x.astype(jnp.bfloat16) if len(x) > 1 else x, CASE, batched=True)


def test_no_retrace_finds_a_state_that_grows() -> None:
    seen = gs.State(jnp.zeros(1))

    def function(x):
        seen.value = jnp.append(seen.value, 0)
        return x

    with pytest.raises(
        PropertyError, match=r"(?s)a later call traces it again.*seen: float32\[1\] became float32\[2\]"
    ):
        gst.check_no_retrace(function, CASE)
    assert seen.value.shape == (1,)


def test_no_retrace_finds_a_number_that_counts_calls() -> None:
    class Layer(gs.Node):
        def __init__(self):
            self.calls = 0

        def __call__(self, x):
            self.calls += 1
            return x

    layer = Layer()
    with pytest.raises(PropertyError, match=r"(?s)traces it again.*calls: 0 -> 1"):
        gst.check_no_retrace(lambda layer, x: layer(x), gst.BatchCase(3, (layer, *CASE.args), in_axes=(None, 0)))
    assert layer.calls == 0


def test_no_leaks_finds_a_list_that_keeps_tracers() -> None:
    kept = []
    with pytest.raises(PropertyError, match=r"check_no_leaks: .*something outlives its trace") as found:
        gst.check_no_leaks(lambda x: kept.append(x), CASE)
    kept.clear()
    assert "two identical runs" not in str(found.value)
