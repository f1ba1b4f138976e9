"""What a sampler is given, made ready for `jax.random`: sizes become shapes, parameters arrays of one dtype.

Nothing is left to implicit promotion, so that every sampler runs under strict dtype promotion and with rank
promotion an error: parameters are cast to the dtype of the draws and broadcast to their shape, scalars excepted.
A tuple is never a parameter: where one comes, a shape was meant.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from graphstate._trace import Cell
from graphstate.errors import AxisError, StateTypeError

from ._key import is_key

__all__ = [
    "Parameter",
    "Shape",
    "Size",
    "as_array",
    "as_dimensions",
    "as_integers",
    "as_shape",
    "broadcast",
    "broadcast_batches",
    "cast",
    "common_float",
    "common_shape",
    "dtype_of_kind",
    "exponential",
    "moved",
    "scaled",
]

Shape: TypeAlias = tuple[int, ...]
Size: TypeAlias = int | Sequence[int] | None
Parameter: TypeAlias = ArrayLike | list[Any]


# Sizes


def as_shape(size: Size, name: str = "size") -> Shape:
    """The shape that `size` says: None is a scalar, an int one axis.

    Raises:
        StateTypeError: `size` is neither an int nor made of ints, or one is negative.
    """
    if size is None:
        return ()
    try:
        shape = _indices(size)
    except TypeError:
        shape = (-1,)
    if any(length < 0 for length in shape):
        raise StateTypeError(
            f"`{name}` is an int or a tuple of ints, none negative, known when JAX traces, but got {str(size)[:60]}. "
            "A size that depends on data has to be fixed before the draw, or be a static argument of the transform."
        )
    return shape


def _indices(size: Any) -> Shape:
    if isinstance(size, Iterable) and np.ndim(size):  # type: ignore[arg-type]  # an array of ints has an ndim
        return tuple(map(operator.index, size))
    return (operator.index(size),)


def as_dimensions(sampler: str, dimensions: Sequence[Any]) -> Shape:
    """The shape that the positional arguments of `rand` and `randn` say."""
    if any(np.ndim(length) for length in dimensions):
        instead = {"rand": "uniform", "randn": "normal"}[sampler]
        raise StateTypeError(
            f"`{sampler}` takes dimensions, as in `{sampler}(2, 3)`, but got {', '.join(map(str, dimensions))[:60]}. "
            f"A shape goes into `{instead}(size=...)`."
        )
    return as_shape(dimensions, f"{sampler}(...)")


def common_shape(size: Size, shapes: dict[str, Shape]) -> Shape:
    """The shape of the draws: `size`, or that of the parameters broadcast together.

    Raises:
        AxisError: the parameters cannot be broadcast to that shape.
    """
    shape = None if size is None else as_shape(size)
    if not any(shapes.values()):
        return shape or ()
    try:
        parameters = np.broadcast_shapes(*shapes.values())
        if shape is None or np.broadcast_shapes(shape, parameters) == shape:
            return parameters if shape is None else shape
    except ValueError:
        pass
    shown = ", ".join(f"{name}: {each}" for name, each in shapes.items())
    raise AxisError(
        f"The parameters of a draw have to broadcast to its shape{'' if shape is None else f', size={shape}'}, "
        f"but their shapes are {shown}. `size` is the shape of the whole result, the axes of the parameters included."
    )


# Parameters


def broadcast(size: Size, dtype: DTypeLike | None, **parameters: Parameter) -> tuple[Shape, dict[str, Any]]:
    """The shape of the draws, and each parameter in `dtype`: a scalar (of NumPy, if not traced), or of that shape."""
    wanted = _float_dtype(dtype)
    arrays = {name: _in_dtype(name, value, wanted) for name, value in parameters.items()}
    shape = common_shape(size, {name: array.shape for name, array in arrays.items()})
    return shape, {name: jnp.broadcast_to(array, shape) if array.ndim else array for name, array in arrays.items()}


def broadcast_batches(
    size: Size, dtype: DTypeLike | None, **parameters: tuple[Parameter, int]
) -> tuple[Shape, dict[str, Any]]:
    """As `broadcast` for parameters whose last axes, as many as stand beside them, belong to one draw.

    The arrays keep their shapes: what a parameter needs once for the whole batch is computed once.
    """
    wanted = _float_dtype(dtype)
    arrays = {name: _in_dtype(name, value, wanted) for name, (value, _) in parameters.items()}
    for name, (_, rank) in parameters.items():
        if arrays[name].ndim < rank:
            raise AxisError(
                f"`{name}` needs {rank} {'axis' if rank == 1 else 'axes'} for one draw, and more for a batch, "
                f"but its shape is {arrays[name].shape}. How many draws are made is said by `size=`."
            )
    batches = {name: arrays[name].shape[: arrays[name].ndim - rank] for name, (_, rank) in parameters.items()}
    return common_shape(size, batches), arrays


def as_array(name: str, value: Any) -> Any:
    """`value` as a NumPy array (numbers) or a JAX array (lists), or as the array that it is.

    Raises:
        StateTypeError: `value` is a tuple, a key, a State, or no number at all.
    """
    if isinstance(value, bool | int | float | complex):
        return np.asarray(value)
    if isinstance(value, list):
        return jnp.asarray(value)
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        raise StateTypeError(
            f"`{name}` is a number or an array, but got {str(value)[:60]} of type {type(value).__name__}. "
            f"{_way_out(value)}"
        )
    if is_key(value):
        raise StateTypeError(
            f"`{name}` is a number or an array, but got a key. "
            "A key goes into `key=`: it is no positional argument here."
        )
    return value


def _way_out(value: Any) -> str:
    if isinstance(value, tuple):
        return f"A shape goes into `size={value}`; several parameters are an array, `jnp.array({list(value)})`."[:200]
    if isinstance(value, Cell):
        return "Take its `.value`."
    return "Convert it with `jnp.asarray`."


def as_integers(name: str, value: Any) -> Any:
    """`value` as an array of integers; a Python int stays one, so that JAX reports an overflow.

    Raises:
        StateTypeError: `value` is not made of integers.
    """
    array = as_array(name, value)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise StateTypeError(
            f"`{name}` is made of integers, but got {array.dtype}{list(array.shape)}. "
            "Round it, and cast it with `.astype(int)`."
        )
    return value if isinstance(value, int) else array


def _in_dtype(name: str, value: Parameter, dtype: Any) -> Any:
    if isinstance(value, int | float):
        return np.asarray(value, dtype)
    array = as_array(name, value)
    if jnp.issubdtype(array.dtype, jnp.complexfloating) and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise StateTypeError(
            f"`{name}` is complex, but the draws are {dtype}. "
            "Take its real part, or give `dtype=complex` to a sampler that draws complex numbers."
        )
    return array.astype(dtype)


def _float_dtype(dtype: DTypeLike | None) -> Any:
    # Canonical, so that float64 is float32 where x64 is off: JAX, which gets `dtype` as it is, warns of that.
    wanted = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
    if not jnp.issubdtype(wanted, jnp.inexact):
        raise StateTypeError(
            f"This sampler draws floats, but `dtype` is {wanted}. Round the draws, and cast them with `.astype`."
        )
    return wanted


def common_float(*parameters: Parameter) -> Any:
    """The float dtype that the arrays among `parameters` have in common; JAX's default where they have none."""
    arrays = [array for array in parameters if isinstance(array, jax.Array | np.ndarray | np.generic)]
    dtypes = {
        jax.dtypes.canonicalize_dtype(array.dtype) for array in arrays if jnp.issubdtype(array.dtype, jnp.floating)
    }
    return dtypes.pop() if len(dtypes) == 1 else jax.dtypes.canonicalize_dtype(float)


