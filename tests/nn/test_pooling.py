"""Pools: windows, dtypes and what they refuse, beside their numbers in `test_references.py`."""

import jax.numpy as jnp
import pytest
from numpy.testing import assert_array_equal

from graphstate import nn

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

X = jnp.array([[3.0], [1.0], [2.0], [5.0], [4.0]])


def test_windows_stand_side_by_side_unless_told_otherwise() -> None:
    assert_array_equal(nn.MaxPool1d(2)(X).ravel(), jnp.array([3.0, 5.0]))
    assert_array_equal(nn.MaxPool1d(2, stride=1)(X).ravel(), jnp.array([3.0, 2.0, 5.0, 5.0]))


def test_padding_is_never_the_largest_and_counts_as_zero_in_a_mean() -> None:
    assert_array_equal(nn.MaxPool1d(2, padding=1)(-X).ravel(), jnp.array([-3.0, -1.0, -4.0]))
    assert_array_equal(nn.AvgPool1d(2, padding=1)(X).ravel(), jnp.array([1.5, 1.5, 4.5]))
    assert_array_equal(nn.MaxPool1d(2, padding="SAME")(X).ravel(), jnp.array([3.0, 5.0, 4.0]))


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.bfloat16])
def test_the_largest_keeps_the_dtype(dtype: object) -> None:
    y = nn.MaxPool1d(2)(X.astype(dtype))
    assert (y.dtype, y.ravel().tolist()) == (dtype, [3, 5])
    assert nn.AdaptiveMaxPool1d(1)(X.astype(dtype)).dtype == dtype


def test_the_largest_of_booleans_is_whether_there_is_one() -> None:
    assert nn.MaxPool1d(2)(X > 4).ravel().tolist() == [False, True]
    assert nn.AdaptiveMaxPool1d(2)(X > 4).ravel().tolist() == [False, True]
    for pool in (nn.MaxPool1d(2), nn.AdaptiveMaxPool1d(2)):
        with pytest.raises(nn.DtypeError, match=r"MaxPool1d looks for the largest, .* booleans, but got complex6"):
            pool(X.astype(complex))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_mean_of_many_narrow_floats_neither_stalls_nor_overflows(dtype: object) -> None:
    y = nn.AvgPool1d(1024)(jnp.full((1024, 1), 100, dtype))
    assert (y.dtype, y.item()) == (dtype, 100)


def test_a_mean_of_whole_numbers_is_an_error() -> None:
    with pytest.raises(nn.DtypeError, match=r"AvgPool1d takes floats, but got int32\[5,1\]"):
        nn.AvgPool1d(2)(X.astype(int))
    with pytest.raises(nn.DtypeError, match=r"AdaptiveAvgPool1d takes floats, but got int32"):
        nn.AdaptiveAvgPool1d(2)(X.astype(int))


def test_adaptive_windows_cover_every_place() -> None:
    assert_array_equal(nn.AdaptiveMaxPool1d(2)(X).ravel(), jnp.array([3.0, 5.0]))
    assert_array_equal(nn.AdaptiveAvgPool1d(7)(X).ravel()[:2], jnp.array([3.0, 2.0]))


def test_an_input_without_room_for_a_window_is_an_error() -> None:
    match = r"MaxPool1d takes activations of shape \(\.\.\., width, channels\) with at least 6 places, but got "
    with pytest.raises(nn.ShapeError, match=match):
        nn.MaxPool1d(6)(X)
    with pytest.raises(nn.ShapeError, match=r"AvgPool2d takes activations of shape \(\.\.\., height, width, channels"):
        nn.AvgPool2d(2)(X)
    with pytest.raises(nn.ShapeError, match=r"AdaptiveAvgPool1d takes .* with at least 1 places, but got "):
        nn.AdaptiveAvgPool1d(2)(X[:0])


@pytest.mark.parametrize("padding", [2, ((0, 2),)])
def test_no_window_holds_padding_alone(padding: object) -> None:
    with pytest.raises(nn.RangeError, match=r"MaxPool1d needs less padding than its window .* for window=2\. Pad"):
        nn.MaxPool1d(2, padding=padding)


def test_sizes_are_positive() -> None:
    with pytest.raises(nn.RangeError, match=r"MaxPool2d needs 2 numbers as `window`, .* but got \(1, 2, 3\)"):
        nn.MaxPool2d((1, 2, 3))
    with pytest.raises(nn.RangeError, match=r"AdaptiveMaxPool1d needs a positive whole number as `output_size`"):
        nn.AdaptiveMaxPool1d(0)
