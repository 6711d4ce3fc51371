"""What needs no model: a planted cue is found and refused, and where there is none nothing is."""

import numpy as np
import pytest
import torch

from cmmixer_hf import CMMixerFeatureExtractor
from cmmixer_hf.evaluation.free_cues import AUDIO_CUES, VIDEO_CUES, picture_cues, score_free_cues, sound_cues

EXTRACTOR = CMMixerFeatureExtractor(image_size=16, num_frames=4, window_seconds=0.1, standardize=True)


def row(number: int, *, bright_where_loud: bool) -> dict:
    """A clip of noise; its frames are lit as its windows are loud, or by chance."""
    rng = np.random.default_rng(number)
    loud = rng.uniform(0.1, 1.0, 4)
    light = loud if bright_where_loud else rng.uniform(0.1, 1.0, 4)
    frames = (light[:, None, None, None] * rng.uniform(100, 250, (4, 16, 16, 3))).astype(np.uint8)
    sound = (loud[:, None] * rng.normal(0, 3000, (4, 1600))).clip(-32768, 32767).astype(np.int16)
    return {
        "clip_id": str(number),
        "frames": [frame.tobytes() for frame in frames],
        "frame_shape": [16, 16],
        "frame_codec": "raw",
        "waveforms": sound.tobytes(),
        "num_segments": 4,
        "track_id": str(number),
        "labels": None,
    }


def pools(bright_where_loud: bool) -> list[list[dict]]:
    return [[row(n, bright_where_loud=bright_where_loud) for n in range(s, s + 120)] for s in (0, 1000)]


def test_a_planted_cue_is_found_by_name_and_refused():
    cues = score_free_cues(*pools(True), EXTRACTOR)
    assert cues.best.name.endswith("~ loudness, course")
    assert cues.best.recall_at_10 > 60
    assert cues.cca.recall_at_10 > 60
    with pytest.raises(ValueError, match=r"alone reaches R@10 .* more than 2 times chance"):
        cues.check()


def test_noise_passes_the_gate():
    cues = score_free_cues(*pools(False), EXTRACTOR)
    cues.check()
    assert list(cues.rows) == [cues.best.name, "all cues, CCA of 120 pairs", "thumbnails, CCA of 120 pairs"]
    assert cues.chance["R@10"] == pytest.approx(100 / 12)


def test_cues_measure_what_they_are_called():
    frames = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    frames[1, 6:, :2, 0] = 255
    seen = dict(zip(VIDEO_CUES, picture_cues(frames)[1].tolist(), strict=True))
    assert seen["saturation"] == pytest.approx(1 / 16)
    assert seen["centroid down"] > 0.8
    assert seen["centroid across"] < 0.2
    time = torch.arange(4000) / 16000
    low, high = (
        dict(zip(AUDIO_CUES, sound_cues(torch.sin(6.28 * f * time)[None])[0].tolist(), strict=True))
        for f in (500, 4000)
    )
    assert low["spectral centroid"] == pytest.approx(500 / 8000, abs=0.01)
    assert high["spectral centroid"] == pytest.approx(4000 / 8000, abs=0.01)
