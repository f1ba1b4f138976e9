"""Many devices and many processes: meshes, what lies where on them, and steps whose batch is divided."""

from ._data_parallel import data_parallel
from ._initialize import initialize
from ._mesh import make_mesh
from ._placing import place, replicate, shard

__all__ = ["data_parallel", "initialize", "make_mesh", "place", "replicate", "shard"]
