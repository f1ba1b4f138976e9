"""What `graphstate.checkpoint` offers."""

import sys

import jax.numpy as jnp
import pytest

import graphstate as gs
import graphstate.checkpoint
from graphstate.errors import MissingPackageError

NAMES = ["Checkpoints", "restore", "save"]


def test_the_door_shows_these_names():
    assert graphstate.checkpoint.__all__ == NAMES == sorted(NAMES)
    for name in NAMES:
        assert getattr(graphstate.checkpoint, name).__doc__


def test_the_module_is_the_transform_of_its_name_too():
    assert gs.checkpoint is sys.modules["graphstate.checkpoint"]
    assert type(gs.checkpoint(jnp.sin)) is type(gs.remat(jnp.sin))
    assert type(gs.checkpoint(prevent_cse=False)(jnp.sin)) is type(gs.remat(jnp.sin))
    assert gs.transform.checkpoint is gs.remat


@pytest.mark.parametrize(
    "call",
    [
        lambda path: gs.checkpoint.save(path, gs.Node()),
        lambda path: gs.checkpoint.restore(path),
        lambda path: gs.checkpoint.Checkpoints(path),
    ],
    ids=NAMES[::-1],
)
def test_without_orbax_each_call_names_the_extra(call, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("graphstate.checkpoint._store")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(MissingPackageError, match=r'pip install "graphstate\[checkpoint\]"'):
        call(tmp_path)