def dtype_of_kind(kind: Any, dtype: DTypeLike | None) -> DTypeLike | None:
    """`dtype` where `jax.random` draws it, that is where it is of `kind`; the draws are cast to another one."""
    return dtype if dtype is not None and jnp.issubdtype(jax.dtypes.canonicalize_dtype(dtype), kind) else None


# Draws


def scaled(draws: jax.Array, scale: Any) -> jax.Array:
    """`scale * draws`."""
    return draws if _is(scale, 1) else scale * draws


def moved(draws: jax.Array, loc: Any, scale: Any) -> jax.Array:
    """`loc + scale * draws`; draws of the standard distribution keep every bit."""
    draws = scaled(draws, scale)
    return draws if _is(loc, 0) else loc + draws


def exponential(parameter: Any) -> Any:
    """The exponential of a parameter, known where the parameter is."""
    return np.exp(parameter) if _is_known(parameter) else jnp.exp(parameter)


def _is(parameter: Any, number: int) -> bool:
    return _is_known(parameter) and bool(parameter == number)


def _is_known(parameter: Any) -> bool:
    return isinstance(parameter, np.ndarray | np.generic) and parameter.ndim == 0


def cast(draws: jax.Array, dtype: DTypeLike | None) -> jax.Array:
    """`draws` in `dtype`, where one was given."""
    return draws if dtype is None else draws.astype(dtype)
