import errno
import os
import signal
import time
from functools import partial
from itertools import chain
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from distributed import CONTEXT, is_running, wait_until

from cmmixer_hf.data.batches import collate_clips
from cmmixer_hf.data.prepared_clips import SourceError, load_prepared
from cmmixer_hf.training.loader import RunOrder, make_loader, read_batches


@pytest.fixture
def clips(prepared_folder):
    """Six clips in three shards."""
    return load_prepared(prepared_folder)


def order(clips, **changes) -> RunOrder:
    options = {"clips_per_batch": 2, "batches_per_step": 1, "seed": 0, "shuffle_shards": 2}
    return RunOrder(shard_sizes=clips.shard_sizes, **(options | changes))


def load(clips, numbers: range, **options) -> list[dict]:
    run = options.pop("order", None) or order(clips)
    return list(make_loader(clips, run, numbers, collate=partial(collate_clips), **options))


def tensors(batches: list[dict]) -> list[dict]:
    return [{name: value for name, value in batch.items() if name != "clip_id"} for batch in batches]


def names(batches: list[dict]) -> list[list[str]]:
    return [batch["clip_id"] for batch in batches]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("streaming", [False, True])
def test_batches_are_the_same_however_they_are_read(clips, num_workers, streaming):
    plain, other = load(clips, range(6)), load(clips, range(6), num_workers=num_workers, streaming=streaming)
    assert names(plain) == names(other)
    torch.testing.assert_close(tensors(plain), tensors(other), rtol=0, atol=0)


@pytest.mark.parametrize("streaming", [False, True])
def test_two_processes_with_two_workers_lose_and_double_nothing(clips, streaming):
    whole = names(load(clips, range(12)))
    shares = [names(load(clips, range(rank, 12, 2), num_workers=2, streaming=streaming)) for rank in range(2)]
    assert [shares[number % 2][number // 2] for number in range(12)] == whole
    for epoch in range(4):
        assert sorted(chain(*whole[3 * epoch : 3 * epoch + 3])) == sorted(clips["clip_id"])


@pytest.mark.parametrize("streaming", [False, True])
def test_it_goes_on_in_the_middle_of_an_epoch(clips, streaming):
    assert names(load(clips, range(4, 9), streaming=streaming)) == names(load(clips, range(9)))[4:]


def test_a_streamed_row_group_is_read_once_a_window(clips, monkeypatch):
    read = []
    original = type(clips).__getitems__
    monkeypatch.setattr(
        type(clips), "__getitems__", lambda self, places: read.append(sorted(places)) or original(self, places)
    )
    load(clips, range(3), streaming=True)
    assert [len(places) for places in read] == [4, 2]
    assert sorted(chain(*read)) == list(range(6))


def test_a_dataset_of_datasets_will_do(clips):
    other = Dataset.from_list(list(clips))
    whole = order(clips, shuffle_shards=0)
    assert names(load(other, range(6), order=whole)) == names(load(clips, range(6), order=whole))


def test_streaming_without_a_window_is_refused(clips):
    with pytest.raises(ValueError, match="shuffle_shards"):
        load(clips, range(3), order=order(clips, shuffle_shards=0), streaming=True)


def test_processes_without_shared_memory_are_refused_in_words(clips, monkeypatch):
    def refuse(loader):
        raise OSError(errno.ENOSPC, "No space left on device")  # as its locks do

    loader = make_loader(clips, order(clips), range(3), collate=collate_clips, num_workers=2)
    monkeypatch.setattr(type(loader), "__iter__", refuse)
    with pytest.raises(SourceError, match=r"no shared memory for 2 .*No space left.*/dev/shm larger"):
        read_batches(loader)


def note_and_wait(rows: list[dict], *, folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(600)


def load_and_wait(prepared: Path, folder: Path) -> None:
    clips = load_prepared(prepared)
    next(iter(make_loader(clips, order(clips), range(6), collate=partial(note_and_wait, folder=folder), num_workers=2)))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="whether a process runs is read in /proc")
def test_workers_end_with_a_training_that_is_killed(prepared_folder, tmp_path):
    """Also where a server that lives on has forked them, as Python 3.14 does."""
    training = CONTEXT.Process(target=load_and_wait, args=(prepared_folder, tmp_path))
    training.start()
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    os.kill(training.pid, signal.SIGKILL)
    training.join()
    for note in tmp_path.iterdir():
        wait_until(lambda note=note: not is_running(int(note.name)))
