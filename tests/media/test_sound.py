"""Windows of sound: where they lie, at the edges too, and that only what is wanted is decoded."""

import os
import struct
import tracemalloc
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import EXPERIMENTAL, SHORT_GOP, Recipe, heard_at, write_media

from cmmixer_hf.media.reading import MediaError, Sampling, read_clip, read_windows
from cmmixer_hf.media.sound import PRE_ROLL, Sound


def test_windows_are_shifted_inward_at_the_edges(media_file):
    path = media_file("long.mp4")
    edge = read_windows(path, [0.0, 0.5, 1.3, 4.75, 5.9, 60.0])
    np.testing.assert_array_equal(edge[0], edge[2])
    np.testing.assert_array_equal(edge[1], edge[2])
    np.testing.assert_array_equal(edge[4], edge[5])
    assert heard_at(edge[0], 1.3) == pytest.approx(1.3, abs=1e-3)
    assert heard_at(edge[4], 4.7) == pytest.approx(4.7, abs=0.03)  # AAC rounds the end up to a frame
    np.testing.assert_allclose(heard_at(read_windows(path, [60.0])[0], 4.7), heard_at(edge[5], 4.7), atol=1e-4)


def test_sound_that_starts_later_stays_in_step(tmp_path):
    path = write_media(tmp_path / "late.mp4", Recipe("libx264", "aac", SHORT_GOP, delay=0.7, seconds=5))
    clip = read_clip(path)
    # Shifted inward to 0.7 s, or a frame earlier: the encoder's run-up is silent sound.
    assert heard_at(clip.waveforms[0], 2.0) == pytest.approx(2.0 - 512 / 48000, abs=1024 / 48000)
    assert heard_at(clip.waveforms[4], clip.times[4]) == pytest.approx(clip.times[4], abs=1e-3)


def test_sound_that_starts_after_most_windows(tmp_path):
    path = write_media(tmp_path / "late.mkv", Recipe("libx264", "flac", SHORT_GOP, delay=20.0, seconds=4))
    windows = read_windows(path, [2.0, 9.0, 22.5])
    np.testing.assert_array_equal(windows[0], windows[1])
    assert heard_at(windows[0], 21.3) == pytest.approx(21.3, abs=1.1e-3)
    assert heard_at(windows[2], 22.5) == pytest.approx(22.5, abs=1.1e-3)


def test_other_window_and_rate(media_file):
    windows = read_windows(media_file("short.mp4"), [2.0, 3.0], window_seconds=0.975, sampling_rate=22050)
    assert windows.shape == (2, round(0.975 * 22050))
    assert heard_at(windows[1], 3.0, 22050) == pytest.approx(3.0, abs=1e-3)


LONG = {
    "a.mp3": Recipe(audio="libmp3lame", rate=44100),
    "a.m4a": Recipe(audio="aac"),
    "a.opus": Recipe(audio="libopus"),
    "a.flac": Recipe(audio="flac", rate=44100),
    "low.flac": Recipe(audio="flac", rate=8000),  # half a second a packet
    "a.mka": Recipe(audio="aac", container={"format": "matroska"}),
    "a.ts": Recipe(audio="mp2", container={"format": "mpegts"}, late=481 / 48000),
    "vorbis.webm": Recipe(audio="vorbis", rate=44100, layout="stereo", sound=EXPERIMENTAL),
}


@pytest.fixture(scope="module", params=LONG)
def long_sound(request, tmp_path_factory) -> tuple[Path, Recipe]:
    recipe = Recipe(**{"layout": "mono"} | vars(LONG[request.param]) | {"seconds": 30.0})
    return write_media(tmp_path_factory.mktemp("long") / request.param, recipe), recipe


def test_windows_far_apart_are_as_exact_as_near_ones(long_sound):
    path, recipe = long_sound
    times = [3.0, 12.0, 13.0, 22.0]
    for t, window in zip(times, read_windows(path, times), strict=True):
        assert heard_at(window, t) == pytest.approx(t - recipe.late, abs=1.1e-3)


