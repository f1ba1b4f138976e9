"""Graphs to save, and what a value is, bit by bit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import graphstate as gs


def bits(value):
    """All that can be told of the arrays of a value: type, shape, dtype, bytes, weak type and place."""
    return [_bits(leaf) for leaf in jax.tree.leaves(value)]


def _bits(leaf):
    if not isinstance(leaf, jax.Array):
        return (type(leaf), leaf.shape, str(leaf.dtype), leaf.tobytes()) if hasattr(leaf, "dtype") else repr(leaf)
    data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    place = (leaf.committed, leaf.sharding if leaf.committed else None)
    return "jax", leaf.shape, str(leaf.dtype), np.asarray(data).tobytes(), bool(leaf.aval.weak_type), *place


def all_bits(node):
    """The bits of all values of a graph by path."""
    return {path: bits(cell.value) for path, cell in gs.states(node).items()}


def mesh(size: int) -> Mesh:
    return jax.make_mesh((size,), ("x",), axis_types=(AxisType.Auto,), devices=jax.devices()[:size])


def spread(array, size: int, *spec):
    return jax.device_put(array, NamedSharding(mesh(size), P(*spec)))


def array(seed: int, *shape: int, dtype: str = "float32"):
    """Numbers that another seed changes."""
    return np.arange(seed, seed + int(np.prod(shape))).reshape(shape).astype(jnp.dtype(dtype))


class Pair(NamedTuple):
    left: object
    right: object


def tied(seed: int) -> gs.Node:
    """A State at two paths and in a list, and a cycle."""
    node = gs.Node()
    node.a = gs.ParamState(jnp.asarray(array(seed, 2)))
    node.b = node.a
    node.inner = gs.Node()
    node.inner.up = node
    node.inner.listed = [node.a, gs.State(jnp.asarray(array(seed, 1)))]
    return node
