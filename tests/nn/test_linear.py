"""`Linear` against the formula written with jnp."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.typing import DTypeLike
from numpy.testing import assert_allclose, assert_array_equal

import graphstate as gs
from graphstate import nn
from graphstate.graph import ParamState, graphdef, states
from graphstate.random import RandomState

SEED = 7


def make(in_features: int = 3, out_features: int = 2, **options: object) -> nn.Linear:
    return nn.Linear(in_features, out_features, rng=RandomState(SEED), **options)


@pytest.mark.parametrize("leading", [(), (4,), (5, 4), (0,)])
def test_any_leading_axes_are_mapped_alike(leading: tuple[int, ...]) -> None:
    layer = make()
    layer.bias.value = jnp.array([1.0, -1.0])
    x = jax.random.normal(jax.random.key(0), (*leading, 3))
    expected = np.asarray(x) @ np.asarray(layer.weight.value) + np.asarray(layer.bias.value)
    assert layer(x).shape == (*leading, 2)
    assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_parameters_are_param_states_named_weight_and_bias() -> None:
    layer = make()
    assert list(states(layer, ParamState)) == [("bias",), ("weight",)]
    assert (layer.weight.value.shape, layer.bias.value.shape) == ((3, 2), (2,))


def test_without_bias_the_output_is_the_product() -> None:
    layer = make(use_bias=False)
    x = jnp.ones((4, 3))
    assert layer.bias is None
    assert_allclose(layer(x), x @ layer.weight.value, rtol=1e-6)


def test_the_weight_is_lecun_normal_and_the_bias_zero_unless_told_otherwise() -> None:
    layer = make(100, 50)
    assert abs(float(layer.weight.value.std()) - 0.1) < 0.01
    assert not layer.bias.value.any()


def test_initialisers_get_a_key_the_shape_and_the_parameters_dtype() -> None:
    layer = make(weight_init=nn.initializers.ones, bias_init=nn.initializers.constant(0.5), param_dtype=jnp.bfloat16)
    assert_array_equal(layer.weight.value, jnp.ones((3, 2), jnp.bfloat16))
    assert_array_equal(layer.bias.value, jnp.full(2, 0.5, jnp.bfloat16))


def test_initialisers_are_no_part_of_the_structure() -> None:
    assert graphdef(make(weight_init=nn.initializers.he_normal())) == graphdef(
        make(weight_init=nn.initializers.he_normal())
    )


def test_equal_seeds_give_equal_layers_and_one_rng_gives_different_ones() -> None:
    rng = RandomState(SEED)
    first, second = nn.Linear(3, 2, rng=rng), nn.Linear(3, 2, rng=rng)
    assert_array_equal(first.weight.value, make().weight.value)
    assert (first.weight.value != second.weight.value).any()


@pytest.mark.parametrize(
    ("x_dtype", "param_dtype", "dtype", "expected"),
    [
        (jnp.float32, jnp.float32, None, jnp.float32),
        (jnp.bfloat16, jnp.float32, None, jnp.float32),
        (jnp.bfloat16, jnp.bfloat16, None, jnp.bfloat16),
        (jnp.float16, jnp.bfloat16, None, jnp.float32),
        (jnp.complex64, jnp.float32, None, jnp.complex64),
        (jnp.float32, jnp.int32, None, jnp.float32),
        (jnp.float32, jnp.float32, jnp.bfloat16, jnp.bfloat16),
        (jnp.float32, jnp.float32, "float16", jnp.float16),
    ],
)
def test_it_computes_in_the_common_float_dtype_or_in_the_one_given(
    x_dtype: DTypeLike, param_dtype: DTypeLike, dtype: DTypeLike | None, expected: DTypeLike
) -> None:
    layer = make(param_dtype=param_dtype, dtype=dtype, weight_init=nn.initializers.ones)
    assert layer(jnp.ones((4, 3), x_dtype)).dtype == expected


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_it_is_one_product_and_one_sum_where_dtypes_agree(leading: tuple[int, ...]) -> None:
    layer, x = nn.Linear(4, 2), jnp.ones((*leading, 4))
    weight, bias = layer.weight.value, layer.bias.value
    with jax.numpy_rank_promotion("allow"):
        given, by_hand = gs.make_jaxpr(layer)(x), gs.make_jaxpr(lambda x: x @ weight + bias)(x)
    assert [eqn.primitive for eqn in given.eqns] == [eqn.primitive for eqn in by_hand.eqns]


def test_lists_and_numpy_arrays_are_taken_too() -> None:
    layer = make()
    assert_array_equal(layer([1.0, 2.0, 3.0]), layer(np.array([1, 2, 3], np.float32)))


@pytest.mark.parametrize("shape", [(), (4,), (3, 4)])
def test_a_last_axis_of_another_size_is_an_error_with_both_shapes(shape: tuple[int, ...]) -> None:
    match = r"Linear takes activations of shape \(\.\.\., 3\), but got float32\[[\d,]*\]\. Move the features"
    with pytest.raises(nn.ShapeError, match=match):
        make()(jnp.ones(shape))


def test_a_stack_of_layers_called_outside_of_a_map_is_an_error() -> None:
    layer = make()
    layer.weight.value = jnp.stack([layer.weight.value] * 2)
    with pytest.raises(
        nn.ShapeError, match=r"weight of shape \(3, 2\), but it is float32\[2,3,2\]\. Call a stack .* inside"
    ):
        layer(jnp.ones(3))


def test_a_key_as_input_is_an_error() -> None:
    with pytest.raises(nn.DtypeError, match=r"Linear takes floats, but got key<fry>\[3\]\. Draw"):
        make()(jax.random.split(jax.random.key(0), 3))


@pytest.mark.parametrize("size", [0, -1, 2.0, "3", True, None])
def test_a_size_that_is_no_positive_whole_number_is_an_error(size: object) -> None:
    with pytest.raises(nn.RangeError, match=r"a positive whole number as `out_features`, but got .*Sizes come first"):
        make(3, size)


def test_numpy_integers_are_sizes() -> None:
    assert make(np.int64(3), np.uint8(2)).weight.value.shape == (3, 2)


def test_a_mapped_constructor_makes_the_layers_that_a_loop_makes() -> None:
    keys = jax.random.split(jax.random.key(0), 4)
    stacked = gs.vmap(lambda key: nn.Linear(3, 2, rng=RandomState(key)))(keys)
    alone = [nn.Linear(3, 2, rng=RandomState(key)) for key in keys]
    assert_allclose(stacked.weight.value, jnp.stack([layer.weight.value for layer in alone]), rtol=1e-5)
    x, expected = jnp.ones((5, 3)), jnp.stack([layer(jnp.ones((5, 3))) for layer in alone])
    assert_allclose(gs.vmap(lambda layer: layer(x))(stacked), expected, rtol=1e-5, atol=1e-6)


def test_layers_made_in_lanes_from_the_default_stream_differ() -> None:
    weights = gs.vmap(lambda: nn.Linear(3, 2), axis_size=4)().weight.value
    assert len({weight.tobytes() for weight in np.asarray(weights)}) == 4
