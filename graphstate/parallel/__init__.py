"""Many devices: meshes, and what lies where on them."""

from ._mesh import make_mesh
from ._placing import place, replicate, shard

__all__ = ["make_mesh", "place", "replicate", "shard"]
