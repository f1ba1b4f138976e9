"""One short line for a value."""

import enum
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphstate.graph._summary import clip, summarize_static, summarize_value
from tests.graph.graphs import Pair


class Colour(enum.Enum):
    RED = 1


class Holder:
    def __init__(self):
        self.array = jnp.ones(2)

    def __repr__(self):
        raise AssertionError("never asked")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (jnp.ones((2, 3)), "f32[2,3]"),
        (jnp.ones((), jnp.bfloat16), "bf16[]"),
        (jnp.ones(1, jnp.uint8), "u8[1]"),
        (jnp.ones(1, bool), "bool[1]"),
        (jnp.ones(1, jnp.complex64), "c64[1]"),
        (jnp.ones(1, jnp.float8_e4m3fn), "f8_e4m3fn[1]"),
        (jax.random.key(0), "key<fry>[]"),
        (np.ones(2), "f64[2] numpy"),
        (jax.ShapeDtypeStruct((2,), jnp.int32), "i32[2]"),
        (3, "3"),
        (None, "None"),
        ((jnp.ones(1),), "(f32[1],)"),
        ([1, (2.5, True)], "[1, (2.5, True)]"),
        ({"a": jnp.ones(1), 3: {}}, "{'a': f32[1], 3: {}}"),
        (Pair(jnp.ones(1), 2), "Pair(f32[1], 2)"),
        ("text", "'text'"),
    ],
)
def test_values_are_shown_by_shape(value, text):
    assert summarize_value(value) == text


def test_a_tracer_and_a_deleted_array_say_so():
    seen = []
    jax.jit(lambda x: seen.append(summarize_value({"x": x})))(jnp.ones(2))
    assert seen == ["{'x': f32[2] traced}"]
    array = jnp.ones(2)
    array.delete()
    assert summarize_value(array) == "f32[2] deleted"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "1.5"),
        (..., "Ellipsis"),
        (Colour.RED, "Colour.RED"),
        (len, "len"),
        (int, "int"),
        (Holder, "Holder"),
        (jnp.tanh, "tanh"),
        (jnp.float32, "float32"),
        (jnp.dtype("float32"), "float32"),
        (np.float32(2), "np.float32(2.0)"),
        ((1, (len,)), "(1, (len,))"),
        (frozenset([1]), "frozenset({1})"),
        (pathlib.PurePosixPath("/"), "<PurePosixPath>"),
        (Holder(), "<Holder>"),
        ("x" * 100, "'" + "x" * 56 + "..."),
    ],
)
def test_static_values_are_shown_without_asking_them(value, text):
    assert summarize_static(value) == text


def test_clip_cuts_what_is_too_long():
    assert clip("abc", 3) == "abc"
    assert clip("abcdef", 5) == "ab..."
