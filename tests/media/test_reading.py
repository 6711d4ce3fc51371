"""Clips of files, and clips that nobody here made."""

from pathlib import Path

import av
import numpy as np
import pytest

from cmmixer_hf.media.reading import MediaError, Sampling, read_clip, read_frames, read_windows, segment_midpoints


@pytest.mark.parametrize("name", ["long.mp4", "short.ts", "vp9.webm", "h264.mkv"])
def test_section_of_a_file(media_file, name):
    clip = read_clip(media_file(name), Sampling(num_frames=3), start=3.4, end=4.9)
    assert clip.duration == pytest.approx(1.5)
    np.testing.assert_allclose(clip.times, [3.65, 4.15, 4.65])
    np.testing.assert_array_equal(clip.frames, read_frames(media_file(name), clip.times))
    with pytest.raises(MediaError, match=r"holds 6\.0\d s, nothing from 7"):
        read_clip(media_file(name), start=7.0)
    assert read_clip(media_file(name), start=3.0, end=99.0).duration == pytest.approx(3.0, abs=0.15)


def test_only_what_is_asked_for_is_read(media_file):
    path = media_file("short.mp4")
    both, picture, sound = read_clip(path), read_clip(path, audio=False), read_clip(path, video=False)
    assert (picture.waveforms, sound.frames) == (None, None)
    np.testing.assert_array_equal(picture.frames, both.frames)
    np.testing.assert_array_equal(sound.waveforms, both.waveforms)


def test_wrong_arguments(media_file):
    path = media_file("short.mp4")
    for call in (
        lambda: segment_midpoints(0.0, 8),
        lambda: segment_midpoints(1.0, 0),
        lambda: Sampling(num_frames=0),
        lambda: Sampling(window_seconds=float("nan")),
        lambda: read_frames(path, []),
        lambda: read_frames(path, [float("nan")]),
        lambda: read_windows(path, [1.0], sampling_rate=0),
    ):
        with pytest.raises(ValueError, match=r"positive|finite"):
            call()


def test_midpoints_cut_equal_parts():
    times = segment_midpoints(16.0, 8, start=2.0)
    np.testing.assert_allclose(times, 2 + np.arange(1, 16, 2))


def test_every_natural_file(real_videos):
    for path in sorted((real_videos / "natural").iterdir()):
        clip = read_clip(path, Sampling(shorter_side=224))
        assert clip.frames.shape[0] == 8, path
        assert clip.waveforms.shape == (8, 41600), path
        assert clip.waveforms.std() > 1e-3, path
        assert min(clip.frames.shape[1:3]) <= 224, path


@pytest.mark.parametrize("name", ["bbaf2n.mpg", "chaplin.mp4", "nasa_13013.mp4", "friday.mp4", "example3.mp4"])
def test_natural_file_equals_one_pass(real_videos, name):
    path = real_videos / "natural" / name
    clip = read_clip(path)
    with av.open(str(path)) as container:
        shown = dict.fromkeys(range(8))
        for frame in container.decode(container.streams.best("video")):
            shown |= {k: frame for k, t in enumerate(clip.times) if frame.time <= t}
    for k, frame in shown.items():
        np.testing.assert_array_equal(clip.frames[k], frame.reformat(format="rgb24").to_ndarray())
    start, sound = whole_sound(path)
    for t, window in zip(clip.times, clip.waveforms, strict=True):
        place = np.clip(round((t - 1.3 - start) * 16000), 0, max(0, len(sound) - 41600))
        expected = np.clip(sound[place : place + 41600], -1, 1)
        np.testing.assert_allclose(window[: len(expected)], expected, atol=1e-5)
        assert not window[len(expected) :].any()


def whole_sound(path: Path) -> tuple[float, np.ndarray]:
    """All the sound of a file at 16 kHz, and where it starts on the file's timeline."""
    with av.open(str(path)) as container:
        streams = [container.streams.best("video"), container.streams.best("audio")]
        origin = min(float(s.start_time * s.time_base) for s in streams)
        resampler = av.AudioResampler("fltp", None, 16000)
        decoded = list(container.decode(streams[1]))
        parts = [part for frame in [*decoded, None] for part in resampler.resample(frame)]
    return float(decoded[0].time) - origin, np.concatenate([part.to_ndarray().mean(0) for part in parts])


def test_odd_files_decode_or_say_why(real_videos):
    reasons = {}
    for path in sorted((real_videos / "odd").iterdir()):
        assert len(read_clip(path, audio=False).frames) == 8
        try:
            assert len(read_clip(path).waveforms) == 8
        except MediaError as error:
            reasons[error.path] = error.reason
    silent = ("bt709_full_range.mp4", "carphone_pristine.mp4", "cockatoo_yuv420.mp4")
    assert reasons == {str(real_videos / "odd" / name): "has no audio stream" for name in silent}


def test_natural_music_library(real_videos):
    """Recordings of five seconds without a picture."""
    for path in sorted((real_videos.parent / "esc10/audio").iterdir())[::40]:
        clip = read_clip(path, video=False)
        assert clip.duration == pytest.approx(5, abs=0.1), path
        assert clip.waveforms.shape == (8, 41600)
        assert clip.waveforms.any()
        with pytest.raises(MediaError, match="has no video stream"):
            read_clip(path)
