"""Sound of any layout → mono: as documented, never clipped, a stereo copy like its mono original."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from cmmixer_hf.media.downmix import MonoResampler, downmix_weights
from cmmixer_hf.media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from cmmixer_hf.media.reading import read_windows

LAYOUTS = ["mono", "stereo", "2.1", "3.0", "4.0", "quad", "5.0", "5.1", "5.1(side)", "6.1", "7.1", "octagonal", "cube"]
LAYOUTS += ["hexadecagonal", *(f"{count} channels" for count in range(1, 17))]


def noise(layout: str, rate: int = 16000) -> tuple[np.ndarray, av.AudioFrame]:
    """A second of loud noise (channels, samples), different in each channel."""
    count = av.AudioLayout(layout).nb_channels
    waves = np.random.default_rng(count).uniform(-1, 1, (count, rate)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waves.T).reshape(1, -1), "flt", layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    return waves, frame


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_equals_the_documented_weights(layout):
    waves, frame = noise(layout)
    resampler = MonoResampler(frame, 16000)
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    mono = np.concatenate([part.to_ndarray()[0] for part in parts])
    weights = downmix_weights([channel.name for channel in frame.layout.channels])
    assert sum(weights) == pytest.approx(1)
    np.testing.assert_allclose(mono, np.array(weights) @ waves, atol=1e-5)


def test_surround_weights_are_the_standards():
    fronts, centre, surrounds = 0.5**0.5, 1.0, 0.5
    total = 2 * fronts + centre + 2 * surrounds
    expected = [fronts / total, fronts / total, centre / total, 0, surrounds / total, surrounds / total]
    np.testing.assert_allclose(downmix_weights(["FL", "FR", "FC", "LFE", "BL", "BR"]), expected)
    assert downmix_weights(["FL", "NONE"]) == [0.5, 0.5]
    assert downmix_weights(["LFE"]) == [1.0]


def write_flac(path: Path, layout: str) -> Path:
    """A tone at 0.9 in every channel."""
    wave = np.round(0.9 * 32767 * np.sin(2 * np.pi * 440 * np.arange(2 * 44100) / 44100)).astype(np.int16)
    count = av.AudioLayout(layout).nb_channels
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=44100, layout=layout)
        frame = av.AudioFrame.from_ndarray(wave.repeat(count)[None], "s16", layout)
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


@pytest.mark.parametrize("layout", ["stereo", "5.1"])
def test_copy_with_more_channels_gives_the_same_stack(tmp_path, layout):
    copies = [write_flac(tmp_path / f"{name}.flac", name) for name in ("mono", layout)]
    waves = [read_windows(path, [1.0], window_seconds=1.0) for path in copies]
    assert max(np.abs(wave).max() for wave in waves) < 0.91
    extractor = CMMixerFeatureExtractor(image_size=64, num_frames=1, window_seconds=1.0)
    one, other = (extractor(audio=wave[None], sampling_rate=16000)["audio_values"] for wave in waves)
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)
