"""Many devices: the meshes that `pmap`, `shard_map` and shardings are for."""

from ._mesh import make_mesh

__all__ = ["make_mesh"]