@pytest.mark.parametrize("last", [28.2, 29.5, 100.0])
def test_end_of_the_sound_is_found_in_packets_that_were_passed_over(long_sound, last):
    path, recipe = long_sound
    window, middle = read_windows(path, [5.0, last])[1], min(last, 28.7)
    assert heard_at(window, middle) == pytest.approx(middle - recipe.late, abs=0.06)  # encoders round the end up
    assert window[-800:].any()


def test_sound_between_the_windows_is_not_decoded(tmp_path, monkeypatch):
    path, decoded, add = write_media(tmp_path / "a.flac", Recipe(audio="flac", seconds=30.0)), [], Sound.add
    monkeypatch.setattr(Sound, "add", lambda sound, frame, t: (decoded.append(frame.samples), add(sound, frame, t)))
    read_windows(path, [10.0, 20.0], window_seconds=1.0)
    assert sum(decoded) / 48000 < 2 * (1.0 + PRE_ROLL + 0.5)


@pytest.mark.parametrize(
    "name", ["long.mp4", "short.ts", "vp9.webm", "h264.mkv", "vorbis.webm", "h264.avi", "mpeg1.mpg"]
)
def test_section_of_a_file(media_file, name):
    whole = read_windows(media_file(name), [3.0])[0]
    clip = read_clip(media_file(name), Sampling(num_frames=3), start=3.4, end=4.9)
    assert clip.duration == pytest.approx(1.5)
    np.testing.assert_allclose(clip.times, [3.65, 4.15, 4.65])
    late = 3.0 - heard_at(whole, 3.0)
    heard = clip.waveforms[:, :24000]  # the section is shorter than a window: all of it, then silence
    assert heard_at(heard[0], 4.15) == pytest.approx(4.15 - late, abs=1.1e-3)  # WebM rounds stamps to 1 ms
    np.testing.assert_array_equal(heard[0], heard[2])
    assert not clip.waveforms[:, 24001:].any()


def test_hours_of_sound_do_not_fill_the_memory(tmp_path):
    path, size = tmp_path / "hour.wav", 8000 * 3600
    form = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    header = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size)
    path.write_bytes(header)
    os.truncate(path, len(header) + size)  # holes, which take no room
    tracemalloc.start()
    clip = read_clip(path, video=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert clip.duration == 3600
    assert peak < 30e6  # bytes; an hour at 16 kHz takes 230 million


def test_silence_is_sound_too(tmp_path):
    path = tmp_path / "silent.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 16000 * 4))
    windows = read_windows(path, [1.0, 3.0])
    assert windows.shape == (2, 41600)
    assert not windows.any()


def test_sound_that_is_not_finite_is_refused(tmp_path):
    path = tmp_path / "nan.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16000, layout="mono")
        piece = av.AudioFrame.from_ndarray(np.full((1, 16000), np.nan, np.float32), "flt", "mono")
        piece.sample_rate = 16000
        container.mux(stream.encode(piece))
    with pytest.raises(MediaError, match="NaN"):
        read_windows(path, [0.5])


def test_a_hole_in_the_sound_is_silent_and_what_follows_stays_in_step(tmp_path):
    path = tmp_path / "hole.mka"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for begin in (0.0, 1.5):  # a second of sound each, half a second of nothing between them
            frame = av.AudioFrame.from_ndarray(np.full((1, 16000), 16384, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, round(16000 * begin), Fraction(1, 16000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (heard,) = read_windows(path, [1.25], window_seconds=2.0)
    np.testing.assert_allclose(heard[80:11920], 0.5, atol=1e-3)
    np.testing.assert_array_equal(heard[12080:19920], 0.0)
    np.testing.assert_allclose(heard[20080:31920], 0.5, atol=1e-3)
