import errno
import logging
import os
import shutil

import pytest
import torch
from distributed import run_alone

from cmmixer_hf.training.checkpoints import CheckpointError, Checkpoints


def write(folder):
    (folder / "weights").write_bytes(b"w" * 3000)
    (folder / "part").mkdir()
    (folder / "part" / "optimizer").write_bytes(b"o" * 500)


@pytest.fixture
def checkpoints(tmp_path):
    """Three, of which the first is gone."""
    made = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step in (5, 10, 200):
        made.save(step, write)
    return made


def names(checkpoints):
    return [path.name for path in checkpoints.paths()]


def test_the_newest_are_kept(checkpoints):
    assert names(checkpoints) == ["step-00000010", "step-00000200"]
    assert checkpoints.newest().name == "step-00000200"


def cut(folder):
    (folder / "weights").write_bytes(b"w" * 2999)


def flip(folder):
    (folder / "weights").write_bytes(b"w" * 2999 + b"v")


def lose(folder):
    (folder / "part" / "optimizer").unlink()


def break_seal(folder):
    (folder / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [(cut, "weights has changed"), (flip, "weights has changed"), (lose, "optimizer is missing"), (break_seal, "read")],
)
def test_a_damaged_one_gives_way_to_the_one_before(checkpoints, damage, message, caplog):
    older, newest = checkpoints.paths()
    damage(newest)
    with caplog.at_level(logging.WARNING):
        assert checkpoints.newest() == older
    assert f"{newest} is damaged" in caplog.text
    assert message in caplog.text
    damage(older)
    with pytest.raises(CheckpointError, match=r"all checkpoints in .* resume=false"):
        checkpoints.newest()


def test_a_writer_that_fails_leaves_what_was_there(checkpoints):
    def fail(folder):
        write(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoints.save(300, fail)
    assert names(checkpoints) == ["step-00000010", "step-00000200"]


def test_what_a_killed_writer_leaves_is_never_taken_and_tidied_away(checkpoints):
    assert run_alone(die_while_saving, checkpoints) == -9
    left = [path for path in checkpoints.folder.iterdir() if path.name.startswith(".step-")]
    assert left
    assert checkpoints.newest().name == "step-00000200"
    checkpoints.tidy()
    assert {path.name for path in checkpoints.folder.iterdir()} == {"step-00000010", "step-00000200"}


def die_while_saving(checkpoints):
    checkpoints.save(300, lambda folder: (write(folder), os.kill(os.getpid(), 9)))


def test_files_of_others_are_neither_taken_for_checkpoints_nor_deleted(checkpoints):
    for name in (".DS_Store", "notes.txt", "step-notes.txt"):
        (checkpoints.folder / name).write_text("not ours")
    (checkpoints.folder / "step-by-step").mkdir()
    assert checkpoints.newest().name == "step-00000200"
    checkpoints.save(300, write)
    checkpoints.tidy(delete_all=True)
    left = {path.name for path in checkpoints.folder.iterdir()}
    assert left == {".DS_Store", "notes.txt", "step-notes.txt", "step-by-step"}


def test_a_full_disk_is_said_so(checkpoints):
    def fill(folder):
        write(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CheckpointError, match=r"the disk of .* is full .* no checkpoint was written: free some"):
        checkpoints.save(300, fill)
    assert names(checkpoints) == ["step-00000010", "step-00000200"]


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="/dev/full is not here")
def test_what_torch_says_of_a_full_disk_is_understood(checkpoints, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(100, 100, 0))
    with pytest.raises(CheckpointError, match="is full"):
        checkpoints.save(300, lambda folder: torch.save(torch.zeros(1 << 20), "/dev/full"))


def test_starting_over_deletes_all(checkpoints):
    checkpoints.tidy(delete_all=True)
    assert checkpoints.newest() is None
    shutil.rmtree(checkpoints.folder)
    assert checkpoints.newest() is None
    checkpoints.tidy()
