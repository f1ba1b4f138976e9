"""Directories that are no checkpoints, damaged ones, saves that fail or are cut off: each error says which it is."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate import checkpoint
from graphstate.errors import CheckpointError, UpdateError

from .kept import all_bits, array

ROOT = Path(__file__).parents[2]


def model(seed: int, size: int = 64):
    numbers = np.random.default_rng(seed).normal(size=(size, size)).astype("float32")
    return {"weight": gs.State(numbers), "bias": gs.State(jnp.asarray(array(seed, 4)))}


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of a model of seed 0."""
    checkpoint.save(tmp_path / "it", model(0))
    return tmp_path / "it"


def refused(path, match):
    """Checks that nothing can be restored from a path, and that a model stays what it was."""
    other = model(1)
    before = all_bits(other)
    for like in (other, None):
        with pytest.raises(CheckpointError, match=match):
            checkpoint.restore(path, like)
    assert all_bits(other) == before


# No checkpoint


def test_a_path_that_does_not_exist(tmp_path):
    refused(tmp_path / "nowhere", "nowhere does not exist. Look for a misspelt path")


def test_a_file_in_place_of_a_directory(tmp_path):
    (tmp_path / "file").write_text("weights")
    refused(tmp_path / "file", "file is a file")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CheckpointError, match=r"No checkpoint could be written to .*file"):
            checkpoint.save(path, model(0))
    assert (tmp_path / "file").read_text() == "weights"


def test_a_directory_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    refused(tmp_path, "holds none")


def test_the_directory_of_the_checkpoints_of_a_run(tmp_path):
    checkpoint.save(tmp_path / "10", model(0))
    checkpoint.save(tmp_path / "9", model(0))
    refused(tmp_path, r"holds one for each of the steps 9, 10. Take `Checkpoints\(...\).restore\(\)`, or .*/10")


def test_a_checkpoint_of_another_model(saved):
    other = {"weight": gs.State(np.zeros(3))}
    with pytest.raises(UpdateError) as caught:
        checkpoint.restore(saved, other)
    assert len(caught.value.differences) == 2
    assert not other["weight"].value.any()


def test_a_checkpoint_of_a_later_version(saved):
    manifest = saved / "v1" / "graph" / "metadata"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 2}))
    refused(saved, "reads checkpoints of format 1, but this one has format 2")


# Damage


def test_a_byte_that_has_changed_in_the_values_is_found(saved):
    largest = max((each for each in saved.rglob("*") if each.is_file()), key=lambda each: each.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 0x10
    largest.write_bytes(data)
    refused(saved, "is damaged: 'weight' .* has other numbers than were saved|cannot be read")


def remove_values(version):
    shutil.rmtree(version / "state")


def empty_values(version):
    for each in (version / "state").rglob("*"):
        if each.is_file():
            each.write_bytes(b"")


def cut_manifest(version):
    manifest = version / "graph" / "metadata"
    manifest.write_text(manifest.read_text()[:100])


def other_manifest(version):
    (version / "graph" / "metadata").write_text('{"format": 1, "entries": [[1, 2]]}')


@pytest.mark.parametrize("damage", [remove_values, empty_values, cut_manifest, other_manifest])
def test_files_that_are_missing_or_damaged_are_found(damage, saved):
    damage(saved / "v1")
    refused(saved, r"The checkpoint .*/v1 cannot be read: ")


# Saves that fail or are cut off


def test_a_full_disk_leaves_the_checkpoint_that_was_there(saved):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # as a full disk, each longer file fails
    try:
        with pytest.raises(CheckpointError, match=r"No checkpoint could be written to .*it: .*File too large"):
            checkpoint.save(saved, model(1, size=128))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert all_bits(checkpoint.restore(saved, model(1))) == all_bits(model(0))
    checkpoint.save(saved, model(2))
    assert all_bits(checkpoint.restore(saved, model(1))) == all_bits(model(2))
    assert [each.name for each in saved.iterdir()] == ["v3"]


def test_what_a_cut_off_save_has_left_is_no_checkpoint(saved):
    shutil.copytree(saved / "v1", saved / "v2.orbax-checkpoint-tmp")
    shutil.copytree(saved / "v1", saved / "v3")
    (saved / "v3" / "graph" / "metadata").unlink()
    assert all_bits(checkpoint.restore(saved, model(1))) == all_bits(model(0))
    shutil.rmtree(saved / "v1")
    refused(saved, "holds only what was left of a save that was cut off")
    checkpoint.save(saved, model(2))
    assert [each.name for each in saved.iterdir()] == ["v4"]


def test_what_is_no_checkpoint_is_not_deleted(tmp_path):
    for name in ("v1/data", "v2.backup", "10/v1/data"):
        (tmp_path / name).mkdir(parents=True)
    checkpoint.save(tmp_path, model(0))
    checkpoint.save(tmp_path, model(1))
    with checkpoint.Checkpoints(tmp_path, keep=1) as checkpoints:
        for step in (10, 11, 12):
            checkpoints.save(step, model(step))
    assert checkpoints.steps == [12]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["10", "12", "v1", "v2.backup", "v3"]
    assert [each.name for each in (tmp_path / "10").iterdir()] == ["v1"]
    assert all_bits(checkpoint.restore(tmp_path, model(9))) == all_bits(model(1))


def test_saves_of_several_threads_wait_for_each_other(tmp_path):
    failed = []

    def save_some(seed):
        try:
            for _ in range(2):
                checkpoint.save(tmp_path / str(seed), model(seed))
                checkpoint.save(tmp_path / "one", model(seed))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=save_some, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for seed in range(3):
        assert all_bits(checkpoint.restore(tmp_path / str(seed), model(9))) == all_bits(model(seed))
    assert all_bits(checkpoint.restore(tmp_path / "one", model(9))) in [all_bits(model(seed)) for seed in range(3)]
    assert [each.name for each in (tmp_path / "one").iterdir()] == ["v6"]


SAVES = """
import sys
import numpy as np
import graphstate as gs

numbers = gs.State(np.zeros(1000))
for number in range(10_000):
    numbers.value = np.full(1000, float(number))
    gs.checkpoint.save(sys.argv[1], numbers)
"""


def test_a_process_that_is_killed_while_it_saves_leaves_a_whole_checkpoint(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", SAVES, str(tmp_path / "it")], env=environment)
    try:
        deadline = time.monotonic() + 25
        while not list(tmp_path.glob("it/v[3-9]*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    found = checkpoint.restore(tmp_path / "it", gs.State(np.zeros(1000))).value
    assert len(set(found.tolist())) == 1
    assert found[0] >= 1
