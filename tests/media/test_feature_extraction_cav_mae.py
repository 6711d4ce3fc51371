"""Frames and sound as CAV-MAE takes them."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from cmmixer_hf import CAVMAEFeatureExtractor, CMMixerProcessor
from cmmixer_hf.data.batches import StackMaker

RANDOM = np.random.default_rng(0)
FRAMES = RANDOM.integers(0, 256, (3, 60, 90, 3), dtype=np.uint8)
SOUND = (0.2 * RANDOM.standard_normal(160000)).astype(np.float32)


@pytest.fixture
def extractor() -> CAVMAEFeatureExtractor:
    return CAVMAEFeatureExtractor(image_size=32, num_frames=3, audio_length=64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kaldi_fbank(waveform: np.ndarray) -> np.ndarray:
    """transformers' NumPy version of Kaldi's filterbank in float64, (hops, 128), as its AST extractor calls it."""
    with pytest.warns(UserWarning, match="all zero"):
        filters = mel_filter_bank(
            257, 128, 20.0, 8000.0, 16000, mel_scale="kaldi", triangularize_in_mel_space=True
        )  # fmt: skip
    return spectrogram(
        waveform.astype(np.float64), window_function(400, "hann", periodic=False), 400, 160, 512, power=2.0,
        center=False, preemphasis=0.97, mel_filters=filters, log_mel="log", mel_floor=1.1920929e-07,
        remove_dc_offset=True, dtype=np.float64,
    ).T  # fmt: skip


def tones(seconds: float) -> np.ndarray:
    """Loud lows and faint highs, where rounding would show first."""
    time = np.arange(round(16000 * seconds)) / 16000
    return (0.5 * np.sin(2 * np.pi * 220 * time) + 1e-3 * np.sin(2 * np.pi * 6000 * time) + 0.1).astype(np.float32)


@pytest.mark.parametrize(
    "waveform", [SOUND, tones(3.3), np.zeros(16000, np.float32)], ids=["noise", "tones", "silence"]
)
def test_the_filterbank_is_kaldis(waveform):
    ours = CAVMAEFeatureExtractor().log_mel(torch.from_numpy(waveform)).T.numpy()
    theirs = kaldi_fbank(waveform)
    assert ours.shape == theirs.shape == (1 + (len(waveform) - 400) // 160, 128)
    loud = theirs > -12  # float32 cannot tell what is 100 dB under the loudest
    assert np.abs(ours - theirs)[loud].max(initial=0) < 1e-3
    assert np.abs(ours - theirs).max() < 1


def test_ten_seconds_are_padded_with_zeros_before_the_normalisation():
    stack = CAVMAEFeatureExtractor()(audio=SOUND, sampling_rate=16000)["audio_values"]
    assert stack.shape == (1, 1024, 128)
    expected = (kaldi_fbank(SOUND - SOUND.mean()) + 5.081) / 4.4849
    assert np.abs(stack[0, :998].numpy() - expected).max() < 1e-3
    torch.testing.assert_close(stack[0, 998:], torch.full((26, 128), 5.081 / 4.4849))


@pytest.mark.parametrize("length", [512, 1024, 2048])
def test_the_length_is_a_setting(length):
    stack = CAVMAEFeatureExtractor(audio_length=length)(audio=SOUND)["audio_values"]
    known = min(length, 998)
    assert stack.shape == (1, length, 128)
    torch.testing.assert_close(stack[0, :known], CAVMAEFeatureExtractor()(audio=SOUND)["audio_values"][0, :known])


def test_windows_are_joined_in_time(extractor):
    windows = SOUND[:9600].reshape(1, 3, 3200)
    assert torch.equal(extractor(audio=windows)["audio_values"], extractor(audio=SOUND[:9600])["audio_values"])


def test_waveforms_come_alone_in_a_batch_or_as_a_list_of_any_lengths(extractor):
    long, short = SOUND[:12000], SOUND[:6000]
    alone = torch.cat([extractor(audio=waveform)["audio_values"] for waveform in (long, short)])
    torch.testing.assert_close(extractor(audio=[long, short])["audio_values"], alone)
    batch = np.stack([long, long[::-1]])
    assert extractor(audio=batch)["audio_values"].shape == (2, 64, 128)
    torch.testing.assert_close(extractor(audio=batch)["audio_values"][:1], alone[:1])
    assert torch.equal(extractor(long)["audio_values"], alone[:1])  # as a pipeline calls


def test_integers_and_floats_sound_alike(extractor):
    integers = (SOUND[:12000] * 32767).astype(np.int16)
    floats = extractor(audio=integers / np.float32(32768))["audio_values"]
    torch.testing.assert_close(extractor(audio=integers)["audio_values"], floats)


def test_a_constant_offset_of_the_sound_changes_nothing(extractor):
    shifted = extractor(audio=SOUND[:12000] + np.float32(0.1))["audio_values"]
    torch.testing.assert_close(shifted, extractor(audio=SOUND[:12000])["audio_values"], atol=2e-3, rtol=0)


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (32, 32), (20, 31)])
def test_frames_are_resized_and_cropped_as_pillow_does_it(extractor, size):
    from PIL import Image

    rows, columns = np.mgrid[: size[0], : size[1]]
    picture = np.stack([rows * 255 / size[0], columns * 255 / size[1], 128 + 0 * rows], -1).astype(np.uint8)
    ours = extractor.denormalise(extractor(videos=picture[None])["pixel_values"][0, 0]) * 255
    scale = 32 / min(size)
    width, height = max(32, int(size[1] * scale)), max(32, int(size[0] * scale))
    resized = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
    top, left = round((height - 32) / 2), round((width - 32) / 2)
    theirs = torch.from_numpy(resized[top : top + 32, left : left + 32].copy()).permute(2, 0, 1)
    assert (ours - theirs).abs().max() <= 1.01


def test_frames_are_normalised_by_channel(extractor):
    grey = np.full((3, 60, 90, 3), 128, dtype=np.uint8)
    stack = extractor(videos=grey)["pixel_values"]
    expected = torch.tensor([(128 / 255 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225])
    torch.testing.assert_close(stack, expected[None, None, :, None, None].expand(1, 3, 3, 32, 32))


def test_bicubic_overshoot_stays_in_range(extractor):
    edge = np.zeros((1, 33, 33, 3), dtype=np.uint8)
    edge[:, :, 16:] = 255
    pictures = extractor.denormalise(extractor(videos=edge)["pixel_values"])
    assert pictures.min() >= -1e-6
    assert pictures.max() <= 1 + 1e-6


def test_clips_may_differ_in_size_and_pictures_need_not_be_square():
    extractor = CAVMAEFeatureExtractor(image_size=(32, 64))
    assert extractor(videos=[FRAMES, FRAMES[:, :40]])["pixel_values"].shape == (2, 3, 3, 32, 64)


def test_as_published_augmentation_leaves_frames_alone(extractor):
    plain, augmented = (extractor(videos=FRAMES, augment=flag)["pixel_values"] for flag in (False, True))
    assert torch.equal(plain, augmented)
    cropping = CAVMAEFeatureExtractor(image_size=32, crop_scale=(0.5, 1.0), flip_probability=0.5)
    crops = [cropping(videos=FRAMES, augment=True, generator=generator(seed))["pixel_values"] for seed in (0, 0, 1)]
    assert torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], crops[2])
    assert torch.equal(cropping(videos=FRAMES)["pixel_values"], plain)


def test_augmented_sound_is_rolled_and_noisy(extractor):
    plain = extractor(audio=SOUND[:12000])["audio_values"]
    draws = [extractor(audio=SOUND[:12000], augment=True, generator=generator(seed)) for seed in (0, 0, 1)]
    first, again, other = (draw["audio_values"] for draw in draws)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    distances = [(first - plain.roll(shift, 1)).abs().max() for shift in range(64)]
    assert sum(distance < 0.1 for distance in distances) == 1
    silent = CAVMAEFeatureExtractor(audio_length=64, noise_level=0.0)(audio=SOUND[:12000], augment=True)
    assert any(torch.equal(silent["audio_values"], plain.roll(shift, 1)) for shift in range(64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "got neither"),
        ({"audio": SOUND[:399]}, "at least 400 samples, got 399"),
        ({"audio": SOUND, "sampling_rate": 44100}, "44100 Hz.*16000 Hz"),
        ({"audio": SOUND[None, None, None]}, "got 4"),
        ({"videos": FRAMES.astype(np.float32)}, "uint8"),
    ],
)
def test_unusable_input_is_refused_with_what_was_expected(extractor, options, message):
    with pytest.raises(ValueError, match=message):
        extractor(**options)


def test_saving_and_loading_changes_nothing(tmp_path):
    extractor = CAVMAEFeatureExtractor(
        image_size=32, audio_length=64, min_frequency=50.0, noise_level=0.0, audio_mean=1
    )
    extractor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert not {"mel_filters", "window"} & set(saved)
    for source in (CAVMAEFeatureExtractor, AutoFeatureExtractor):
        loaded = source.from_pretrained(tmp_path)
        assert type(loaded) is CAVMAEFeatureExtractor
        assert loaded.to_json_string() == extractor.to_json_string()
        for name, value in extractor(videos=FRAMES, audio=SOUND).items():
            assert torch.equal(loaded(videos=FRAMES, audio=SOUND)[name], value)


def test_the_processor_reads_files_for_it(extractor, clip_files, tmp_path):
    processor = CMMixerProcessor(extractor)
    one = processor(videos=str(clip_files[0]), audio=str(clip_files[0]))
    assert one["pixel_values"].shape == (1, 3, 3, 32, 32)
    assert one["audio_values"].shape == (1, 64, 128)
    two = processor(audio=[str(path) for path in clip_files[:2]])["audio_values"]
    torch.testing.assert_close(two[:1], one["audio_values"])
    processor.save_pretrained(tmp_path)
    assert type(CMMixerProcessor.from_pretrained(tmp_path).feature_extractor) is CAVMAEFeatureExtractor


def test_prepared_clips_become_its_stacks():
    extractor = CAVMAEFeatureExtractor(image_size=32, num_frames=3, audio_length=64, window_seconds=0.2)
    batch = {
        "frames": [torch.from_numpy(FRAMES)] * 2,
        "waveforms": torch.from_numpy((SOUND[:19200] * 32767).astype(np.int16)).view(2, 3, 3200),
        "clip_id": ["a", "b"],
    }
    stacks = StackMaker(extractor, augment=True)(batch)
    assert stacks["pixel_values"].shape == (2, 3, 3, 32, 32)
    assert torch.equal(stacks["audio_values"], extractor(audio=batch["waveforms"].flatten(1))["audio_values"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_work_can_be_done_on_a_gpu(extractor):
    given = {"videos": FRAMES, "audio": SOUND, "augment": True}
    on_gpu, on_cpu = (extractor(**given, generator=generator(), device=device) for device in ("cuda", "cpu"))
    for name, value in on_gpu.items():
        assert value.is_cuda
        torch.testing.assert_close(value.cpu(), on_cpu[name], atol=2e-2, rtol=1e-3)
