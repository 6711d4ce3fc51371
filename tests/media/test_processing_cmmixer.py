"""File in, tensors out."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from cmmixer_hf import CMMixerFeatureExtractor, CMMixerProcessor, MediaError
from cmmixer_hf.media.processing_cmmixer import clip_sampling
from cmmixer_hf.media.reading import read_clip, write_clip


@pytest.fixture(scope="module")
def processor() -> CMMixerProcessor:
    return CMMixerProcessor(CMMixerFeatureExtractor(image_size=32, num_frames=3, window_seconds=0.5))


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    """Four seconds: brighter and higher in pitch as they pass."""
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    brightness = np.linspace(20, 230, 40).astype(np.uint8)
    frames = np.broadcast_to(brightness[:, None, None, None], (40, 48, 64, 3)).copy()
    time = np.arange(64000) / 16000
    waveform = 0.5 * np.sin(2 * np.pi * (200 + 400 * time) * time)
    write_clip(path, frames, fps=10, waveform=waveform.astype(np.float32), sampling_rate=16000)
    return str(path)


def test_a_file_becomes_the_stacks_of_what_is_in_it(processor, video):
    features = processor(videos=video, audio=video)
    clip = read_clip(video, clip_sampling(processor.feature_extractor))
    expected = processor.feature_extractor(videos=clip.frames, audio=clip.waveforms)
    assert features["pixel_values"].shape == features["audio_values"].shape == (1, 3, 3, 32, 32)
    for name, value in expected.items():
        assert torch.equal(features[name], value)
    assert (features["pixel_values"].mean((0, 2, 3, 4)).diff() > 0).all()


def test_a_soundtrack_is_given_beside_a_video(processor, video, tmp_path):
    """The sound of another file, of another length: each is cut into as many parts."""
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 96000)).astype(np.float32)
    write_clip(tmp_path / "song.mp4", np.zeros((60, 48, 64, 3), np.uint8), wave[0], fps=10, sampling_rate=16000)
    together = processor(videos=video, audio=tmp_path / "song.mp4")
    for name, alone in {"videos": video, "audio": tmp_path / "song.mp4"}.items():
        (expected,) = processor(**{name: alone}).items()
        assert torch.equal(together[expected[0]], expected[1])


def test_lists_of_files_make_a_batch_and_arrays_pass_through(processor, video):
    batch = processor(videos=[video, video])
    assert set(batch) == {"pixel_values"}
    assert torch.equal(batch["pixel_values"][0], batch["pixel_values"][1])
    windows = np.zeros((3, 8000), dtype=np.float32)
    assert torch.equal(
        processor(audio=windows)["audio_values"], processor.feature_extractor(audio=windows)["audio_values"]
    )


def test_a_list_of_files_and_arrays_is_refused(processor, video):
    with pytest.raises(ValueError, match="must hold files alone, got ndarray beside"):
        processor(videos=[video, np.zeros((4, 8, 8, 3), np.uint8)])


def test_a_part_of_a_file_is_read(processor, video):
    early, late = (processor(videos=video, start=start, end=start + 1)["pixel_values"] for start in (0, 3))
    assert early.mean() < late.mean() - 1
    with pytest.raises(ValueError, match="44100 Hz"):
        processor(audio=video, sampling_rate=44100)


def test_a_broken_file_is_named(processor, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no media at all")
    with pytest.raises(MediaError, match=r"broken\.mp4"):
        processor(videos=broken)


def test_saving_and_loading_changes_nothing(processor, video, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, CMMixerProcessor)
    assert loaded.model_input_names == ["pixel_values", "audio_values"]
    assert torch.equal(loaded(audio=video)["audio_values"], processor(audio=video)["audio_values"])


def test_only_sound_of_unknown_rate_warns(processor, video, caplog):
    wave = np.zeros(16000, np.float32)
    processor(videos=video, audio=video)
    processor(audio={"array": wave, "sampling_rate": 16000})
    assert not caplog.records
    processor(audio=wave)
    assert "without its sampling rate" in caplog.text


def test_files_as_bytes_open_files_and_records(clip_files, extractor):
    import io

    processor = CMMixerProcessor(extractor)
    path, data = str(clip_files[0]), clip_files[0].read_bytes()
    expected = processor(videos=path, audio=path)
    for given in (data, io.BytesIO(data), {"bytes": data, "path": None}, {"bytes": None, "path": path}):
        got = processor(videos=given)["pixel_values"]
        assert got.equal(expected["pixel_values"])
    assert processor(audio=[data, path])["audio_values"].shape[0] == 2


def test_waveforms_and_records_are_a_batch(extractor):
    processor, draw = CMMixerProcessor(extractor), np.random.default_rng(0)
    waves = [draw.uniform(-1, 1, size).astype(np.float32) for size in (48000, 80000, 50000)]
    together = processor(audio=waves, sampling_rate=16000)["audio_values"]
    records = processor(audio=[{"array": wave, "sampling_rate": 16000} for wave in waves])["audio_values"]
    alone = [processor(audio=wave, sampling_rate=16000)["audio_values"][0] for wave in waves]
    assert together.equal(records)
    assert all(one.equal(other) for one, other in zip(together, alone, strict=True))
    with pytest.raises(ValueError, match="44100"):
        processor(audio={"array": waves[0], "sampling_rate": 44100})
    with pytest.raises(ValueError, match="videos="):
        processor(images=np.zeros((2, 8, 8, 3), np.uint8))
