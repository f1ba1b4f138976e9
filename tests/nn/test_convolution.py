"""Convolutions: shapes, padding and what they refuse, beside their numbers in `test_references.py`."""

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

from graphstate import nn
from graphstate.random import RandomState

pytestmark = pytest.mark.no_leak_check(reason="runs very many eager operations")

X = jax.random.normal(jax.random.key(0), (7, 2))


def test_a_kernel_of_one_place_is_a_linear_layer() -> None:
    conv = nn.Conv1d(2, 3, 1, rng=RandomState(0))
    assert_allclose(conv(X), X @ conv.weight.value[0], rtol=1e-5, atol=1e-6)


def test_each_group_sees_its_channels_only() -> None:
    conv = nn.Conv1d(2, 4, 3, groups=2, rng=RandomState(0))
    changed = conv(X.at[:, 1].set(0)) != conv(X)
    assert not changed[:, :2].any()
    assert changed[:, 2:].all()


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({}, 5),
        ({"padding": "VALID", "stride": 2}, 3),
        ({"padding": "same", "stride": 2}, 4),
        ({"padding": "SAME", "dilation": 3}, 7),
        ({"padding": [(2, 0)]}, 7),
        ({"padding": (1,)}, 7),
        ({"dilation": 3}, 1),
    ],
)
def test_padding_stride_and_dilation_give_the_number_of_places(options: dict[str, object], places: int) -> None:
    assert nn.Conv1d(2, 1, 3, **options)(X).shape == (places, 1)


def test_padding_before_only_makes_a_convolution_causal() -> None:
    conv = nn.Conv1d(2, 1, 3, padding=[(2, 0)], rng=RandomState(0))
    assert_allclose(conv(X.at[4:].set(0))[:4], conv(X)[:4], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("padding", "places"), [("SAME", 21), ("VALID", 21), (0, 21)])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_transpose_with_same_padding_has_a_stride_of_places_for_each_input(
    padding: object, places: int, size: int
) -> None:
    conv = nn.ConvTranspose1d(2, 1, size, stride=3, padding=padding)
    assert conv(X).shape[0] == (places if padding == "SAME" else 6 * 3 + size)


def test_the_transpose_is_the_gradient_of_the_convolution() -> None:
    conv = nn.Conv1d(2, 3, 3, stride=2, padding="SAME", use_bias=False, rng=RandomState(0))
    transposed = nn.ConvTranspose1d(3, 2, 3, stride=2, padding="SAME", use_bias=False)
    transposed.weight.value = conv.weight.value.swapaxes(1, 2)
    x = X[:6]
    y, pull = jax.vjp(lambda x: conv(x), x)
    assert_allclose(transposed(y), pull(y)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 3), (2,), ()])
def test_another_number_of_channels_or_axes_is_an_error(shape: tuple[int, ...]) -> None:
    match = r"Conv1d takes activations of shape \(\.\.\., width, 2\), but got .*Channels come last, "
    with pytest.raises(nn.ShapeError, match=match):
        nn.Conv1d(2, 1, 3)(jnp.ones(shape))


def test_images_without_room_for_the_kernel_are_an_error() -> None:
    match = r"Conv2d takes activations of shape \(\.\.\., height, width, 2\) with at least 3, 1 places, but got "
    with pytest.raises(nn.ShapeError, match=match):
        nn.Conv2d(2, 1, 3, padding=(0, 1))(jnp.ones((2, 3, 2)))
    with pytest.raises(nn.ShapeError, match=r"ConvTranspose1d takes .* with at least 2 places, but got float32\[1,2\]"):
        nn.ConvTranspose1d(2, 1, 2, padding=1)(jnp.ones((1, 2)))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"groups": 3}, r"Conv1d splits in_features=2 into equal parts, but groups=3 does not divide it"),
        ({"stride": 0}, r"Conv1d needs a positive whole number as `stride`, but got 0"),
        ({"stride": (1, 2)}, r"Conv1d needs 1 numbers as `stride`, one an axis, or one for all, but got \(1, 2\)"),
        ({"padding": "FULL"}, r"Conv1d needs as `padding` 'SAME', 'VALID', .* 1 numbers or pairs .* but got 'FULL'"),
        ({"padding": (1, 2)}, r"Conv1d needs as `padding` 'SAME', .* but got \(1, 2\)"),
        ({"padding": [(1, 2, 3)]}, r"Conv1d needs as `padding` 'SAME', .* but got \[\(1, 2, 3\)\]"),
        ({"padding": -1}, r"Conv1d needs a whole number from 0 on as `padding`, but got -1"),
        ({"padding_mode": "mirror"}, r"needs as `padding_mode` one of 'zeros', 'reflect', .*, but got 'mirror'"),
    ],
)
def test_wrong_options_are_an_error(options: dict[str, object], match: str) -> None:
    with pytest.raises(nn.RangeError, match=match):
        nn.Conv1d(2, 4, 3, **options)


def test_a_transpose_has_no_padding_mode() -> None:
    with pytest.raises(nn.RangeError, match=r"ConvTranspose1d pads its output, .* it takes no `padding_mode`"):
        nn.ConvTranspose1d(2, 2, 3, padding_mode="reflect")


def test_a_stack_of_them_is_called_in_a_map() -> None:
    conv = nn.Conv1d(2, 1, 3)
    conv.weight.value = jnp.stack([conv.weight.value] * 2)
    with pytest.raises(nn.ShapeError, match=r"Conv1d needs a weight of shape \(3, 2, 1\), but it is float32"):
        conv(X)
