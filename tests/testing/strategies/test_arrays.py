"""`dtypes`, `shapes`, `arrays` and `keys`: numbers of every dtype, within their bounds, simple after shrinking."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate.testing as gst
from graphstate.errors import StrategyError
from tests.testing.strategies.searching import simplest, some

pytestmark = pytest.mark.no_leak_check("very many eager operations")

FLOATS = ["float32", "float16", "bfloat16", "float8_e4m3fn"]


def test_dtypes_begin_with_float32_and_have_64_bits_only_under_x64() -> None:
    assert simplest(gst.dtypes()) == np.float32
    assert simplest(gst.dtypes("iu")) == np.int32
    drawn = {str(dtype) for dtype in some(gst.dtypes("fiubc"))}
    assert {"float32", "bfloat16", "float16", "int8", "uint32", "bool", "complex64"} <= drawn
    assert not [name for name in drawn if name.endswith(("64", "128")) and name != "complex64"]
    with jax.enable_x64(True):
        assert {"float64", "int64", "uint64", "complex128"} <= {str(dtype) for dtype in some(gst.dtypes("fiubc"))}


def test_dtypes_that_numpy_lacks_can_be_left_out() -> None:
    assert {str(dtype) for dtype in some(gst.dtypes("f", extended=False))} == {"float32", "float16"}


@pytest.mark.parametrize("kinds", ["", "x", "fx"])
def test_a_kind_of_dtype_that_there_is_not_is_an_error(kinds: str) -> None:
    with pytest.raises(StrategyError, match=r"`dtypes` takes some of the letters fiubc as `kinds`, but '.*' came"):
        gst.dtypes(kinds)


def test_shapes_are_few_and_have_squares_among_them() -> None:
    drawn = set(some(gst.shapes()))
    assert simplest(gst.shapes()) == ()
    assert simplest(gst.shapes(min_dims=1)) == (2,)
    assert {(2, 2), (3, 3), (2, 3), (1,)} <= drawn
    assert len(drawn) <= 13
    assert not any(0 in shape for shape in drawn)
    assert any(0 in shape for shape in some(gst.shapes(allow_empty=True)))
    assert set(some(gst.shapes(1, 1, sides=(5, 4)))) == {(5,), (4,)}


@pytest.mark.parametrize("dtype", [*FLOATS, "int32", "uint8", "int4", "bool", "complex64"])
@pytest.mark.parametrize("values", ["small", "wide", "special"])
def test_arrays_have_their_dtype_and_shape(dtype: str, values: str) -> None:
    for array in some(gst.arrays(dtype, (2, 3), values), 20):
        assert isinstance(array, np.ndarray)
        assert (array.dtype, array.shape) == (jnp.dtype(dtype), (2, 3))
        assert jnp.asarray(array).dtype == jnp.dtype(dtype)


def test_arrays_are_empty_or_scalar_where_their_shape_says_so() -> None:
    assert simplest(gst.arrays(shape=(2, 0))).shape == (2, 0)
    assert simplest(gst.arrays(shape=3)).tolist() == [0, 0, 0]
    assert simplest(gst.arrays()).shape == ()


@pytest.mark.parametrize("dtype", FLOATS)
def test_small_values_are_finite_and_never_nearly_zero(dtype: str) -> None:
    values = np.concatenate(some(gst.arrays(dtype, 8), 50)).astype(np.float64)
    assert np.all(np.abs(values) <= 8)
    assert np.all((values == 0) | (np.abs(values) >= 2.0**-10))
    assert len(np.unique(values)) > 20


def test_small_values_use_all_digits_so_that_a_loss_of_precision_is_seen() -> None:
    values = np.concatenate(some(gst.arrays("float32", 8), 50))
    assert np.mean(values != values.astype(jnp.bfloat16).astype(np.float32)) > 0.2


def test_wide_values_reach_to_the_root_of_the_largest() -> None:
    for dtype in ("float32", "float16", "bfloat16"):
        values = np.abs(np.concatenate(some(gst.arrays(dtype, 8, "wide"), 100)).astype(np.float64))
        limit = float(np.sqrt(float(jnp.finfo(dtype).max)))
        assert limit / 100 < values.max() <= limit
    assert simplest(gst.arrays("int32", (), "wide"), lambda x: x > 10**6) == 10**6 + 1


def test_special_values_are_those_at_which_floats_end() -> None:
    values = np.concatenate(some(gst.arrays("float32", 8, "special"), 200))
    info = np.finfo(np.float32)
    assert np.isnan(values).any()
    for each in (0.0, 1.0, np.inf, -np.inf, info.max, info.tiny, info.eps, 1 + info.eps, 1 - info.eps / 2):
        assert np.float32(each) in values
    assert np.signbit(values[values == 0]).any()
    assert {-128, 127, 0, 1} <= set(np.concatenate(some(gst.arrays("int8", 8, "special"), 50)).tolist())


def is_subnormal(array: np.ndarray) -> bool:
    tiny = float(jnp.finfo(array.dtype).tiny)
    values = np.abs(array.astype(np.float64))
    return bool(np.any((values > 0) & (values < tiny)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("values", ["small", "wide", "special"])
def test_no_value_is_subnormal_where_devices_flush_these_to_zero(dtype: str, values: str) -> None:
    assert not any(map(is_subnormal, some(gst.arrays(dtype, 8, values), 100)))


def test_float16_has_subnormal_values() -> None:
    assert any(map(is_subnormal, some(gst.arrays("float16", 8, "special"), 100)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_bounds_are_moved_inward_to_numbers_of_the_dtype(dtype: str) -> None:
    values = np.concatenate(some(gst.arrays(dtype, 8, min_value=0.1, max_value=0.3), 50)).astype(np.float64)
    assert values.min() >= 0.1
    assert values.max() <= 0.3
    special = np.concatenate(some(gst.arrays(dtype, 8, "special", min_value=0.1, max_value=1.7), 50))
    assert special.astype(np.float64).min() >= 0.1
    assert special.astype(np.float64).max() <= 1.7
    assert 1 in special


def test_integers_have_bounds_too() -> None:
    assert set(np.concatenate(some(gst.arrays("uint8", 8, min_value=-2.5, max_value=1.5), 20)).tolist()) == {0, 1}
    assert simplest(gst.arrays("int32", (), min_value=2.1)) == 3


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("float32", 1.0, 0.0), ("int32", 0.2, 0.8), ("bfloat16", 1.001, 1.002)]
)
def test_bounds_with_nothing_between_them_are_an_error(dtype: str, low: float, high: float) -> None:
    with pytest.raises(
        StrategyError, match=rf"a number of dtype {dtype} between them, but min_value={low} and max_val"
    ):
        gst.arrays(dtype, min_value=low, max_value=high)


def test_another_word_for_values_is_an_error() -> None:
    with pytest.raises(StrategyError, match=r'takes "small", "wide" or "special" as `values`, but \'large\' came'):
        gst.arrays(values="large")  # type: ignore[arg-type]


def test_a_dtype_without_numbers_is_an_error() -> None:
    with pytest.raises(StrategyError, match=r"but the dtype key<fry> came\. For PRNG keys use `keys`"):
        gst.arrays(jax.random.key(0).dtype)


def test_a_large_array_repeats_what_was_drawn_for_it() -> None:
    drawn = some(gst.arrays("float32", (40, 50)), 20)
    assert all(array.shape == (40, 50) for array in drawn)
    assert max(len(np.unique(array)) for array in drawn) > 30
    assert not np.any(simplest(gst.arrays("float32", (40, 50))))


def test_dtypes_and_shapes_may_be_strategies() -> None:
    drawn = some(gst.arrays(gst.dtypes("fi"), gst.shapes()))
    assert len({array.dtype for array in drawn}) > 3
    assert len({array.shape for array in drawn}) > 5


def test_arrays_are_simple_after_shrinking() -> None:
    assert simplest(gst.arrays("float32", 2), lambda x: x[0] != x[1]).tolist() == [0.0, 1.0]
    assert simplest(gst.arrays("bfloat16", ()), lambda x: x > 2) == 3
    assert repr(simplest(gst.arrays("float32", 2), np.any)) == "array([0., 1.], dtype=float32)"


def test_keys_are_those_of_a_seed() -> None:
    assert jax.random.key_data(simplest(gst.keys())).tolist() == [0, 0]
    assert jax.random.key_impl(simplest(gst.keys(impl="rbg"))) == "rbg"
    stack = simplest(gst.keys(gst.shapes(2)))
    assert (
        jax.random.key_data(stack).tolist() == jax.random.key_data(jax.random.split(jax.random.key(0), (2, 2))).tolist()
    )
    assert len({int(jax.random.key_data(key)[1]) for key in some(gst.keys(), 20)}) > 10
