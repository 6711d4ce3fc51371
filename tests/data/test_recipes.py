import numpy as np
import pytest
from conftest import write_noise_clip

from cmmixer_hf.data.batches import collate_clips, unpack_frames, unpack_waveforms
from cmmixer_hf.data.clips import ClipSpec
from cmmixer_hf.data.prepared_clips import SHARD_SCHEMA
from cmmixer_hf.data.recipes import Recipe, prepare_clip
from cmmixer_hf.media.reading import Sampling, read_clip, write_clip


def write_silent(path):
    write_clip(path, np.zeros((30, 16, 16, 3), np.uint8), np.zeros(48000, np.float32), fps=10, sampling_rate=16000)
    return path


def write_sound(path, seed=5, seconds=4):
    wave = (0.1 * np.random.default_rng(seed).standard_normal(seconds * 16000)).astype(np.float32)
    write_clip(path, None, wave, sampling_rate=16000)
    return path


def test_a_row_holds_what_the_file_holds(clip_files, sampling):
    row, clip = prepare_clip(clip_files[0], sampling), read_clip(clip_files[0], sampling)
    batch = collate_clips([row])
    assert list(row) == SHARD_SCHEMA.names
    assert row["error"] is None
    assert row["track_id"] == "clip0"
    np.testing.assert_array_equal(batch["frames"][0].numpy(), clip.frames)
    np.testing.assert_allclose(batch["waveforms"][0].numpy() / 32767, clip.waveforms, atol=1 / 32767)


def test_silence_is_an_error_unless_wanted(tmp_path, sampling):
    path = write_silent(tmp_path / "silent.mp4")
    assert "silent" in prepare_clip(path, sampling)["error"]
    row = prepare_clip(path, Recipe(sampling, keep_silent=True))
    assert row["error"] is None
    assert not unpack_waveforms(row).any()


def test_sound_alone(clip_files, tmp_path, sampling):
    recipe = Recipe(sampling, need="audio")
    track, video = prepare_clip(write_sound(tmp_path / "song.m4a"), recipe), prepare_clip(clip_files[0], recipe)
    for row in (track, video):
        assert row["error"] is None
        assert row["frames"] is row["frame_shape"] is row["frame_codec"] is None
        assert unpack_waveforms(row).shape == (2, 41600)
    assert track["duration"] == pytest.approx(4, abs=0.1)


def test_pictures_alone(clip_files, tmp_path, sampling):
    recipe = Recipe(sampling, need="video")
    for path in (
        write_noise_clip(tmp_path / "mute.mp4", 9, sound=False),
        write_silent(tmp_path / "s.mp4"),
        clip_files[0],
    ):
        row = prepare_clip(path, recipe)
        assert row["error"] is None
        assert row["waveforms"] is None
        assert unpack_frames(row).shape[0] == 2


@pytest.mark.parametrize(
    ("need", "error"), [("both", "no video stream"), ("video", "no video stream"), ("audio", None)]
)
def test_what_is_needed_and_missing_is_an_error(tmp_path, sampling, need, error):
    row = prepare_clip(write_sound(tmp_path / "song.m4a"), Recipe(sampling, need=need))
    assert error is row["error"] is None or error in row["error"]


def test_sound_from_another_file_and_another_part(clip_files, tmp_path, sampling):
    track = str(write_sound(tmp_path / "song.m4a", seconds=9))
    clip = ClipSpec(
        "a", "song", video=str(clip_files[0]), audio=track, start=0.5, end=2.5, audio_start=4.0, audio_end=8.0
    )
    row = prepare_clip(clip, sampling)
    frames = read_clip(clip_files[0], sampling, start=0.5, end=2.5, audio=False).frames
    waves = read_clip(track, sampling, start=4, end=8, video=False).waveforms
    np.testing.assert_array_equal(unpack_frames(row).numpy(), frames)
    np.testing.assert_allclose(unpack_waveforms(row).numpy() / 32767, waves, atol=1 / 32767)
    known = ("track_id", "path", "audio_path", "start", "audio_start", "duration")
    assert [row[name] for name in known] == ["song", str(clip_files[0]), track, 0.5, 4.0, pytest.approx(2.0)]


def test_what_is_known_is_in_every_row(clip_files, sampling):
    about = {"labels": ("a", "b"), "split": "train", "fold": 3}
    good = prepare_clip(ClipSpec("x", "t", video=str(clip_files[0]), **about), sampling)
    bad = prepare_clip(ClipSpec("x", "t", video="nowhere.mp4", **about), sampling)
    for row in (good, bad):
        assert (row["labels"], row["split"], row["fold"]) == (["a", "b"], "train", 3)
    assert bad["error"].startswith("nowhere.mp4: ")
    assert bad["frames"] is None


def test_jpeg_rows_are_small_and_look_the_same(real_videos):
    sampling = Sampling(num_frames=3, shorter_side=128)
    path = real_videos / "natural" / "friday.mp4"
    raw, jpeg = (prepare_clip(path, Recipe(sampling, frame_codec=codec)) for codec in ("raw", "jpeg"))
    assert sum(map(len, jpeg["frames"])) < sum(map(len, raw["frames"])) / 7
    one, other = unpack_frames(raw).float(), unpack_frames(jpeg).float()
    assert one.shape == other.shape
    assert (one - other).square().mean().sqrt() < 5
    assert jpeg["waveforms"] == raw["waveforms"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"jpeg_quality": 0}, "got 0"),
        ({"clips_per_shard": 0}, "at least one clip"),
        ({"seconds_per_clip": 0}, "more than no time"),
    ],
)
def test_impossible_recipes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**wrong)
