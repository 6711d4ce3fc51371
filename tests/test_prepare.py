import json

import numpy as np
import pytest
from conftest import write_noise_clip

from cmmixer_hf.data import SourceError, collate_clips, load_prepared
from cmmixer_hf.media import Sampling, read_clip
from cmmixer_hf.prepare import find_media, prepare, prepare_clip


def test_a_row_holds_what_the_file_holds(clip_files, sampling):
    row, clip = prepare_clip(clip_files[0], sampling), read_clip(clip_files[0], sampling)
    batch = collate_clips([row])
    assert row["error"] is None
    assert row["track_id"] == "clip0"
    np.testing.assert_array_equal(batch["frames"][0].numpy(), clip.frames)
    np.testing.assert_allclose(batch["waveforms"][0].numpy() / 32767, clip.waveforms, atol=1 / 32767)


def test_shards_keep_all_clips_in_order(clip_files, sampling, tmp_path, monkeypatch):
    monkeypatch.setattr("cmmixer_hf.prepare.CLIPS_PER_SHARD", 4)
    prepared = prepare(clip_files, tmp_path / "out", sampling, progress=False)
    assert (prepared.num_clips, prepared.errors) == (6, [])
    assert load_prepared(tmp_path / "out")["clip_id"] == [f"clip{number}" for number in range(6)]


def test_a_broken_clip_is_named_and_left_out(clip_files, sampling, tmp_path):
    broken, mute = tmp_path / "broken.mp4", write_noise_clip(tmp_path / "mute.mp4", 9, sound=False)
    broken.write_bytes(clip_files[0].read_bytes()[:1000])
    prepared = prepare([*clip_files, broken, mute], tmp_path / "out", sampling, progress=False)
    assert prepared.num_clips == 6
    assert [path for path, _ in prepared.errors] == [str(broken), str(mute)]
    assert all(path in reason for path, reason in prepared.errors)
    assert len(load_prepared(tmp_path / "out")) == 6


def test_silence_is_an_error(tmp_path, sampling):
    from cmmixer_hf.media import write_clip

    path = tmp_path / "silent.mp4"
    write_clip(path, np.zeros((30, 16, 16, 3), np.uint8), np.zeros(48000, np.float32), fps=10, sampling_rate=16000)
    assert "silent" in prepare_clip(path, sampling)["error"]


def test_a_stopped_run_goes_on(clip_files, sampling, tmp_path, monkeypatch):
    monkeypatch.setattr("cmmixer_hf.prepare.CLIPS_PER_SHARD", 2)
    seen = []

    def interrupted(file, sampling):
        seen.append(file)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return prepare_clip(file, sampling)

    with monkeypatch.context() as patch:
        patch.setattr("cmmixer_hf.prepare.prepare_clip", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(clip_files, tmp_path / "out", sampling, num_workers=1, progress=False)
    with pytest.raises(SourceError, match="not finished"):
        load_prepared(tmp_path / "out")
    first = (tmp_path / "out" / "part-00000.parquet").stat().st_mtime_ns
    assert prepare(clip_files, tmp_path / "out", sampling, progress=False).num_clips == 6
    assert (tmp_path / "out" / "part-00000.parquet").stat().st_mtime_ns == first
    assert len(load_prepared(tmp_path / "out")) == 6


def test_another_source_is_refused_unless_restarted(clip_files, sampling, tmp_path):
    prepare(clip_files, tmp_path / "out", sampling, progress=False)
    with pytest.raises(SourceError, match="other files or settings"):
        prepare(clip_files, tmp_path / "out", Sampling(num_frames=3), progress=False)
    assert prepare(clip_files[:2], tmp_path / "out", sampling, restart=True, progress=False).num_clips == 2
    assert json.loads((tmp_path / "out" / "prepared.json").read_text())["shards"] == 1


def test_sources_that_cannot_work_say_so(tmp_path, sampling):
    with pytest.raises(SourceError, match="not a folder"):
        find_media(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="holds no media file"):
        find_media(tmp_path)
    with pytest.raises(SourceError, match="no prepared clips"):
        load_prepared(tmp_path)
    (tmp_path / "broken.mp4").write_text("not a video")
    with pytest.raises(SourceError, match=r"none of the 1 files is usable.*broken\.mp4"):
        prepare(find_media(tmp_path), tmp_path / "out", sampling, progress=False)
