"""Frames and sound → a media file."""

import errno
import io
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from media_files import chirp, heard_at, numbered_frame, numbers_of

from cmmixer_hf.media import writing
from cmmixer_hf.media.reading import Sampling, probe, read_clip
from cmmixer_hf.media.writing import write_clip

FRAMES = np.stack([numbered_frame(number) for number in range(50)])
WAVE = chirp(np.arange(2 * 16000) / 16000).astype(np.float32)


@pytest.mark.parametrize("sound", [WAVE, np.stack([WAVE, WAVE])], ids=["mono", "stereo"])
def test_written_clip_reads_back(tmp_path, sound):
    write_clip(tmp_path / "a.mp4", FRAMES, sound, fps=25)
    info = probe(tmp_path / "a.mp4")
    assert (info.video_codec, info.audio_codec, info.fps, info.sampling_rate) == ("h264", "aac", 25, 16000)
    assert (info.width, info.height, info.channels) == (160, 96, sound.ndim)
    clip = read_clip(tmp_path / "a.mp4", Sampling(num_frames=4, window_seconds=0.4))
    assert numbers_of(clip.frames) == np.floor(clip.times * 25).tolist()
    for t, window in zip(clip.times, clip.waveforms, strict=True):
        assert heard_at(window, t) == pytest.approx(t, abs=1e-3)


def test_either_may_be_missing_and_nothing_else_is_left(tmp_path):
    write_clip(tmp_path / "sound.m4a", None, WAVE)
    write_clip(tmp_path / "picture.mp4", FRAMES, None)
    assert (probe(tmp_path / "sound.m4a").has_video, probe(tmp_path / "picture.mp4").has_audio) == (False, False)
    assert sorted(os.listdir(tmp_path)) == ["picture.mp4", "sound.m4a"]


def test_failed_writing_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match=r"even height and width, got \(2, 33, 32, 3\)"):
        write_clip(tmp_path / "odd.mp4", np.zeros((2, 33, 32, 3), np.uint8), None)
    with pytest.raises(ValueError, match="neither"):
        write_clip(tmp_path / "none.mp4", None, None)
    with pytest.raises(ValueError, match=r"1 or 2 channels, got shape \(7, 100\)"):
        write_clip(tmp_path / "many.mp4", None, np.zeros((7, 100), np.float32))
    assert not os.listdir(tmp_path)


def open_files(folder: Path) -> list[str]:
    links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [link for link in links if link.startswith(str(folder))]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc, to see open files")
def test_a_file_that_has_no_room_is_closed_and_named(tmp_path):
    """Wherever the room ends, for PyAV keeps a file open whose end it cannot write."""
    write_clip(tmp_path / "whole.mp4", None, WAVE)
    size = (tmp_path / "whole.mp4").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    errors = []
    for limit in range(0, size, size // 40):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OSError, match=r"clip\.mp4") as refused:
                write_clip(tmp_path / "clip.mp4", None, WAVE)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        errors.append(refused.value)  # as long as it is held, so is all that its traceback leads to
    assert open_files(tmp_path) == []
    assert os.listdir(tmp_path) == ["whole.mp4"]


class FullDisk(io.BytesIO):
    """A file on a disk with so many bytes of room."""

    def __init__(self, room: int):
        super().__init__()
        self.room = room

    def write(self, data):
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("room", [0, 100, 5_000, 60_000])
def test_a_full_disk_is_said_in_its_own_words_and_names_the_file(room, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "open", lambda *_: FullDisk(room), raising=False)
    rng = np.random.default_rng(0)
    frames, sound = rng.integers(0, 255, (40, 64, 64, 3), dtype=np.uint8), rng.uniform(-1, 1, 64_000)
    with pytest.raises(OSError, match="No space left") as caught:
        write_clip(tmp_path / "clip.mp4", frames, sound)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "clip.mp4")
