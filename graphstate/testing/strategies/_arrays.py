"""`arrays`: NumPy arrays of every dtype of JAX, with values that JAX computes with as NumPy does.

XLA flushes subnormal numbers to zero on most devices, but not always, so that they are drawn for float16 alone.
Hypothesis knows floats of 16, 32 and 64 bits: all others are drawn as float32 and rounded. A bound is moved inward to
the next number that the dtype has.
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax.typing import DTypeLike

from graphstate.errors import StrategyError

from ._dtypes import is_float

__all__ = ["Shape", "Values", "arrays", "drawn"]

Values = Literal["small", "wide", "special"]
Shape = int | tuple[int, ...]
_DRAWN_ONE_BY_ONE = 64
_FINEST = 2.0**-10  # small values are 0 or at least this, so that products of a few of them are no subnormals


def drawn(draw: st.DrawFn, value: Any) -> Any:
    """What a strategy draws; anything else as it is."""
    return draw(value) if isinstance(value, st.SearchStrategy) else value


@st.composite
def _arrays(
    draw: st.DrawFn, dtype: Any, shape: Any, values: Values, low: float | None, high: float | None
) -> np.ndarray:
    dtype, shape = jnp.dtype(drawn(draw, dtype)), drawn(draw, shape)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    size, elements = math.prod(shape), _elements(dtype, values, low, high)
    few = draw(st.lists(elements, min_size=min(size, _DRAWN_ONE_BY_ONE), max_size=min(size, _DRAWN_ONE_BY_ONE)))
    array = np.array(few, np.float32 if _is_rounded(dtype) else dtype).astype(dtype)
    if size > len(few):  # a large array repeats its first numbers in an order of its own
        rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        array = np.concatenate([array, rng.choice(array, size - len(few))])
    return array.reshape(shape)


def arrays(
    dtype: DTypeLike | st.SearchStrategy[Any] = "float32",
    shape: Shape | st.SearchStrategy[Any] = (),
    values: Values = "small",
    *,
    min_value: float | None = None,
    max_value: float | None = None,
) -> st.SearchStrategy[np.ndarray]:
    """Draws NumPy arrays.

    Args:
        dtype: a dtype that JAX has, or a strategy for one.
        shape: the shape, an int for one axis, or a strategy for these.
        values: "small": numbers up to 8, none of which is nearly 0; "wide": up to the square root of the largest
            (all integers); "special": signed zeros, infinities, NaN, and the largest, smallest and next to 1, too.
        min_value: no number is less; rounded up to one that the dtype has. Not for bool and complex.
        max_value: no number is greater; rounded down.

    Raises:
        StrategyError: `values` is none of these, or there is no number between the bounds.

    Example:
        >>> import graphstate.testing as gst, hypothesis
        >>> x = hypothesis.find(gst.arrays("bfloat16", 2), lambda x: x[0] > 1)
        >>> x.shape, x.dtype
        ((2,), dtype(bfloat16))
    """
    if values not in ("small", "wide", "special"):
        raise StrategyError(
            f'`arrays` takes "small", "wide" or "special" as `values`, but {values!r} came. '
            "To bound the numbers, give `min_value` and `max_value`."
        )
    if not isinstance(dtype, st.SearchStrategy):
        if jnp.issubdtype(dtype, jax.dtypes.extended):
            raise StrategyError(_no_numbers(dtype))
        _elements(jnp.dtype(dtype), values, min_value, max_value)
    return _arrays(dtype, shape, values, min_value, max_value)


def _elements(dtype: np.dtype, values: Values, low: float | None, high: float | None) -> st.SearchStrategy[Any]:
    if dtype.kind == "b":
        return st.booleans()
    if jnp.issubdtype(dtype, jnp.complexfloating):
        part = _elements(np.dtype(f"float{dtype.itemsize * 4}"), values, None, None)
        return st.builds(complex, part, part)
    if is_float(dtype):
        return _floats(dtype, values, low, high)
    if jnp.issubdtype(dtype, jnp.integer):
        return _integers(dtype, values, low, high)
    raise StrategyError(_no_numbers(dtype))


def _no_numbers(dtype: Any) -> str:
    return (
        f"`arrays` draws bools, integers, floats and complex numbers, but the dtype {dtype} came. "
        "For PRNG keys use `keys`."
    )


def _integers(dtype: np.dtype, values: Values, low: float | None, high: float | None) -> st.SearchStrategy[int]:
    info = jnp.iinfo(dtype)  # type: ignore[no-untyped-call]  # JAX leaves it so
    least, largest = int(info.min), int(info.max)
    span = (-8, 8) if values == "small" and low is None and high is None else (least, largest)
    first = max(span[0], least, least if low is None else math.ceil(low))
    last = min(span[1], largest, largest if high is None else math.floor(high))
    _check_bounds(first, last, dtype, low, high)
    numbers = st.integers(first, last)
    if values != "special":
        return numbers
    return numbers | st.sampled_from(sorted({first, last, min(max(0, first), last), min(max(1, first), last)}))


def _floats(dtype: np.dtype, values: Values, low: float | None, high: float | None) -> st.SearchStrategy[float]:
    info = jnp.finfo(dtype)  # type: ignore[no-untyped-call]  # JAX leaves it so
    free = low is None and high is None
    reach = 8.0 if values == "small" and free else float(np.sqrt(np.float64(info.max)))
    first = _inward(-reach if low is None else low, dtype, np.inf)
    last = _inward(reach if high is None else high, dtype, -np.inf)
    _check_bounds(first, last, dtype, low, high)
    width = 32 if _is_rounded(dtype) else dtype.itemsize * 8
    subnormal = None if dtype == np.float16 and not (values == "small" and free) else False
    numbers = st.floats(
        first,
        last,
        allow_nan=False,
        allow_infinity=False,
        allow_subnormal=subnormal,
        width=width,  # type: ignore[arg-type]
    )
    if values == "small" and free:
        return numbers.map(lambda number: number if abs(number) >= _FINEST else 0.0)
    if values != "special":
        return numbers
    one, step = 1.0, float(info.eps)
    far = [float(info.max), float(info.tiny), step, one + step, one - step / 2]
    if np.isinf(np.asarray(math.inf).astype(dtype)):
        far.append(math.inf)
    if subnormal is None:
        far.append(float(info.smallest_subnormal))
    within = [number for each in (0.0, one, *far) for number in (each, -each) if free or first <= number <= last]
    return numbers | st.sampled_from([*within, math.nan] if free else within or [first])


def _is_rounded(dtype: np.dtype) -> bool:
    """Whether hypothesis has no floats of this dtype."""
    return is_float(dtype) and dtype not in (np.float16, np.float32, np.float64)


def _inward(bound: float, dtype: np.dtype, inside: float) -> float:
    """The number of the dtype that is nearest to `bound`, on its side towards `inside`."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(bound).astype(dtype)
    if not np.isfinite(rounded) or (float(rounded) < bound if inside > 0 else float(rounded) > bound):
        rounded = np.nextafter(rounded, _largest(dtype) * np.sign(inside).astype(dtype))
    return float(rounded)


def _largest(dtype: np.dtype) -> Any:
    return jnp.finfo(dtype).max  # type: ignore[no-untyped-call]  # JAX leaves it so


def _check_bounds(first: float, last: float, dtype: np.dtype, low: float | None, high: float | None) -> None:
    if not first <= last:
        raise StrategyError(
            f"`arrays` needs bounds with a number of dtype {dtype} between them, but min_value={low} and "
            f"max_value={high} came. Move them apart, or take another dtype."
        )
