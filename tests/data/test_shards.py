"""Runs that are killed, decoders that crash, and streams whose end nobody knows."""

import os
import random
import signal
import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from cmmixer_hf.data.clips import ClipSpec, clip_of_file
from cmmixer_hf.data.preparation import prepare
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.data.recipes import Recipe
from cmmixer_hf.data.workers import worker_context
from cmmixer_hf.media.reading import Sampling

RECIPE = Recipe(Sampling(num_frames=2, shorter_side=32), clips_per_shard=2)


class Bomb(str):
    """A path that kills the process that is handed it, as a decoder's bug does on a file."""

    def __reduce__(self):
        return _crash, ()


def _crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def many(clip_files, count) -> list[ClipSpec]:
    return [replace(clip_of_file(clip_files[number % 6]), clip_id=str(number)) for number in range(count)]


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(clip_files, tmp_path, num_workers):
    clips, rng = many(clip_files, 41), random.Random(0)
    prepare(clips, tmp_path / "undisturbed", RECIPE, progress=False)
    out, kills = tmp_path / "killed", 0
    for shards_before in (0, 0, 1, 3, 6, 10, 14, 18):
        run = worker_context().Process(
            target=prepare, args=(clips, out, RECIPE), kwargs={"num_workers": num_workers, "progress": False}
        )
        run.start()
        while run.is_alive() and len(list(out.glob("part-*"))) < shards_before:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.03)
        run.kill()
        run.join()
        kills += run.exitcode == -signal.SIGKILL
        for part in out.glob("part-*"):
            number = int(part.stem.removeprefix("part-"))
            ids = pq.read_table(part)["clip_id"].to_pylist()
            assert ids == [clip.clip_id for clip in clips[2 * number : 2 * number + 2]]
    assert kills >= 6
    prepared = prepare(clips, out, RECIPE, num_workers=num_workers, progress=False)
    assert (prepared.num_clips, prepared.missing_shards) == (41, 0)
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_a_clip_that_crashes_the_decoder_is_an_error_like_others(clip_files, tmp_path):
    clips = many(clip_files, 9)
    clips[4] = ClipSpec("deadly", "deadly", video=Bomb("deadly.mp4"))
    prepared = prepare(clips, tmp_path, RECIPE, num_workers=2, progress=False)
    assert prepared.num_clips == 8
    ((path, reason),) = prepared.errors
    assert path == "deadly.mp4"
    assert "SIGSEGV" in reason
    assert load_prepared(tmp_path)["clip_id"] == ["0", "1", "2", "3", "5", "6", "7", "8"]


def test_stale_files_of_other_jobs_are_left_alone(clip_files, tmp_path):
    mine, theirs = tmp_path / ".part-00000.partial-ab.parquet", tmp_path / ".part-00001.partial-cd.parquet"
    mine.touch()
    theirs.touch()
    prepare(many(clip_files, 4), tmp_path, RECIPE, shard=(0, 2), progress=False)
    assert not mine.exists()
    assert theirs.exists()
