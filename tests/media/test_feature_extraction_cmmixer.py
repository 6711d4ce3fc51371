"""Frames and waveforms → stacks."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, BatchFeature

from cmmixer_hf import CMMixerFeatureExtractor
from cmmixer_hf.media import feature_extraction_cmmixer

RANDOM = np.random.default_rng(0)
FRAMES = RANDOM.integers(0, 256, (8, 60, 90, 3), dtype=np.uint8)
WINDOWS = RANDOM.uniform(-1, 1, (8, 41600)).astype(np.float32)


@pytest.fixture
def extractor() -> CMMixerFeatureExtractor:
    return CMMixerFeatureExtractor(image_size=32)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


TIME = np.arange(114660) / 44100
SOUNDS = {
    "noise": RANDOM.uniform(-1, 1, (2, len(TIME))),
    "tone": np.sin(2 * np.pi * 440 * TIME),
    "chirp": 0.5 * np.sin(2 * np.pi * (200 * TIME + 1500 * TIME**2)),  # loud and faint bins side by side
    "quiet": 1e-3 * np.sin(2 * np.pi * 440 * TIME),
    "click": np.eye(1, len(TIME), 5000)[0],
    "silence": np.zeros(len(TIME)),
}


SPECTROGRAMS = {
    "the paper's": {},
    "the released code's": {
        "sampling_rate": 44100, "n_fft": 2048, "win_length": 2048, "hop_length": 512, "num_mel_bins": 224
    },
    "another": {"sampling_rate": 22050, "n_fft": 512, "win_length": 400, "num_mel_bins": 64},
}  # fmt: skip


@pytest.mark.parametrize("sound", SOUNDS.values(), ids=SOUNDS)
@pytest.mark.parametrize("settings", SPECTROGRAMS.values(), ids=SPECTROGRAMS)
def test_mels_are_librosas(settings, sound):
    import librosa

    extractor = CMMixerFeatureExtractor(**settings)
    sound = sound[..., : extractor.window_samples].astype(np.float32)
    ours = extractor.log_mel(torch.from_numpy(sound))
    power = librosa.feature.melspectrogram(
        y=sound,
        sr=extractor.sampling_rate,
        n_fft=extractor.n_fft,
        win_length=extractor.win_length,
        hop_length=extractor.hop_length,
        power=2.0,
        n_mels=extractor.num_mel_bins,
        pad_mode="constant",
    )
    theirs = librosa.power_to_db(power, amin=extractor.mel_floor, top_db=None)
    assert ours.dtype == torch.float32
    assert ours.shape == theirs.shape
    assert np.abs(ours.numpy() * 10 / np.log(10) - theirs).max() < 1e-4  # dB


def test_a_higher_tone_is_higher_up_and_a_later_one_further_right():
    extractor = CMMixerFeatureExtractor(image_size=64)
    time = np.arange(41600) / 16000
    low_then_high = np.where(time < 1.3, np.sin(2 * np.pi * 300 * time), np.sin(2 * np.pi * 5000 * time))
    image = extractor(audio=low_then_high[None].astype(np.float32))["audio_values"][0, 0, 0]
    loudest_row = image.argmax(0)
    assert (loudest_row[:30] > 40).all()
    assert (loudest_row[34:] < 20).all()


def test_stacks_have_one_shape_in_the_order_batch_frames_channels_height_width():
    extractor = CMMixerFeatureExtractor(image_size=(32, 64))
    features = extractor(videos=[FRAMES, FRAMES[:, :40]], audio=[WINDOWS, WINDOWS], sampling_rate=16000)
    assert isinstance(features, BatchFeature)
    assert features["pixel_values"].shape == features["audio_values"].shape == (2, 8, 3, 32, 64)
    assert features["pixel_values"].dtype == features["audio_values"].dtype == torch.float32


def test_frames_are_normalised_and_keep_their_aspect(extractor):
    grey = np.full((8, 60, 90, 3), 128, dtype=np.uint8)
    expected = torch.full((1, 8, 3, 32, 32), (128 / 255 - 0.45) / 0.225)
    torch.testing.assert_close(extractor(videos=grey)["pixel_values"], expected)
    disc = np.zeros((1, 60, 120, 3), dtype=np.uint8)
    rows, columns = np.mgrid[:60, :120]
    disc[0, (rows - 30) ** 2 + (columns - 60) ** 2 < 20**2] = 255
    shown = extractor(videos=disc)["pixel_values"][0, 0, 0] > 0
    assert abs(shown.any(0).sum() - shown.any(1).sum()) <= 1


def test_spectrograms_repeat_one_channel_without_storing_it(extractor):
    stack = extractor(audio=WINDOWS)["audio_values"]
    assert torch.equal(stack[:, :, 0], stack[:, :, 1])
    assert stack.untyped_storage().nbytes() == stack.numel() * 4 / 3


def test_integers_and_floats_sound_alike(extractor):
    integers = (WINDOWS * 32767).astype(np.int16)
    torch.testing.assert_close(
        extractor(audio=integers)["audio_values"], extractor(audio=integers / np.float32(32768))["audio_values"]
    )


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_goes_in_and_comes_out(extractor, precision):
    expected = extractor(videos=FRAMES, audio=WINDOWS)
    halves = extractor(videos=FRAMES, audio=torch.from_numpy(WINDOWS).to(precision)).to(precision)
    for name, value in halves.items():
        assert value.dtype == precision
        torch.testing.assert_close(value.float(), expected[name], atol=5e-2, rtol=0)


def test_a_batch_is_its_clips_side_by_side(extractor):
    clips, sounds = [FRAMES, FRAMES[::-1, :50].copy()], [WINDOWS, WINDOWS[::-1].copy()]
    batch = extractor(videos=clips, audio=sounds, augment=True, generator=(one := generator()))
    two = generator()
    for place, (clip, sound) in enumerate(zip(clips, sounds, strict=True)):
        alone = extractor(videos=clip, audio=sound, augment=True, generator=two)
        assert torch.equal(batch["pixel_values"][place], alone["pixel_values"][0])
        torch.testing.assert_close(batch["audio_values"][place], alone["audio_values"][0])
    assert torch.equal(one.get_state(), two.get_state())


def test_frames_are_resized_as_bytes(extractor):
    stack = extractor(videos=FRAMES, augment=True, generator=generator())["pixel_values"]
    levels = (stack * 0.225 + 0.45) * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)


def test_augmentation_is_alike_for_all_frames_of_a_clip_and_differs_between_clips(extractor):
    still = FRAMES[:1].repeat(8, 0)
    stacks = extractor(videos=[still, still], augment=True, generator=generator())["pixel_values"]
    assert torch.equal(stacks, stacks[:, :1].expand_as(stacks))
    assert not torch.equal(stacks[0], stacks[1])


def test_a_generator_reproduces_the_augmentation_and_nothing_is_drawn_without(extractor):
    first, again, other = (
        extractor(videos=FRAMES, augment=True, generator=generator(seed))["pixel_values"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert torch.equal(extractor(videos=FRAMES)["pixel_values"], extractor(videos=FRAMES)["pixel_values"])
    assert torch.equal(torch.get_rng_state(), before)


def test_crops_cover_the_share_that_is_asked_for(extractor):
    boxes = [extractor._box((600, 900), True, generator(seed)) for seed in range(300)]
    share = np.array([height * width / (600 * 900) for _, _, height, width in boxes])
    assert share.min() > 0.45
    assert share.max() <= 1
    assert 0.65 < share.mean() < 0.8
    assert all(0 <= top <= 600 - h and 0 <= left <= 900 - w for top, left, h, w in boxes)


def test_sound_is_never_augmented(extractor):
    plain, augmented = (extractor(audio=WINDOWS, augment=flag)["audio_values"] for flag in (False, True))
    assert torch.equal(plain, augmented)


@pytest.mark.parametrize("seconds", [1.0, 2.6, 30.0])
def test_a_waveform_is_cut_at_the_midpoints_of_equal_parts(extractor, seconds):
    waveform = RANDOM.uniform(-1, 1, round(16000 * seconds)).astype(np.float32)
    stack = extractor(waveform, sampling_rate=16000)["audio_values"]  # as a pipeline calls
    assert stack.shape == (1, 8, 3, 32, 32)
    if seconds == 30.0:
        starts = [round((k + 0.5) / 8 * 480000) - 20800 for k in range(8)]
        starts = np.clip(starts, 0, 480000 - 41600)
        windows = np.stack([waveform[start : start + 41600] for start in starts])
        assert torch.equal(stack, extractor(audio=windows)["audio_values"])
    else:
        assert torch.equal(stack, stack[:, :1].expand_as(stack))


def test_arrays_tensors_and_lists_of_images_are_one(extractor):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    expected, images = extractor(videos=FRAMES)["pixel_values"], [image.fromarray(frame) for frame in FRAMES]
    tensors = torch.from_numpy(FRAMES)
    for same in (tensors, list(FRAMES), list(tensors), [FRAMES], FRAMES[None], [list(FRAMES)], images, [images]):
        assert torch.equal(extractor(videos=same)["pixel_values"], expected)
    transparent = [picture.convert("RGBA") for picture in images]
    assert torch.equal(extractor(videos=transparent)["pixel_values"], expected)
    as_numpy = extractor(videos=FRAMES, return_tensors="np")["pixel_values"]
    assert isinstance(as_numpy, np.ndarray)
    assert np.array_equal(as_numpy, expected.numpy())


def test_channels_may_come_first(extractor):
    expected, turned = extractor(videos=FRAMES)["pixel_values"], FRAMES.transpose(0, 3, 1, 2)
    for same in (turned, torch.from_numpy(FRAMES).permute(0, 3, 1, 2), list(turned), turned[None], [turned]):
        assert torch.equal(extractor(videos=same)["pixel_values"], expected)


def test_more_parts_than_segments_are_taken_at_the_middles_of_equal_parts(extractor):
    middles = [1, 5, 9, 13, 16, 20, 24, 28]  # of eight parts of thirty
    many = RANDOM.integers(0, 256, (30, 20, 20, 3), dtype=np.uint8)
    for augment in (False, True):
        got, expected = (
            extractor(videos=clip, augment=augment, generator=generator())["pixel_values"]
            for clip in (many, many[middles])
        )
        assert torch.equal(got, expected)
    windows = RANDOM.uniform(-1, 1, (30, 41600)).astype(np.float32)
    got, expected = (
        extractor(audio=sound, sampling_rate=16000)["audio_values"] for sound in (windows, windows[middles])
    )
    assert torch.equal(got, expected)
    assert extractor(videos=many[:5])["pixel_values"].shape[1] == 5


def test_sound_without_its_sampling_rate_warns(extractor, caplog):
    extractor(videos=FRAMES, audio=WINDOWS, sampling_rate=16000)
    assert not caplog.records
    extractor(audio=WINDOWS)
    assert "16000 Hz: give sampling_rate=" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "got neither"),
        ({"videos": FRAMES.astype(np.float32)}, "uint8 in 0..255, got torch.float32"),
        ({"videos": FRAMES[0, 0]}, "4 dimensions.*got 2"),
        ({"videos": FRAMES[..., :2]}, r"\(K, height, width, 3\).*got \(8, 60, 90, 2\), which is neither"),
        ({"videos": FRAMES[:, :3]}, r"\(K, 3, height, width\), got \(8, 3, 90, 3\), which may be either"),
        ({"audio": WINDOWS.astype(np.int32)}, r"int16, got torch\.int32"),
        ({"videos": FRAMES[:0]}, r"empty clip of shape \(0, 60, 90, 3\)"),
        ({"videos": []}, "empty clip"),
        ({"audio": WINDOWS, "sampling_rate": 44100}, "44100 Hz.*16000 Hz"),
        ({"audio": WINDOWS[None, None]}, "2 dimensions.*got 4"),
        ({"audio": WINDOWS[:, :0]}, "empty clip"),
        ({"audio": WINDOWS[:2, :16000]}, r"\(K, 41600\).*got \(2, 16000\): mix the channels"),  # stereo, as it is read
        ({"audio": [WINDOWS[:3], WINDOWS[:2]]}, r"one number of windows of sound, got \[3, 2\]"),
        ({"videos": [FRAMES[:3], FRAMES[:2]]}, r"one number of frames, got \[3, 2\]"),
        ({"videos": [FRAMES[0], FRAMES[0, 1:]]}, r"one shape, got \[\(59, 90, 3\), \(60, 90, 3\)\]"),
        ({"audio": np.where(WINDOWS > 0, np.nan, WINDOWS)}, "NaN or infinite"),
        ({"audio": np.full(48000, 1e39)}, "NaN or infinite"),  # more than single precision holds
        ({"videos": FRAMES, "return_tensors": "tf"}, "return_tensors must be 'pt' or 'np', got 'tf'"),
    ],
)
def test_unusable_input_is_refused_with_what_was_expected(extractor, options, message):
    with pytest.raises(ValueError, match=message):
        extractor(**options)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hop_length": 0}, "hop_length must be positive, got 0"),
        ({"image_size": (32, 0)}, r"image_size must be positive, got \[32, 0\]"),
        ({"num_frames": -1}, "num_frames must be positive, got -1"),
        ({"window_seconds": float("nan")}, "window_seconds must be positive, got nan"),
        ({"window_seconds": float("inf")}, "window_seconds must be positive, got inf"),
        ({"crop_scale": (2.0, 3.0)}, r"crop_scale must be a positive range.* \[2.0, 3.0\]"),
        ({"crop_ratio": (1.5, 0.5)}, r"crop_ratio must be a positive range"),
        ({"flip_probability": -1.0}, r"flip_probability must lie in \[0, 1\], got -1.0"),
        ({"win_length": 512}, r"win_length \(512\) must not be longer than n_fft \(400\)"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        CMMixerFeatureExtractor(**settings)


def test_saving_and_loading_changes_nothing(tmp_path):
    extractor = CMMixerFeatureExtractor(image_size=(32, 64), num_frames=4, audio_mean=-5.0, crop_scale=(0.3, 0.9))
    extractor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert not {"mel_filters", "window"} & set(saved)
    for source in (CMMixerFeatureExtractor, AutoFeatureExtractor):
        loaded = source.from_pretrained(tmp_path)
        assert isinstance(loaded, CMMixerFeatureExtractor)
        assert loaded.to_json_string() == extractor.to_json_string()
        for name, value in extractor(videos=FRAMES, audio=WINDOWS).items():
            assert torch.equal(loaded(videos=FRAMES, audio=WINDOWS)[name], value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("augment", [False, True])
def test_the_work_can_be_done_on_a_gpu(extractor, augment):
    given = {"videos": FRAMES, "audio": WINDOWS, "augment": augment}
    on_gpu, on_cpu = (extractor(**given, generator=generator(), device=device) for device in ("cuda", "cpu"))
    for name, value in on_gpu.items():
        assert value.is_cuda
        torch.testing.assert_close(value.cpu(), on_cpu[name], atol=2e-2, rtol=1e-3)


def test_augmentation_mirrors_and_never_turns_upside_down():
    """Up is up in videos, left and right are exchangeable (§4.3)."""
    extractor = CMMixerFeatureExtractor(image_size=32, num_frames=2)
    clip = np.zeros((2, 64, 64, 3), np.uint8)
    clip[:, :32] += 100  # bright above
    clip[:, :, :32] += 50  # and to the left
    stacks = torch.cat([extractor(videos=clip, augment=True)["pixel_values"] for _ in range(40)])
    assert (stacks[..., :8, :].mean((1, 2, 3, 4)) > stacks[..., -8:, :].mean((1, 2, 3, 4))).all()
    left_is_brighter = stacks[..., :8].mean((1, 2, 3, 4)) > stacks[..., -8:].mean((1, 2, 3, 4))
    assert 5 < left_is_brighter.sum() < 35


def test_sound_is_normalised_by_twice_its_deviation():
    waveforms = torch.rand(1, 2, 41600) - 0.5
    plain = CMMixerFeatureExtractor(image_size=32, num_frames=2, audio_mean=0.0, audio_std=0.5)
    made = CMMixerFeatureExtractor(image_size=32, num_frames=2, audio_mean=-4.0, audio_std=4.5)
    levels = plain.spectrograms(waveforms)  # divided by 2 · 0.5
    torch.testing.assert_close(made.spectrograms(waveforms), (levels + 4.0) / 9.0)


def test_int16_sound_is_the_same_as_floats_of_it():
    extractor = CMMixerFeatureExtractor(image_size=32, num_frames=2)
    floats = (torch.rand(2, 41600) - 0.5).double()
    whole = (floats * 32768).round().to(torch.int16)
    given = {"sampling_rate": 16000}
    expected = extractor(audio=(whole.double() / 32768).float().numpy(), **given)["audio_values"]
    torch.testing.assert_close(extractor(audio=whole.numpy(), **given)["audio_values"], expected)


def test_standardised_stacks_hold_neither_brightness_nor_loudness():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 120, (8, 64, 64, 3), dtype=np.uint8)
    sound = rng.normal(0, 0.02, (8, 41600)).astype(np.float32)
    extractor = CMMixerFeatureExtractor(image_size=64, standardize=True)
    quiet, loud = (extractor(videos=frames * gain, audio=sound * gain, sampling_rate=16000) for gain in (1, 2))
    for name in ("pixel_values", "audio_values"):
        assert (quiet[name] - loud[name]).abs().mean() < 0.01
        torch.testing.assert_close(quiet[name].mean((2, 3, 4)), torch.zeros(1, 8), atol=1e-4, rtol=0)
        torch.testing.assert_close(quiet[name].var((2, 3, 4), correction=0), torch.ones(1, 8), atol=1e-3, rtol=0)
    assert CMMixerFeatureExtractor.from_dict(extractor.to_dict()).standardize


def test_spectra_of_many_windows_are_those_of_few(monkeypatch):
    extractor = CMMixerFeatureExtractor(image_size=32, num_frames=4)
    sound = torch.rand(3, 4, extractor.window_samples, generator=torch.Generator().manual_seed(0)) - 0.5
    whole = extractor.log_mel(sound)
    monkeypatch.setattr(feature_extraction_cmmixer, "WINDOWS_AT_ONCE", 5)
    torch.testing.assert_close(extractor.log_mel(sound), whole, rtol=0, atol=0)
