"""Every container and codec: the frame at t is the last one shown by then, and the sound is centred on t."""

import numpy as np
import pytest
from media_files import FILES, PICTURES, SOUNDS, Recipe, heard_at, numbers_of, write_media

from cmmixer_hf.media.reading import Clip, MediaError, Sampling, probe, read_clip, read_frames

MILLISECOND = 1.1e-3  # Matroska and FLV stamp whole milliseconds, and some sounds start between two
ALL = FILES | SOUNDS | PICTURES


@pytest.mark.parametrize("name", FILES)
def test_frames_and_windows_belong_to_their_instants_and_to_each_other(media_file, name):
    clip, info, recipe = read_clip(media_file(name)), probe(media_file(name)), FILES[name]
    assert clip.frames.shape == (8, *recipe.size, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.duration == info.duration == pytest.approx(recipe.instants[-1], abs=0.15)
    assert numbers_of(clip.frames) == shown_at(clip.times, recipe)
    assert_sound_is_centred(clip, recipe)


@pytest.mark.parametrize("name", FILES | PICTURES)
def test_pictures_change_at_their_instants(media_file, name):
    recipe = ALL[name]
    for number in (30, 47, 59):
        change = recipe.instants[number]
        assert numbers_of(read_frames(media_file(name), [change - MILLISECOND, change + MILLISECOND])) == [
            number - 1,
            number,
        ]


@pytest.mark.parametrize("name", FILES | PICTURES)
def test_any_order_of_instants_gives_the_frames_of_one_pass(media_file, name):
    recipe = ALL[name]
    times = np.random.default_rng(0).uniform(0, recipe.instants[-1], 24)
    times = times[np.abs(times[:, None] - recipe.instants).min(1) > MILLISECOND]
    shuffled = read_frames(media_file(name), times)
    assert numbers_of(shuffled) == shown_at(times, recipe)
    ordered = read_frames(media_file(name), np.sort(times))
    np.testing.assert_array_equal(shuffled[np.argsort(times)], ordered)


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_files(media_file, name):
    path, recipe = media_file(name), SOUNDS[name]
    info = probe(path)
    assert (info.has_video, info.has_audio, info.sampling_rate) == (False, True, recipe.rate)
    assert info.channels == {"mono": 1, "stereo": 2, "5.1": 6}[recipe.layout]
    assert info.duration == pytest.approx(recipe.seconds, abs=0.06)
    clip = read_clip(path, video=False)
    assert clip.frames is None
    assert_sound_is_centred(clip, recipe)
    with pytest.raises(MediaError, match="no video stream; leave it out or use only its sound"):
        read_clip(path)


@pytest.mark.parametrize("name", PICTURES)
def test_videos_without_sound(media_file, name):
    path, recipe = media_file(name), PICTURES[name]
    assert (probe(path).has_video, probe(path).has_audio) == (True, False)
    clip = read_clip(path, audio=False)
    assert clip.waveforms is None
    assert numbers_of(clip.frames) == shown_at(clip.times, recipe)
    with pytest.raises(MediaError, match="has no audio stream; leave it out or use only its picture"):
        read_clip(path)


@pytest.mark.parametrize("name", ["long.mp4", "vp9.webm", "h264.mkv", "short.ts", "mpeg1.mpg", "a.wav", "a.mp3"])
def test_a_third_of_a_second_is_enough(tmp_path, name):
    recipe = Recipe(**vars(ALL[name]) | {"seconds": 0.32})
    path = write_media(tmp_path / name, recipe)
    clip = read_clip(path, video=recipe.video is not None)
    if recipe.video:
        assert numbers_of(clip.frames) == shown_at(clip.times, recipe)
    assert clip.waveforms[:, 16 : round(0.3 * 16000)].any(axis=1).all()
    assert not clip.waveforms[:, round((0.38 + recipe.late) * 16000) :].any()  # padded at the end


def test_ten_minutes(tmp_path):
    recipe = Recipe("libx264", "aac", {"preset": "ultrafast"}, seconds=600, fps=2, size=(32, 64), rate=16000)
    path = write_media(tmp_path / "long.mp4", recipe)
    clip = read_clip(path)
    assert clip.duration == pytest.approx(600)
    assert numbers_of(clip.frames) == shown_at(clip.times, recipe)
    assert_sound_is_centred(clip, recipe)
    section = read_clip(path, Sampling(num_frames=2), start=590.0)
    assert numbers_of(section.frames) == [1185, 1195]


def shown_at(times: np.ndarray, recipe: Recipe) -> list[int]:
    """Numbers of the frames shown at `times`; the first one before it starts."""
    return np.maximum(np.searchsorted(recipe.instants, times + 1e-4, side="right") - 1, 0).tolist()


def assert_sound_is_centred(clip: Clip, recipe: Recipe) -> None:
    assert clip.waveforms.shape == (8, 41600)
    assert clip.waveforms.dtype == np.float32
    assert np.abs(clip.waveforms).max() <= 1
    inner = zip(clip.times[2:6], clip.waveforms[2:6], strict=True)  # the outer windows are shifted
    offsets = [t - heard_at(window, t) for t, window in inner]
    np.testing.assert_allclose(offsets, recipe.late + recipe.lag, atol=MILLISECOND)
    assert np.ptp(offsets) < 1e-3
