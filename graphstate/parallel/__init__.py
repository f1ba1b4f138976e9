"""Many devices and many processes: meshes, what lies where on them, and steps whose batch is divided."""

from ._building import abstract, init_sharded
from ._data_parallel import data_parallel
from ._initialize import initialize
from ._mesh import make_mesh
from ._placing import place, replicate, shard

__all__ = ["abstract", "data_parallel", "init_sharded", "initialize", "make_mesh", "place", "replicate", "shard"]
