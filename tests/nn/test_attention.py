"""`MultiHeadAttention`: decoding, dropout, masks and what it refuses; its numbers are in `test_references.py`."""

import jax
import jax.numpy as jnp
import pytest
from jax import Array
from numpy.testing import assert_allclose, assert_array_equal

import graphstate as gs
from graphstate import nn
from graphstate.random import RandomState

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

X = jax.random.normal(jax.random.key(0), (2, 5, 4))


def make(**options: object) -> nn.MultiHeadAttention:
    return nn.MultiHeadAttention(4, 2, rng=RandomState(0), **options)


@pytest.mark.parametrize("parts", [[1, 1, 1, 1, 1], [3, 2], [5]])
def test_decoding_in_parts_gives_what_the_full_pass_gives(parts: list[int]) -> None:
    attention = make(cache_length=6, rotary=nn.RotaryEmbedding(2), kv_heads=1)
    full = attention(X, is_causal=True)
    nn.reset_state(attention, batch_size=2)
    step = gs.jit(lambda x: attention(x, decode=True))
    start, decoded = 0, []
    for size in parts:
        decoded.append(step(X[:, start : start + size]))
        start += size
    assert_allclose(jnp.concatenate(decoded, 1), full, rtol=1e-5, atol=1e-6)
    assert attention.cache.steps.value == 5


def test_one_sequence_is_decoded_without_batch_axes_and_members_with_caches_of_their_own() -> None:
    attention = make(cache_length=5)
    assert attention(X[0, :1], decode=True).shape == (1, 4)
    cells = gs.vmap(lambda: make(cache_length=5), axis_size=2, rng="same")()
    step = gs.vmap(lambda attention, x: attention(x, decode=True))
    parts = [step(cells, X[:, i : i + 1]) for i in range(2)]
    assert_allclose(jnp.concatenate(parts, 1), attention(X[:, :2], is_causal=True), rtol=1e-5, atol=1e-6)


def test_in_double_precision_steps_are_counted_alike() -> None:
    with jax.enable_x64(True):
        attention, x = make(cache_length=5, param_dtype=jnp.float64, rotary=nn.RotaryEmbedding(2)), X[0].astype(float)
        decoded = gs.for_loop(lambda x: attention(x[None], decode=True)[0], x)
        assert decoded.dtype == jnp.float64
        assert_allclose(decoded, attention(x, is_causal=True), rtol=1e-12, atol=1e-12)


def test_a_cache_that_was_cast_keeps_its_dtype() -> None:
    attention = make(cache_length=5)
    for state in (attention.cache.key, attention.cache.value):
        state.value = state.value.astype(jnp.bfloat16)
    decoded = attention(X[0], decode=True)
    assert (decoded.dtype, attention.cache.key.value.dtype) == (jnp.float32, jnp.bfloat16)
    assert_allclose(decoded, attention(X[0], is_causal=True), rtol=0.05, atol=0.05)


def test_no_sequences_and_no_steps_give_nothing() -> None:
    attention = make()
    assert (attention(X[:0]).shape, attention(X[:, :0]).shape) == ((0, 5, 4), (2, 0, 4))


def test_a_cache_that_would_be_overrun_is_an_error_and_compiled_gives_nan() -> None:
    attention = make(cache_length=3)
    attention(X[0, :3], decode=True)
    before = attention.cache.key.value
    with pytest.raises(
        nn.ShapeError,
        match=r"KeyValueCache \(MultiHeadAttention\.cache\) has room for 3 steps, but 1 more would overrun it\. ",
    ):
        attention(X[0, :1], decode=True)
    assert_array_equal(attention.cache.key.value, before)
    with pytest.raises(nn.ShapeError, match=r"room for 3 steps, but 4 more"):
        make(cache_length=3)(X[0, :4], decode=True)
    assert jnp.isnan(gs.jit(lambda x: attention(x, decode=True))(X[0, :1])).all()


def test_a_cache_knows_its_batch_axes() -> None:
    match = (
        r"KeyValueCache \(MultiHeadAttention\.cache\) keeps steps of inputs with batch axes \(\), but got \(2,\)\. "
        r"Call `reset_state\(batch_size=\(2,"
    )
    with pytest.raises(nn.ShapeError, match=match):
        make(cache_length=3)(X[:, :1], decode=True)


def test_in_decoding_a_mask_is_one_for_all_that_the_cache_has_room_for() -> None:
    attention, padding = make(cache_length=6, rotary=nn.RotaryEmbedding(2)), jnp.array([2, 0])  # steps before the first
    mask = (jnp.arange(6)[None] >= padding[:, None])[:, None, None]
    expected = attention(X, is_causal=True, mask=jnp.broadcast_to(mask[..., :5], (2, 1, 5, 5)))
    nn.reset_state(attention, batch_size=2)
    step = gs.jit(lambda x: attention(x, mask=jnp.broadcast_to(mask, (2, 1, x.shape[1], 6)), decode=True))
    decoded = jnp.concatenate([step(X[:, :3]), step(X[:, 3:])], 1)
    assert_allclose(decoded[0, 2:], expected[0, 2:], rtol=1e-5, atol=1e-6)
    assert_allclose(decoded[1], expected[1], rtol=1e-5, atol=1e-6)
    with pytest.raises(nn.ShapeError, match=r"a mask of shape \(1, 6\), \(2, 1, 1, 6\) or \(2, 2, 1, 6\), but got"):
        attention(X[:, :1], mask=jnp.ones((1, 5), bool), decode=True)


