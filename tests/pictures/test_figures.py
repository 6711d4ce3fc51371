"""Pictures are put together without loss, and words stand above what they name."""

import numpy as np
import pytest
import torch

from cmmixer_hf.media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from cmmixer_hf.pictures.figures import (
    FRAME_HEIGHT,
    SEPARATION,
    Card,
    caption,
    draw_mixtures,
    draw_results,
    draw_separations,
)
from cmmixer_hf.pictures.strips import SeparationPictures, frames_to_rgb

RNG = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_a_caption_adds_words_and_changes_no_pixel():
    image = noise(30, 90)
    words, blank = caption(image, "Frames"), caption(image, "")
    assert words.shape == blank.shape
    assert np.array_equal(words[-30:], image)
    assert (blank[:-30] == 255).all()
    assert (words[:-30] < 255).any()


def test_mixtures_hold_the_originals_above_the_three_mixers(extractor: CMMixerFeatureExtractor):
    frames = noise(2, 32, 32)
    sound = RNG.normal(0, 0.1, 48000).astype(np.float32)
    stacks = extractor(videos=frames, audio=sound, sampling_rate=16000)
    pictures = [draw_mixtures(**stacks, extractor=extractor, generator=torch.Generator().manual_seed(1)) for _ in "ab"]
    assert np.array_equal(*pictures)
    factor = FRAME_HEIGHT // 32
    first = frames_to_rgb(stacks["pixel_values"][0], extractor)[0].repeat(factor, 0).repeat(factor, 1)
    top = pictures[0].shape[0] // 5 - FRAME_HEIGHT
    assert any(np.array_equal(pictures[0][row : row + FRAME_HEIGHT, :FRAME_HEIGHT], first) for row in range(top + 1))


@pytest.mark.parametrize("segments", [1, 3])
def test_separations_show_so_many_segments_of_each_clip(segments):
    clips = [SeparationPictures(*(noise(128, 3 * 128 + 2 * 2) for _ in SEPARATION)) for _ in range(2)]
    picture = draw_separations(clips, frames=3, segments=segments)
    width = segments * 128 + (segments - 1) * 2
    assert picture.shape[1] == 2 * width + 16
    assert np.array_equal(picture[-128:, :width], clips[0].audio_reconstruction[:, :width])
    assert np.array_equal(picture[-128:, -width:], clips[1].audio_reconstruction[:, :width])


def test_cards_stand_in_rows_and_wanted_ones_are_coloured():
    cards = [Card(noise(2, 16, 16), noise(2, 16, 16), "ring", marked=marked) for marked in (True, False)]
    picture = draw_results([("plus", cards), ("minus", cards)])
    assert picture.shape[1] == 2 * 34 + 8
    plain, green = (caption(noise(8, 40), "ring", colour=colour) for colour in ((101, 109, 118), (17, 99, 41)))
    assert not np.array_equal(plain[:-8], green[:-8])
    assert np.array_equal(picture[-16:, :16], cards[0].below[0])
