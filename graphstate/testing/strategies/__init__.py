"""What hypothesis draws for tests of functions of arrays, Nodes and lanes: a file each.

    dtypes, shapes, arrays, keys     numbers
    pytrees, graphs, modules         what holds them
    axis_sizes, in_axes, out_axes    lanes
    state_axes, filters
    batched                          a BatchCase
    device_counts                    where lanes are

All is NumPy (but keys), is shown as code, and shrinks to what is simplest; what a program is compiled for is chosen
apart from the values (see `_structure`).
"""

from ._arrays import arrays
from ._axes import axis_sizes, in_axes, out_axes
from ._batched import batched
from ._device_counts import device_counts
from ._dtypes import dtypes
from ._filters import filters
from ._graphs import graph_of, graphs
from ._keys import keys
from ._modules import module_of, modules
from ._pytrees import pytrees
from ._shapes import shapes
from ._state_axes import state_axes

__all__ = [
    "arrays",
    "axis_sizes",
    "batched",
    "device_counts",
    "dtypes",
    "filters",
    "graph_of",
    "graphs",
    "in_axes",
    "keys",
    "module_of",
    "modules",
    "out_axes",
    "pytrees",
    "shapes",
    "state_axes",
]