def test_a_stack_of_caches_is_reset_in_a_map() -> None:
    layers = gs.vmap(lambda: make(cache_length=3), axis_size=2, rng="same")()
    with pytest.raises(nn.ShapeError, match=r"a number of steps of shape \(\), but it is int32\[2\]\. Call a stack"):
        nn.reset_state(layers)
    gs.vmap(lambda layer: nn.reset_state(layer, 5))(layers)
    assert layers.cache.key.value.shape == (2, 5, 3, 2, 2)


@pytest.mark.parametrize("options", [{}, {"cache_length": 5}])
def test_decoding_needs_a_cache_and_attends_to_itself(options: dict[str, int]) -> None:
    match = r"MultiHeadAttention decodes steps of its own input, and with a cache: .*cache_length"
    with pytest.raises(nn.RangeError, match=match):
        make(**options)(X, X + 1, decode=True)
    if not options:
        with pytest.raises(nn.RangeError, match=match):
            make()(X, decode=True)


def test_masks_for_all_sequences_for_each_and_for_each_head() -> None:
    attention, causal = make(), jnp.tril(jnp.ones((5, 5), bool))
    expected = attention(X, is_causal=True)
    for mask in (causal, jnp.broadcast_to(causal, (2, 1, 5, 5)), jnp.broadcast_to(causal, (2, 2, 5, 5))):
        assert_allclose(attention(X, mask=mask), expected, rtol=1e-5, atol=1e-6)


def test_all_weights_kept_is_no_dropout_and_all_dropped_leaves_the_bias() -> None:
    layer, kept, dropped = (make(rate=rate, fit=True, kv_heads=1) for rate in (0.0, 1e-12, 1.0))
    mask = jnp.tril(jnp.ones((5, 5), bool))

    @gs.jit
    def calls() -> tuple[list[Array], list[Array]]:
        expected = [layer(X), layer(X, is_causal=True), layer(X, is_causal=True), jnp.zeros_like(X)]
        return [kept(X), kept(X, is_causal=True), kept(X, mask=mask), dropped(X)], expected

    for one, other in zip(*calls(), strict=True):
        assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_weights_are_dropped_while_fitting_and_the_mean_is_kept() -> None:
    attention = make(rate=0.5, kv_heads=1, dropout_rng=RandomState(3))
    expected = make(kv_heads=1)(X)
    assert_allclose(attention(X), expected, rtol=1e-5, atol=1e-6)

    def draw() -> Array:
        return attention(X, fit=True)

    samples = gs.jit(gs.vmap(draw, axis_size=4000))()
    assert (samples[0] != samples[1]).any()
    assert_allclose(samples.mean(0), expected, atol=0.05)


def test_memories_and_outputs_have_sizes_of_their_own() -> None:
    attention = make(memory_features=3, out_features=7, head_features=5)
    assert attention(X, jnp.ones((2, 9, 3))).shape == (2, 5, 7)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda a: a(jnp.ones((5, 3))),
            nn.ShapeError,
            r"sequences of shape \(\.\.\., time, 4\), but got float32\[5,3\]",
        ),
        (
            lambda a: a(jnp.ones(4)),
            nn.ShapeError,
            r"takes sequences of shape \(\.\.\., time, 4\), but got float32\[4\]",
        ),
        (
            lambda a: a(X, X[0]),
            nn.ShapeError,
            r"a memory with the leading axes of x, float32\[2,5,4\], but got float32\[5",
        ),
        (lambda a: a(X.astype(int)), nn.DtypeError, r"MultiHeadAttention takes floats, but got int32\[2,5,4\]"),
        (
            lambda a: a(X, mask=jnp.ones((5, 5))),
            nn.DtypeError,
            r"takes as `mask` an array of booleans, .* float32\[5,5\]",
        ),
        (
            lambda a: a(X, mask=jnp.ones((2, 5, 5), bool)),
            nn.ShapeError,
            r"takes a mask of shape \(5, 5\), \(2, 1, 5, 5\) or \(2, 2, 5, 5\), but got bool\[2,5,5\]\. Give it an axi",
        ),
    ],
)
def test_wrong_inputs_are_an_error(call: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call(make())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"heads": 0}, r"MultiHeadAttention needs a positive whole number as `heads`, but got 0"),
        ({"heads": 3}, r"MultiHeadAttention splits features=4 into equal parts, but heads=3 does not divide it"),
        ({"kv_heads": 3}, r"MultiHeadAttention splits heads=2 into equal parts, but kv_heads=3 does not divide it"),
        ({"rate": 2}, r"Dropout needs a `rate` from 0 to 1, .*, but got 2"),
        ({"cache_length": 0}, r"MultiHeadAttention needs a positive whole number as `cache_length`, but got 0"),
        ({"rotary": nn.RotaryEmbedding(4)}, r"rotates heads of 2 features, but its `rotary` is for 4\. Give `Rot"),
    ],
)
def test_wrong_options_are_an_error(options: dict[str, object], match: str) -> None:
    with pytest.raises(nn.RangeError, match=match):
        nn.MultiHeadAttention(4, **{"heads": 2, **options})
