"""Checksums of arrays that do not depend on how these are spread over devices and processes.

Storage finds a file that is missing or cut off; a byte that has changed in compressed data it hands on as other
numbers. The sum of the bit patterns of all elements, modulo 2**32, tells: it can be taken of any division of an array,
piece by piece.
"""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

__all__ = ["partial_sums"]


def partial_sums(arrays: Iterable[Any]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """For each array the sum over what this process has of it.

    Of an array that is spread over processes each process sums up its own part; every other one is summed up whole.
    """
    return np.array([_partial(array) for array in arrays], np.uint32)


def _partial(array: Any) -> int:
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return _sum(np.asarray(array))
    parts = (_sum(np.asarray(shard.data)) for shard in array.addressable_shards if shard.replica_id == 0)
    return sum(parts) % 2**32


def _sum(array: Any) -> int:
    words = np.ascontiguousarray(array).reshape(-1).view(f"u{min(array.dtype.itemsize, 4)}")
    return int(np.sum(words, dtype=np.uint32))
