"""All sections of a file in one pass: the same as each by itself, in bounded memory, to the end of what is there."""

import os
import struct
import tracemalloc
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import SHORT_GOP, Recipe, heard_at, write_media

from cmmixer_hf.media.reading import MediaError, Sampling, cut_into_sections, probe, read_clip, read_sections


@pytest.mark.parametrize("duration", [30.0, 31.6, 44.9, 45.0, 45.1, 200.0, 3600.0])
@pytest.mark.parametrize("hop", [None, 7.0, 30.0])
def test_sections_cover_a_file_evenly(duration, hop):
    places = list(cut_into_sections(duration, 30.0, hop))
    starts = [start for start, _ in places]
    gaps = [after - before for before, after in pairwise(starts)]
    assert places[0][0] == 0
    assert places[-1][1] == pytest.approx(duration, abs=1e-3)
    assert all(end - start == pytest.approx(30) for start, end in places)
    assert all(gap <= (hop or 15) + 1e-3 for gap in gaps)
    assert max(gaps, default=0) - min(gaps, default=0) < 3e-3
    if len(places) > 2:  # with one fewer they would lie too far apart
        assert (duration - 30) / (len(places) - 2) > (hop or 15) - 1e-3


def test_short_files_and_no_sections_are_whole():
    for seconds, hop in ((30.0, 15.0), (None, None)):
        assert list(cut_into_sections(12.0, seconds, hop)) == [(0.0, 12.0)]
    assert list(cut_into_sections(500.0, None, None)) == [(0.0, 500.0)]
    assert list(cut_into_sections(30.1, 30.0, 15.0)) == [(0.0, 30.1)]


NOISE = Sampling(num_frames=2, window_seconds=1.3)


@pytest.mark.parametrize(
    "name", ["long.mp4", "hevc.ts", "vp9.webm", "h264.avi", "mpeg1.mpg", "vorbis.webm", "h264.flv", "start.mkv"]
)
@pytest.mark.parametrize("hop", [None, 0.7, 3.0])
def test_each_section_equals_the_same_part_read_by_itself(media_file, name, hop):
    path = media_file(name)
    sections = list(read_sections(path, NOISE, seconds=2.0, hop=hop))
    places = list(cut_into_sections(probe(path).duration, 2.0, hop))
    assert [(section.start, section.end) for section in sections] == places
    for section in sections:
        alone = read_clip(path, NOISE, start=section.start, end=section.end)
        np.testing.assert_array_equal(section.clip.frames, alone.frames)
        # Decoding that begins elsewhere lies up to half a sample beside it, and in WebM and FLV a millisecond.
        for window, other, t in zip(section.clip.waveforms, alone.waveforms, alone.times, strict=True):
            near = float(np.clip(t, section.start + 0.65, section.end - 0.65))
            assert heard_at(window, near) == pytest.approx(heard_at(other, near), abs=1.1e-3)
            assert np.abs(window).mean() == pytest.approx(np.abs(other).mean(), rel=1e-2)


def test_pictures_alone_and_sound_alone(media_file):
    path, options = media_file("short.mp4"), {"seconds": 2.0, "hop": 1.0}
    both = list(read_sections(path, NOISE, **options))
    for video in (True, False):
        for section, alone in zip(
            both, read_sections(path, NOISE, video=video, audio=not video, **options), strict=True
        ):
            np.testing.assert_array_equal(alone.clip.frames, section.clip.frames if video else None)
            np.testing.assert_array_equal(alone.clip.waveforms, None if video else section.clip.waveforms)
            assert (alone.number, alone.count) == (section.number, 5)


def sparse_wav(path: Path, hours: float, *, rate: int = 8000) -> Path:
    """Silence that takes no room on the disk."""
    size = round(rate * 3600 * hours)
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, rate, 1, 8)
    header = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size)
    path.write_bytes(header)
    os.truncate(path, len(header) + size)
    return path


def test_memory_does_not_grow_with_the_length(tmp_path):
    path, peaks = sparse_wav(tmp_path / "long.wav", 0.25), []
    for seconds in (30.0, None):
        tracemalloc.start()
        count = sum(section.clip is not None for section in read_sections(path, seconds=seconds, video=False))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count == (59 if seconds else 1)
    assert max(peaks) < 10e6  # bytes; a quarter of an hour at 16 kHz takes 58 million


def test_hole_of_days_costs_one_error(tmp_path):
    """A stamp eleven days later: what lies between are 60,000 sections of nothing."""
    path = tmp_path / "days.mka"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for start in (0, 16000, 900_000 * 16000):
            noise = np.random.default_rng(start).integers(-9000, 9000, (1, 16000)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(noise, "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
            container.mux(stream.encode(frame))
    sections = list(read_sections(path, seconds=30.0, video=False))
    assert [section.clip is not None for section in sections] == [True, False, True]
    assert sections[0].count == pytest.approx(60_000, rel=0.01)
    assert "holds no sound" in str(sections[1].error)


def test_sections_before_a_cut_stand(tmp_path, media_file):
    whole = write_media(tmp_path / "whole.mkv", Recipe("libx264", "flac", SHORT_GOP))
    path, data = tmp_path / "cut.mkv", whole.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    for kinds in ({"audio": False}, {"video": False}, {}):
        sections = read_sections(path, NOISE, seconds=1.0, hop=1.0, **kinds)
        assert [next(sections).start, next(sections).start] == [0.0, 1.0]
        with pytest.raises(MediaError, match="truncated"):
            list(sections)
