"""The store: directories that Orbax writes and reads. Nothing else knows Orbax, which takes a while to import.

    path/v3/state       the arrays
    path/v3/graph       the manifest

A checkpoint is saved anew as the next version, and the version before is deleted once that stands: whatever moment a
save is cut off at, one whole version is there. Orbax writes under another name (`v3.orbax-checkpoint-tmp`), and renames
what is complete.
"""

from ._directory import as_path, remove_checkpoint, steps_in
from ._reading import read_arrays, read_manifest, unreadable
from ._writing import Saving, start

__all__ = [
    "Saving",
    "as_path",
    "read_arrays",
    "read_manifest",
    "remove_checkpoint",
    "start",
    "steps_in",
    "unreadable",
]
